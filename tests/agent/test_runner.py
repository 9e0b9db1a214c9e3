"""The prompt runner as a worker calls it: plan, steps, tool events, closing text, result."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from runcast.agent.runner import register_prompt_runner
from runcast.app import Runcast
from runcast.config import Settings
from runcast.errors import ConfigurationError, OutcomeUnknownError, PromptNotUnderstoodError, ServiceRefusedError
from runcast.runners import PROMPT_RUNNER
from tests.support import linkedin_server as linkedin
from tests.support import slack_server as slack
from tests.support.durable import DurableJournal, Past, begin_attempt
from tests.support.service import serve

PROMPT = "Post 'Hello from Quik.day!' on LinkedIn"


async def execute(
    prompt: str, *, past: Past | None = None, mode: str = "auto", answers: Iterable[Any] = (), **given: Any
) -> tuple[Any, DurableJournal]:
    """Run a prompt as a worker does: what it gave, and what it said."""
    app = Runcast()
    register_prompt_runner(app, Settings(**given))
    run, journal = begin_attempt(past, answers=answers)
    return await app.get_runner(PROMPT_RUNNER)(run, {"prompt": prompt, "mode": mode}), journal


async def fail(error: type[Exception], prompt: str, **given: Any) -> tuple[Exception, DurableJournal]:
    """The same for a prompt whose run fails: what it raised, and what it said."""
    app = Runcast()
    past, settings = given.pop("past", None), Settings(**given)
    register_prompt_runner(app, settings)
    run, journal = begin_attempt(past)
    with pytest.raises(error) as caught:
        await app.get_runner(PROMPT_RUNNER)(run, {"prompt": prompt})
    return caught.value, journal


def with_linkedin(base_url: str) -> dict[str, Any]:
    return {
        "linkedin_url": base_url,
        "linkedin_access_token": linkedin.TOKEN,
        "linkedin_author": linkedin.AUTHOR,
    }


async def test_a_prompt_as_watchers_see_it() -> None:
    """The plan comes first, then each step with its tool call inside, then a text in a few deltas."""
    result, journal = await execute(f"{PROMPT} then wait 1 ms")
    in_step = ["step_started", "tool_started", "tool_completed", "step_succeeded"]
    waiting = ["step_started", "tool_started", "step_progress", "tool_completed", "step_succeeded"]
    assert [each for each in journal.types if each != "message_delta"] == [
        "plan_generated",
        *in_step,
        *waiting,
        "message_started",
        "message_completed",
    ]
    assert journal.payloads("plan_generated") == [
        {
            "steps": [
                {"index": 1, "name": "Post on LinkedIn", "tool": "linkedin", "input": {"text": "Hello from Quik.day!"}},
                {"index": 2, "name": "Wait 0.001 seconds", "tool": "wait", "input": {"seconds": 0.001}},
            ]
        }
    ]
    assert [each["input"] for each in journal.payloads("step_started")] == [
        {"text": "Hello from Quik.day!"},
        {"seconds": 0.001},
    ]
    started, _ = journal.payloads("tool_started")
    completed, _ = journal.payloads("tool_completed")
    assert started == {"toolCallId": "call-1", "tool": "linkedin", "input": {"text": "Hello from Quik.day!"}}
    assert (completed["toolCallId"], completed["output"]["dryRun"]) == ("call-1", True)
    (said,) = journal.payloads("message_completed")
    deltas = journal.payloads("message_delta")
    assert "".join(each["delta"] for each in deltas) == said["text"] == result["summary"]
    assert {each["messageId"] for each in deltas} == {said["messageId"]}
    assert len(deltas) > 2


async def test_a_result_has_a_sentence_and_every_output() -> None:
    """The run's output is one sentence about all steps, and what each step gave."""
    result, _ = await execute(f"{PROMPT} then wait 1 ms")
    assert result["summary"] == "Posted on LinkedIn (dry run: nothing was sent), then waited 0.001 seconds."
    assert [(each["tool"], each["output"].get("dryRun")) for each in result["steps"]] == [
        ("linkedin", True),
        ("wait", None),
    ]


