"""The tools against real servers that speak the services' published APIs."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from runcast.agent.inputs import LinkedInPost, Pause, SlackMessage
from runcast.agent.tools.linkedin import LinkedInTool, escape_commentary
from runcast.agent.tools.slack import SlackTool
from runcast.agent.tools.wait import WaitTool
from runcast.errors import ConfigurationError, OutcomeUnknownError, ServiceRefusedError, ToolError
from runcast.tools import Risk
from tests.support import linkedin_server as linkedin
from tests.support import slack_server as slack
from tests.support.service import ReceivedRequest

MARKUP = r"a|b {c} @[d](e) <f> #g *h* _i_ ~j~ \k"


def no_report(_value: float, _total: float, _message: str) -> None:
    raise AssertionError("this tool reports nothing")


def linkedin_tool(base_url: str, *, token: str | None = linkedin.TOKEN) -> LinkedInTool:
    return LinkedInTool(access_token=token, author=linkedin.AUTHOR, base_url=base_url, version="202606")


@pytest.fixture
def all_logs(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that any library logs."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


async def test_linkedin_posts_once() -> None:
    """A post is one request as the Posts API wants it, and the output has the urn and where to see it."""
    async with linkedin.linkedin_server() as service:
        output = await linkedin_tool(service.base_url).call(LinkedInPost(text="Hello from Quik.day!"), no_report)
    (request,) = service.received
    assert (request.method, request.path) == ("POST", "/rest/posts")
    assert request.headers["linkedin-version"] == "202606"
    assert request.headers["x-restli-protocol-version"] == "2.0.0"
    assert json.loads(request.body) == {
        "author": linkedin.AUTHOR,
        "commentary": "Hello from Quik.day!",
        "visibility": "PUBLIC",
        "distribution": {"feedDistribution": "MAIN_FEED", "targetEntities": [], "thirdPartyDistributionChannels": []},
        "lifecycleState": "PUBLISHED",
        "isReshareDisabledByAuthor": False,
    }
    urn = "urn:li:share:7000000001"
    assert output == {"dryRun": False, "urn": urn, "url": f"https://www.linkedin.com/feed/update/{urn}/"}


async def test_linkedin_escapes_what_is_markup() -> None:
    """Each reserved character gets a backslash, so the service takes the text and shows it as typed."""
    async with linkedin.linkedin_server() as service:
        await linkedin_tool(service.base_url).call(LinkedInPost(text=MARKUP), no_report)
    assert json.loads(service.received[0].body)["commentary"] == escape_commentary(MARKUP)
    assert escape_commentary("a_b (c) #d \\") == r"a\_b \(c\) \#d " + "\\\\"


async def test_linkedin_without_token_is_a_dry_run() -> None:
    """Without a token nothing is sent, and the output says exactly what would have been."""
    async with linkedin.linkedin_server() as service:
        tool = linkedin_tool(service.base_url, token=None)
        output = await tool.call(LinkedInPost(text="Hi"), no_report)
    assert service.received == []
    assert (output["dryRun"], output["method"], output["url"]) == (True, "POST", f"{service.base_url}/rest/posts")
    assert output["headers"] == {
        "LinkedIn-Version": "202606",
        "X-Restli-Protocol-Version": "2.0.0",
        "Content-Type": "application/json",
    }
    assert (output["body"]["author"], output["body"]["commentary"]) == (linkedin.AUTHOR, "Hi")
    assert tool.risk_of(LinkedInPost(text="Hi")) is Risk.NONE


async def test_linkedin_refuses_a_wrong_token(all_logs: pytest.LogCaptureFixture) -> None:
    """A 401 says what the service said and which setting to mend; the token is in no message and no log."""
    async with linkedin.linkedin_server() as service:
        with pytest.raises(ServiceRefusedError) as caught:
            await linkedin_tool(service.base_url, token="wrong-secret").call(LinkedInPost(text="Hi"), no_report)
    assert str(caught.value) == (
        "LinkedIn refused with status 401: “Invalid access token”; trying again as it is will not help; "
        "give RUNCAST_LINKEDIN_ACCESS_TOKEN a valid token"
    )
    assert not caught.value.is_retryable
    assert "wrong-secret" not in all_logs.text


@pytest.mark.parametrize(
    ("answer", "said", "is_retryable"),
    [
        (
            linkedin.too_many_requests,
            "“Resource level throttle limit reached”; trying again later may work (after",
            True,
        ),
        (lambda _: JSONResponse({"message": "Duplicate post"}, 422), "status 422: “Duplicate post”", False),
        (lambda _: PlainTextResponse("Bad gateway", 502), "status 502: “Bad gateway”", True),
        (lambda _: Response(status_code=200), "status 200: without a reason", False),
        (lambda r: PlainTextResponse(r.headers["authorization"], 400), "status 400: “Bearer •••”", False),
    ],
)
async def test_linkedin_tells_why_it_refused(answer: linkedin.Answer, said: str, *, is_retryable: bool) -> None:
    """A refusal has status, the service's own words, and whether trying again makes sense; it is not repeated."""
    async with linkedin.linkedin_server(answer=answer) as service:
        with pytest.raises(ServiceRefusedError) as caught:
            await linkedin_tool(service.base_url).call(LinkedInPost(text="Hi"), no_report)
    assert said in str(caught.value)
    assert caught.value.is_retryable is is_retryable
    assert len(service.received) == 1


