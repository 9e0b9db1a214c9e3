"""Sending to Slack: as a bot to the channel that is named, or through an incoming webhook, whose URL is the secret.

A webhook posts to the channel it was made for, whatever the prompt says; the output tells so when a channel was named.
Without credentials nothing is sent: the output says what would have been. A message is sent once, whatever comes back.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from runcast.agent.inputs import SlackMessage
from runcast.agent.tools.connection import (
    Answer,
    HidingTransport,
    check_service_url,
    describe_refusal,
    direct_transport,
    redact,
    send,
)
from runcast.agent.tools.slack_bot import SlackBot
from runcast.errors import ServiceRefusedError, ToolError
from runcast.tools import Report, Risk

_MAX_ANSWER_BYTES: Final = 16_384
_OK: Final = 200
_HIDDEN_PATH: Final = "/services/hidden"
_EXAMPLE_URL: Final = f"https://hooks.slack.com{_HIDDEN_PATH}"
_CHANNEL_NOTE: Final = "an incoming webhook posts to the channel it was made for; check that it is this one"
_HEADERS: Final[Mapping[str, str]] = {"Content-Type": "application/json; charset=utf-8"}


class SlackTool:
    """Sends as a bot where a channel is known, else through a webhook."""

    def __init__(self, *, webhook_url: str | None, bot: SlackBot | None = None) -> None:
        """Take the setting as it is.

        Raises:
            ConfigurationError: it isn't an https URL.

        """
        self._bot: Final = bot
        text = (webhook_url or "").strip()
        self._webhook: Final = check_service_url(text, setting="RUNCAST_SLACK_WEBHOOK_URL") if text else None
        self._shown_url: Final = (
            str(self._webhook.copy_with(path=_HIDDEN_PATH, query=None)) if self._webhook else _EXAMPLE_URL
        )

    def risk_of(self, tool_input: SlackMessage) -> Risk:  # noqa: ARG002 - the same for every message
        """See `Tool.risk_of`."""
        return Risk.PUBLISH if self._webhook or self._bot else Risk.NONE

    def describe(self, tool_input: SlackMessage) -> str:
        """See `Tool.describe`."""
        return f"sent to {tool_input.channel} on Slack" if tool_input.channel else "sent on Slack"

    async def call(self, tool_input: SlackMessage, report: Report) -> Mapping[str, Any]:  # noqa: ARG002 - one request
        """See `Tool.call`."""
        body = {"text": escape_text(tool_input.text)}
        if self._bot and tool_input.channel:
            return {"dryRun": False, "channel": tool_input.channel, **await self._bot.post(tool_input.channel, **body)}
        about = {"channel": tool_input.channel, "note": _CHANNEL_NOTE} if tool_input.channel else {}
        if self._webhook is None:
            if self._bot:
                raise ToolError("a bot needs to be told where: name a channel, as in “Send '…' to #general on Slack”")
            shown = {"method": "POST", "url": self._shown_url, "headers": dict(_HEADERS), "body": body}
            return {"dryRun": True, **shown, **about}
        request = httpx.Request("POST", self._shown_url, headers=_HEADERS, content=json.dumps(body).encode())
        transport = HidingTransport(self._webhook, direct_transport())
        answer = await send(transport, request, service="Slack", is_repeatable=False, max_body_bytes=_MAX_ANSWER_BYTES)
        _require_ok(answer, webhook=self._webhook)
        return {"dryRun": False, **about}


def escape_text(text: str) -> str:
    """Text that Slack shows as it was typed: the three characters with which it writes links and mentions escaped."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _require_ok(answer: Answer, *, webhook: httpx.URL) -> None:
    if answer.status != _OK or answer.text.strip() != "ok":
        path = webhook.raw_path.decode("ascii")
        said = describe_refusal("Slack", answer, redact(answer.text, path, path.rpartition("/")[2]))
        raise ServiceRefusedError(said, is_retryable=answer.is_retryable)
