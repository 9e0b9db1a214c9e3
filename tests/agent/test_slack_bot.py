"""Slack as a bot, against a server that speaks the published Web API."""

import json
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from runcast.agent.inputs import SlackMessage
from runcast.agent.tools.slack import SlackTool
from runcast.agent.tools.slack_bot import SlackBot
from runcast.errors import ConfigurationError, OutcomeUnknownError, ServiceRefusedError, ToolError
from runcast.tools import Risk
from tests.support import slack_api_server as slack


def bot_tool(base_url: str, *, token: str = slack.TOKEN, webhook_url: str | None = None) -> SlackTool:
    return SlackTool(webhook_url=webhook_url, bot=SlackBot(token=token, base_url=f"{base_url}/api"))


async def send(base_url: str, message: SlackMessage, **given: Any) -> Any:
    return await bot_tool(base_url, **given).call(message, lambda *_: None)


async def test_a_bot_posts_once_to_the_channel_that_is_named() -> None:
    """A message is one call of chat.postMessage, escaped, and the output says where it is."""
    async with slack.slack_api_server() as service:
        output = await send(service.base_url, SlackMessage(text="1 < 2", channel="#general"))
    (request,) = service.received
    assert json.loads(request.body) == {"channel": "#general", "text": "1 &lt; 2"}
    assert output == {"dryRun": False, "channel": "#general", "channelId": "C0GENERAL", "ts": "1503435956.000247"}
    assert bot_tool("https://slack.example").risk_of(SlackMessage(text="x")) is Risk.PUBLISH


@pytest.mark.parametrize(
    ("answer", "said", "is_retryable"),
    [
        (None, "“channel_not_found”; trying again as it is will not help; check the channel's name", False),
        (lambda _: JSONResponse({"ok": False, "error": "ratelimited"}), "“ratelimited”; trying again later", True),
        (lambda _: JSONResponse({"ok": False}, 429, headers={"retry-after": "9"}), "status 429: .*after 9 s", True),
        (lambda r: JSONResponse({"ok": False, "error": r.headers["authorization"]}), "“Bearer •••”", False),
    ],
)
async def test_slack_tells_why_it_refused(answer: slack.Answer | None, said: str, *, is_retryable: bool) -> None:
    """A refusal has Slack's own word and what to do, though its status is 200, and never the token."""
    async with slack.slack_api_server(answer=answer) as service:
        with pytest.raises(ServiceRefusedError, match=said) as caught:
            await send(service.base_url, SlackMessage(text="Hi", channel="#nowhere"))
    assert caught.value.is_retryable is is_retryable
    assert slack.TOKEN not in str(caught.value)
    assert len(service.received) == 1


async def test_a_wrong_token_names_the_setting() -> None:
    """What has to be mended is said by name."""
    async with slack.slack_api_server() as service:
        with pytest.raises(ServiceRefusedError, match="give RUNCAST_SLACK_BOT_TOKEN a valid token"):
            await send(service.base_url, SlackMessage(text="Hi", channel="#general"), token="wrong")


async def test_an_answer_that_can_not_be_read_leaves_the_outcome_open() -> None:
    """200 without a word of Slack's is neither yes nor no."""
    async with slack.slack_api_server(answer=lambda _: PlainTextResponse("<html>")) as service:
        with pytest.raises(OutcomeUnknownError):
            await send(service.base_url, SlackMessage(text="Hi", channel="#general"))


async def test_a_bot_has_to_be_told_where() -> None:
    """Without a channel and without a webhook nothing is sent, and the message says what to write."""
    async with slack.slack_api_server() as service:
        with pytest.raises(ToolError, match="name a channel"):
            await send(service.base_url, SlackMessage(text="Hi"))
    assert service.received == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"token": "two words", "base_url": "https://slack.example"}, "no token has"),
        ({"token": "t", "base_url": "http://slack.example"}, "RUNCAST_SLACK_URL must be an https"),
    ],
)
def test_settings_that_can_not_work(given: dict[str, str], reason: str) -> None:
    """What would give the token away is refused before any run."""
    with pytest.raises(ConfigurationError, match=reason):
        SlackBot(**given)