async def test_a_post_whose_answer_is_lost_is_not_repeated() -> None:
    """When the connection breaks after the request was sent, the outcome is unknown, and nothing is sent again."""

    def break_connection(_: ReceivedRequest) -> Response:
        return Response(b"short", headers={"content-length": "5000"})

    async with linkedin.linkedin_server(answer=break_connection) as service:
        with pytest.raises(OutcomeUnknownError, match="perhaps after it did what was asked"):
            await linkedin_tool(service.base_url).call(LinkedInPost(text="Hi"), no_report)
    assert len(service.received) == 1


async def test_linkedin_that_is_not_there() -> None:
    """When there is no connection nothing was sent, and trying again is safe."""
    async with linkedin.linkedin_server() as service:
        pass
    with pytest.raises(ToolError, match=r"LinkedIn can't be reached: .*; nothing was sent") as caught:
        await linkedin_tool(service.base_url).call(LinkedInPost(text="Hi"), no_report)
    assert caught.value.is_retryable


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"author": None}, "RUNCAST_LINKEDIN_AUTHOR must be, too"),
        ({"author": "Ada"}, "must look like urn:li:person"),
        ({"base_url": "http://api.example.com"}, "RUNCAST_LINKEDIN_URL must be an https"),
        ({"access_token": "two\nlines"}, "holds a character that no token has"),
    ],
)
def test_linkedin_settings_that_can_not_work(changed: dict[str, Any], reason: str) -> None:
    """Half a configuration, or one that would give the token away, is refused before any run."""
    given = {"access_token": "t", "author": linkedin.AUTHOR, "base_url": "https://api.linkedin.com", **changed}
    with pytest.raises(ConfigurationError, match=reason):
        LinkedInTool(**given, version="202606")


async def test_slack_sends_once(all_logs: pytest.LogCaptureFixture) -> None:
    """A message is one POST to the webhook, whose own channel the output tells of; no log has its URL."""
    async with slack.slack_server() as service:
        tool = SlackTool(webhook_url=service.base_url + slack.WEBHOOK_PATH)
        output = await tool.call(SlackMessage(text="1 < 2 & <!channel>", channel="#general"), no_report)
    (request,) = service.received
    assert (request.method, request.path) == ("POST", slack.WEBHOOK_PATH)
    assert json.loads(request.body) == {"text": "1 &lt; 2 &amp; &lt;!channel&gt;"}
    assert (output["dryRun"], output["channel"]) == (False, "#general")
    assert "posts to the channel it was made for" in output["note"]
    assert "HTTP Request: POST" in all_logs.text
    assert "webhook-secret" not in all_logs.text


async def test_slack_without_webhook_is_a_dry_run() -> None:
    """Without a webhook nothing is sent, and the output says exactly what would have been."""
    tool = SlackTool(webhook_url=None)
    assert await tool.call(SlackMessage(text="Hi"), no_report) == {
        "dryRun": True,
        "method": "POST",
        "url": "https://hooks.slack.com/services/hidden",
        "headers": {"Content-Type": "application/json; charset=utf-8"},
        "body": {"text": "Hi"},
    }


@pytest.mark.parametrize(
    ("answer", "said", "is_retryable"),
    [
        (slack.too_many_requests, "status 429: “rate_limited”; trying again later may work (after 30 s)", True),
        (lambda _: PlainTextResponse("channel_is_archived", 410), "status 410: “channel_is_archived”", False),
        (lambda _: PlainTextResponse("<html>", 200), "status 200: “<html>”", False),
        (lambda r: PlainTextResponse(f"no {r.path}", 404), "status 404: “no •••”", False),
    ],
)
async def test_slack_tells_why_it_refused(answer: slack.Answer, said: str, *, is_retryable: bool) -> None:
    """A refusal has status, Slack's own word and whether trying again makes sense, and never the webhook."""
    async with slack.slack_server(answer=answer) as service:
        tool = SlackTool(webhook_url=service.base_url + slack.WEBHOOK_PATH)
        with pytest.raises(ServiceRefusedError) as caught:
            await tool.call(SlackMessage(text="Hi"), no_report)
    assert said in str(caught.value)
    assert caught.value.is_retryable is is_retryable
    assert len(service.received) == 1


def test_a_webhook_that_is_no_url_is_not_repeated() -> None:
    """A wrong webhook is refused in words that don't hold it."""
    with pytest.raises(ConfigurationError) as caught:
        SlackTool(webhook_url="ftp://secret")
    assert str(caught.value) == "RUNCAST_SLACK_WEBHOOK_URL must be an https:// URL, since a secret goes there"


async def test_wait_says_how_far_it_is() -> None:
    """A wait reports after each tick, always further, and at its end all of it."""
    reports: list[tuple[float, float]] = []
    tool = WaitTool(tick_seconds=0.02)
    output = await tool.call(Pause(seconds=0.07), lambda value, total, _: reports.append((value, total)))
    assert output == {"waitedSeconds": 0.07}
    assert reports == sorted(set(reports))
    assert reports[-1] == (0.07, 0.07)
