"""Posting on LinkedIn with its Posts API: `POST /rest/posts`, version named in a header.

Without a token nothing is sent: the output says what would have been. A post is sent once, whatever comes back.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import httpx

from runcast.agent.inputs import LinkedInPost
from runcast.agent.tools.connection import (
    Answer,
    check_service_url,
    describe_refusal,
    direct_transport,
    redact,
    send,
)
from runcast.errors import ConfigurationError, OutcomeUnknownError, ServiceRefusedError
from runcast.tools import Report, Risk

_MAX_ANSWER_BYTES: Final = 16_384
_CREATED: Final = 201
_UNAUTHORIZED: Final = 401
_AUTHOR: Final = re.compile(r"urn:li:(person|organization):[\w-]{1,100}")
_UNKNOWN_AUTHOR: Final = "urn:li:person:(RUNCAST_LINKEDIN_AUTHOR)"
_RESERVED: Final = re.compile(r"[\\|{}@\[\]()<>#*_~]")  # what LinkedIn's little text format reads as markup


class LinkedInTool:
    """Posts as one author."""

    def __init__(self, *, access_token: str | None, author: str | None, base_url: str, version: str) -> None:
        """Take the settings as they are.

        Raises:
            ConfigurationError: there is a token without an author, or something has the wrong form.

        """
        self._token: Final = _check_token(access_token)
        self._author: Final = _check_author(author, is_required=bool(self._token))
        self._url: Final = str(check_service_url(base_url, setting="RUNCAST_LINKEDIN_URL")).rstrip("/") + "/rest/posts"
        self._version: Final = version

    def risk_of(self, tool_input: LinkedInPost) -> Risk:  # noqa: ARG002 - the same for every post
        """See `Tool.risk_of`."""
        return Risk.PUBLISH if self._token else Risk.NONE

    def describe(self, tool_input: LinkedInPost) -> str:  # noqa: ARG002 - the same for every post
        """See `Tool.describe`."""
        return "posted on LinkedIn"

    async def call(self, tool_input: LinkedInPost, report: Report) -> Mapping[str, Any]:  # noqa: ARG002 - one request
        """See `Tool.call`."""
        body = self._compose(tool_input)
        if not self._token:
            return {"dryRun": True, "method": "POST", "url": self._url, "headers": self._public_headers(), "body": body}
        request = httpx.Request(
            "POST",
            self._url,
            headers={**self._public_headers(), "Authorization": f"Bearer {self._token}"},
            content=json.dumps(body, ensure_ascii=False).encode(),
        )
        answer = await send(
            direct_transport(), request, service="LinkedIn", is_repeatable=False, max_body_bytes=_MAX_ANSWER_BYTES
        )
        return self._conclude(answer)

    def _public_headers(self) -> dict[str, str]:
        return {
            "LinkedIn-Version": self._version,
            "X-Restli-Protocol-Version": "2.0.0",
            "Content-Type": "application/json",
        }

    def _compose(self, post: LinkedInPost) -> dict[str, Any]:
        return {
            "author": self._author or _UNKNOWN_AUTHOR,
            "commentary": escape_commentary(post.text),
            "visibility": "PUBLIC",
            "distribution": {
                "feedDistribution": "MAIN_FEED",
                "targetEntities": [],
                "thirdPartyDistributionChannels": [],
            },
            "lifecycleState": "PUBLISHED",
            "isReshareDisabledByAuthor": False,
        }

    def _conclude(self, answer: Answer) -> Mapping[str, Any]:
        if answer.status != _CREATED:
            raise ServiceRefusedError(self._explain(answer), is_retryable=answer.is_retryable)
        urn = redact(answer.headers.get("x-restli-id", ""), self._token)
        if not urn:
            raise OutcomeUnknownError("LinkedIn answered 201 without the post's id: look there before trying again")
        return {"dryRun": False, "urn": urn, "url": f"https://www.linkedin.com/feed/update/{urn}/"}

    def _explain(self, answer: Answer) -> str:
        said = describe_refusal("LinkedIn", answer, redact(_read_message(answer), self._token))
        is_token = answer.status == _UNAUTHORIZED
        return f"{said}; give RUNCAST_LINKEDIN_ACCESS_TOKEN a valid token" if is_token else said


def escape_commentary(text: str) -> str:
    """Text that LinkedIn shows as it was typed: nothing in it is a mention, a hashtag or markup."""
    return _RESERVED.sub(r"\\\g<0>", text)


def _read_message(answer: Answer) -> str:
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return answer.text
    message = said.get("message") if isinstance(said, dict) else None
    return message if isinstance(message, str) else answer.text


def _check_token(token: str | None) -> str:
    token = (token or "").strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigurationError("RUNCAST_LINKEDIN_ACCESS_TOKEN holds a character that no token has")
    return token


def _check_author(author: str | None, *, is_required: bool) -> str | None:
    if author and not _AUTHOR.fullmatch(author):
        raise ConfigurationError("RUNCAST_LINKEDIN_AUTHOR must look like urn:li:person:… or urn:li:organization:…")
    if is_required and not author:
        raise ConfigurationError("RUNCAST_LINKEDIN_ACCESS_TOKEN is set, so RUNCAST_LINKEDIN_AUTHOR must be, too")
    return author or None
