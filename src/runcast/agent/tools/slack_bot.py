"""Sending to any channel of a Slack workspace as a bot, with the Web API's `chat.postMessage`.

Slack answers 200 when it refuses, too: whether it took a message stands in the body. The token stands nowhere else.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from runcast.agent.tools.connection import (
    Answer,
    check_service_url,
    describe_refusal,
    direct_transport,
    redact,
    send,
)
from runcast.errors import ConfigurationError, OutcomeUnknownError, ServiceRefusedError

_MAX_ANSWER_BYTES: Final = 65_536
_OK: Final = 200
_RETRYABLE: Final = frozenset({"ratelimited", "service_unavailable", "internal_error", "request_timeout"})
_ADVICE: Final[Mapping[str, str]] = {
    "not_in_channel": "invite the bot into the channel",
    "channel_not_found": "check the channel's name, and invite the bot if it is private",
    "missing_scope": "give the bot the scope chat:write",
    "invalid_auth": "give RUNCAST_SLACK_BOT_TOKEN a valid token",
    "not_authed": "give RUNCAST_SLACK_BOT_TOKEN a valid token",
    "token_revoked": "give RUNCAST_SLACK_BOT_TOKEN a valid token",
}


class SlackBot:
    """Sends as one bot."""

    def __init__(self, *, token: str, base_url: str) -> None:
        """Take the settings as they are.

        Raises:
            ConfigurationError: one of them has the wrong form. The message doesn't hold the token.

        """
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigurationError("RUNCAST_SLACK_BOT_TOKEN holds a character that no token has")
        self._token: Final = token
        base = str(check_service_url(base_url, setting="RUNCAST_SLACK_URL")).rstrip("/")
        self._url: Final = f"{base}/chat.postMessage"

    async def post(self, channel: str, text: str) -> Mapping[str, Any]:
        """Post a text that is already escaped, and say where it is.

        Raises:
            ToolError: it could not be done.

        """
        headers = {"Content-Type": "application/json; charset=utf-8", "Authorization": f"Bearer {self._token}"}
        body = json.dumps({"channel": channel, "text": text}).encode()
        request = httpx.Request("POST", self._url, headers=headers, content=body)
        answer = await send(
            direct_transport(), request, service="Slack", is_repeatable=False, max_body_bytes=_MAX_ANSWER_BYTES
        )
        said = _read(answer)
        if answer.status != _OK or said.get("ok") is False:
            raise self._explain(answer, said)
        if said.get("ok") is not True:
            raise OutcomeUnknownError("Slack gave an answer that can't be read: look there before trying again")
        return {"channelId": str(said.get("channel", ""))[:100], "ts": str(said.get("ts", ""))[:100]}

    def _explain(self, answer: Answer, said: Mapping[str, Any]) -> ServiceRefusedError:
        word = str(said.get("error") or answer.text)
        message = describe_refusal("Slack", answer, redact(word, self._token))
        if answer.status == _OK:  # its status says nothing, so the sentence about it doesn't, either
            again = "trying again later may work" if word in _RETRYABLE else "trying again as it is will not help"
            message = f"Slack refused: “{redact(word, self._token)}”; {again}"
        advice = _ADVICE.get(word)
        is_retryable = answer.is_retryable or word in _RETRYABLE
        return ServiceRefusedError(f"{message}; {advice}" if advice else message, is_retryable=is_retryable)


def _read(answer: Answer) -> Mapping[str, Any]:
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
