"""Reading a web page: the text that it has for readers, without menus and markup. It goes where the HTTP tool may go.

Nothing on the page is executed or followed, but redirects.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import httpx

from runcast.agent.inputs import MAX_URL_CHARS, WebPage
from runcast.agent.tools.connection import Answer, CheckedTransport, describe_refusal, send
from runcast.errors import ServiceRefusedError, ToolError
from runcast.tools import Report, Risk

MAX_PAGE_BYTES: Final = 2_097_152
MAX_TEXT_CHARS: Final = 40_000
_EVENT_SHARE: Final = 16  # a character may take six bytes in JSON, and an event tells more than the text
_CLIENT_ERROR: Final = 400
_PARSE_SECONDS: Final = 20.0
_TITLE_CHARS: Final = 300
_MARKUP: Final = frozenset({"text/html", "application/xhtml+xml"})
_HEADERS: Final[Mapping[str, str]] = {"Accept": "text/html, application/xhtml+xml, text/plain;q=0.9, */*;q=0.1"}


class Page(NamedTuple):
    """What a page says."""

    title: str
    text: str


class WebPageTool:
    """Reads one page."""

    def __init__(self, *, allow_private: bool, max_event_bytes: int) -> None:
        self._allow_private: Final = allow_private
        self._max_text_chars: Final = min(MAX_TEXT_CHARS, max_event_bytes // _EVENT_SHARE)

    def risk_of(self, tool_input: WebPage) -> Risk:  # noqa: ARG002 - the same for every page
        """See `Tool.risk_of`."""
        return Risk.READ

    def describe(self, tool_input: WebPage) -> str:
        """See `Tool.describe`."""
        return f"read {httpx.URL(tool_input.url).host}"

    async def call(self, tool_input: WebPage, report: Report) -> Mapping[str, Any]:  # noqa: ARG002 - one request
        """See `Tool.call`."""
        host = httpx.URL(tool_input.url).host
        answer = await send(
            CheckedTransport(allow_private=self._allow_private),
            httpx.Request("GET", tool_input.url, headers=_HEADERS),
            service=host,
            is_repeatable=True,
            max_body_bytes=MAX_PAGE_BYTES,
            follow_redirects=True,
        )
        if answer.status >= _CLIENT_ERROR:
            raise ServiceRefusedError(describe_refusal(host, answer, ""), is_retryable=answer.is_retryable)
        page = await _read(answer, host)
        return {
            "url": answer.url[:MAX_URL_CHARS],
            "title": page.title[:_TITLE_CHARS],
            "text": page.text[: self._max_text_chars],
            "truncated": answer.is_truncated or len(page.text) > self._max_text_chars,
        }


async def _read(answer: Answer, host: str) -> Page:
    kind = answer.headers.get("content-type", "text/html").partition(";")[0].strip().lower()
    if kind not in _MARKUP:
        if not kind.startswith("text/") and kind != "application/json":
            raise ToolError(f"{host} has no page there but {kind[:100]}, which has no text to read")
        return Page("", answer.text)
    try:
        async with asyncio.timeout(_PARSE_SECONDS):
            return await asyncio.to_thread(extract, answer.text)
    except TimeoutError:
        raise ToolError(f"the page of {host} is too tangled to be read") from None


def extract(html: str) -> Page:
    """The title and the text of a page: what it is about if that can be told from the rest, else all that it says."""
    # Here, since only this tool needs it and it takes a while to load.
    import trafilatura  # noqa: PLC0415

    # What it calls an error is a page without much text.
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)
    found = trafilatura.bare_extraction(
        html, favor_recall=True, include_links=True, include_comments=False, with_metadata=True
    )
    title, text = (getattr(found, name, None) or "" for name in ("title", "text"))
    # Wrapped, or what has no tags around it isn't taken for a page.
    return Page(title, text or trafilatura.html2txt(f"<html><body><div>{html}</div></body></html>"))
