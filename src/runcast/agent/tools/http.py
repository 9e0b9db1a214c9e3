"""Requests to any public address. What it may reach is checked where the connection is made: see `connection`.

Nothing is sent twice, a GET neither. A status of 400 or more fails the step; the message has the answer's first words.
"""

from collections.abc import Mapping
from typing import Any, Final

import httpx

from runcast.agent.inputs import MAX_URL_CHARS, HttpRequest
from runcast.agent.tools.connection import Answer, CheckedTransport, describe_refusal, send
from runcast.errors import ServiceRefusedError
from runcast.tools import Report, Risk

MAX_BODY_BYTES: Final = 65_536
_EVENT_SHARE: Final = 8  # a byte may take six in JSON
_CLIENT_ERROR: Final = 400
_MESSAGE_CHARS: Final = 300
_HEADER_CHARS: Final = 200
_RISKS: Final[Mapping[str, Risk]] = {
    "GET": Risk.READ,
    "HEAD": Risk.READ,
    "PUT": Risk.WRITE,
    "DELETE": Risk.WRITE,
    "POST": Risk.PUBLISH,
    "PATCH": Risk.PUBLISH,
}


class HttpTool:
    """Sends what a prompt says, and keeps the start of the answer."""

    def __init__(self, *, allow_private: bool, max_event_bytes: int) -> None:
        self._allow_private: Final = allow_private
        self._max_body_bytes: Final = min(MAX_BODY_BYTES, max_event_bytes // _EVENT_SHARE)

    def risk_of(self, tool_input: HttpRequest) -> Risk:
        """See `Tool.risk_of`."""
        return _RISKS[tool_input.method]

    def describe(self, tool_input: HttpRequest) -> str:
        """See `Tool.describe`."""
        return f"sent {tool_input.method} to {httpx.URL(tool_input.url).host}"

    async def call(self, tool_input: HttpRequest, report: Report) -> Mapping[str, Any]:  # noqa: ARG002 - one request
        """See `Tool.call`."""
        host = httpx.URL(tool_input.url).host
        answer = await send(
            CheckedTransport(allow_private=self._allow_private),
            _compose(tool_input),
            service=host,
            is_repeatable=self.risk_of(tool_input) is not Risk.PUBLISH,
            max_body_bytes=self._max_body_bytes,
            follow_redirects=True,
        )
        if answer.status >= _CLIENT_ERROR:
            message = " ".join(_read_body(answer).split())[:_MESSAGE_CHARS]
            raise ServiceRefusedError(describe_refusal(host, answer, message), is_retryable=answer.is_retryable)
        return _show(answer)


def _compose(tool_input: HttpRequest) -> httpx.Request:
    if tool_input.body is None:
        return httpx.Request(tool_input.method, tool_input.url, headers={"Accept": "*/*"})
    headers = {"Accept": "*/*", "Content-Type": "application/json"}
    return httpx.Request(tool_input.method, tool_input.url, headers=headers, content=tool_input.body.encode())


def _show(answer: Answer) -> Mapping[str, Any]:
    return {
        "status": answer.status,
        "url": answer.url[:MAX_URL_CHARS],
        "contentType": answer.headers.get("content-type", "")[:_HEADER_CHARS],
        "body": _read_body(answer),
        "bytes": len(answer.body),
        "truncated": answer.is_truncated,
    }


def _read_body(answer: Answer) -> str:
    """The body, unless the server compressed it though it was asked not to."""
    encoding = answer.headers.get("content-encoding", "identity").lower()
    return answer.text if encoding == "identity" else f"(not shown: encoded as {encoding[:20]})"