async def test_posting_for_real() -> None:
    """With credentials the services get what the prompt says, each once and in order."""
    async with linkedin.linkedin_server() as posts, slack.slack_server() as messages:
        webhook = messages.base_url + slack.WEBHOOK_PATH
        prompt = f"{PROMPT} and tell #team 'It's out'"
        result, _ = await execute(prompt, **with_linkedin(posts.base_url), slack_webhook_url=webhook)
    assert json.loads(posts.received[0].body)["commentary"] == "Hello from Quik.day!"
    assert [json.loads(each.body) for each in messages.received] == [{"text": "It's out"}]
    assert result["summary"] == "Posted on LinkedIn, then sent to #team on Slack."
    assert result["steps"][0]["output"]["urn"] == "urn:li:share:7000000001"


async def test_nothing_runs_unless_all_is_understood() -> None:
    """A prompt with one part that isn't understood executes nothing and tells no plan."""
    async with linkedin.linkedin_server() as posts:
        error, journal = await fail(PromptNotUnderstoodError, f"{PROMPT} then dance", **with_linkedin(posts.base_url))
    assert "not understood: “dance”" in str(error)
    assert posts.received == []
    assert journal.events == []


async def test_a_failed_step_ends_the_run() -> None:
    """The tool's error is told with the call and with the step, and comes out; later steps don't begin."""
    async with linkedin.linkedin_server(answer=linkedin.too_many_requests) as posts:
        _, journal = await fail(ServiceRefusedError, f"{PROMPT} then wait 1 hour", **with_linkedin(posts.base_url))
    assert journal.types == ["plan_generated", "step_started", "tool_started", "tool_failed", "step_failed"]
    (failed,) = journal.payloads("tool_failed")
    (step_failed,) = journal.payloads("step_failed")
    assert failed["toolCallId"] == "call-1"
    assert failed["error"]["code"] == "service_refused"
    assert failed["error"] == step_failed["error"]


async def test_no_event_holds_a_secret() -> None:
    """Neither token nor webhook stands in any event, when calls work or fail."""
    async with linkedin.linkedin_server() as posts, slack.slack_server(path="/services/other") as messages:
        webhook = messages.base_url + slack.WEBHOOK_PATH
        error, journal = await fail(
            ServiceRefusedError,
            f"{PROMPT} then tell #a 'b'",
            **with_linkedin(posts.base_url),
            slack_webhook_url=webhook,
        )
    told = json.dumps(journal.events) + str(error)
    assert linkedin.TOKEN not in told
    assert slack.WEBHOOK_PATH not in told
    assert "webhook-secret" not in told


async def lose(prompt: str, past: Past, *, while_waiting: Awaitable[Any], **given: Any) -> None:
    """Begin an attempt, and lose its worker once something has happened."""
    attempt = asyncio.create_task(execute(prompt, past=past, **given))
    await while_waiting
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt


async def test_a_later_attempt_does_not_post_again() -> None:
    """When a worker is lost while it posts, the next attempt doesn't: people look first."""
    past, is_there, is_over = Past(), asyncio.Event(), asyncio.Event()

    async def hold(_: Request) -> Response:
        is_there.set()
        await is_over.wait()
        return Response(status_code=201)

    async with serve(Starlette(routes=[Route("/rest/posts", hold, methods=["POST"])])) as url:
        prompt = f"wait 1 ms then {PROMPT}"
        await lose(prompt, past, while_waiting=is_there.wait(), **with_linkedin(url))
        is_over.set()
    async with linkedin.linkedin_server() as posts:
        error, _ = await fail(OutcomeUnknownError, prompt, past=past, **with_linkedin(posts.base_url))
    assert "the worker was lost in the step Post on LinkedIn, which may have been done" in str(error)
    assert posts.received == []


async def test_a_later_attempt_goes_on_after_what_is_committed() -> None:
    """A post that is committed is not made again, and the run goes on behind it to the same result."""
    past = Past()
    async with linkedin.linkedin_server() as posts:
        prompt = f"{PROMPT} then wait 0.05 seconds"
        given = with_linkedin(posts.base_url)
        waiting = asyncio.create_task(until(lambda: "Wait 0.05 seconds" in {s.name for s in past.steps.values()}))
        await lose(prompt, past, while_waiting=waiting, **given)
        result, journal = await execute(prompt, past=past, **given)
    assert len(posts.received) == 1
    assert [each["output"].get("urn") for each in result["steps"]] == ["urn:li:share:7000000001", None]
    assert [each["name"] for each in journal.payloads("step_started")] == ["Wait 0.05 seconds"]


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0)


async def test_part_of_a_plan_can_be_approved() -> None:
    """In `approval` the run shows its plan and asks; only the approved steps are executed, and the sentence says so."""
    prompt = f"{PROMPT} then wait 1 ms then wait 2 ms"
    result, journal = await execute(prompt, mode="approval", answers=[{"approved": True, "steps": [3]}])
    (asked,) = journal.asked
    assert (asked["prompt"], asked["preview"]) == ("Execute this plan?", journal.payloads("plan_generated")[0])
    assert asked["schema"]["properties"]["steps"]["items"]["enum"] == [1, 2, 3]
    assert [each["name"] for each in journal.payloads("step_started")] == ["Wait 0.002 seconds"]
    assert result["summary"] == "Waited 0.002 seconds. 2 of 3 steps were not approved."


@pytest.mark.parametrize("answer", [{"approved": False}, {"approved": True, "steps": []}])
async def test_a_plan_that_is_declined_is_not_executed(answer: dict[str, Any]) -> None:
    """Nothing happens, and the run is done and says so."""
    result, journal = await execute(PROMPT, mode="approval", answers=[answer])
    assert result == {"summary": "Nothing was executed: the plan was not approved.", "steps": []}
    assert journal.payloads("step_started") == []


async def test_a_whole_plan_can_be_approved() -> None:
    """An approval that names no steps is one for all."""
    result, _ = await execute(f"{PROMPT} then wait 1 ms", mode="approval", answers=[{"approved": True}])
    assert [each["tool"] for each in result["steps"]] == ["linkedin", "wait"]


async def test_a_preview_executes_nothing() -> None:
    """In `preview` the plan is told and given, and that is all."""
    result, journal = await execute(f"{PROMPT} then wait 1 hour", mode="preview")
    assert result["plan"] == journal.payloads("plan_generated")[0]["steps"]
    assert journal.payloads("step_started") == journal.asked == []


async def test_a_calendar_file_is_an_artifact() -> None:
    """The file that a call makes is kept, once, and its output says where."""
    past = Past()
    for _ in range(2):
        result, _ = await execute("schedule 'Lunch' on 2030-01-31 at 12:30", past=past)
        output = result["steps"][0]["output"]
        assert (output["artifactId"], output["url"]) == ("artifact-1", "/artifacts/artifact-1")
    (kept,) = past.artifacts
    assert (kept.name, kept.content_type) == ("event.ics", "text/calendar; charset=utf-8")
    assert past.files["artifact-1"].decode() == output["file"]["text"]


async def test_large_outputs_stay_with_their_steps() -> None:
    """A result never outgrows an event: what doesn't fit is left to the step, which has it whole."""

    async def page(_: Request) -> PlainTextResponse:
        return PlainTextResponse("x" * 60_000)

    async with serve(Starlette(routes=[Route("/", page)])) as base_url:
        result, journal = await execute(f"GET {base_url}/\n" * 6, http_allow_private=True)
    assert len(json.dumps(result)) < 300_000
    assert [("omitted" in each["output"]) for each in result["steps"]] == [False] * 4 + [True] * 2
    assert all(len(each["output"]["body"]) == 60_000 for each in journal.payloads("step_succeeded"))


async def test_many_steps_make_a_short_sentence() -> None:
    """A long plan is summed up by number, dry runs included."""
    result, _ = await execute("wait 1ms;" * 5 + PROMPT)
    assert result["summary"] == "Did all 6 steps, 1 of them as dry runs."


def test_half_a_configuration_is_refused_at_once() -> None:
    """A token without an author fails when the runner is registered, not when someone posts."""
    with pytest.raises(ConfigurationError, match="RUNCAST_LINKEDIN_AUTHOR"):
        register_prompt_runner(Runcast(), Settings(linkedin_access_token=SecretStr("t")))
