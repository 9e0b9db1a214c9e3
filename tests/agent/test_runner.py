"""The prompt runner as a worker calls it: plan, steps, tool events, closing text, result."""

import json
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from runcast.agent.runner import register_prompt_runner
from runcast.app import PROMPT_RUNNER, Runcast
from runcast.config import Settings
from runcast.errors import ConfigurationError, OutcomeUnknownError, PromptNotUnderstoodError, ServiceRefusedError
from tests.support import linkedin_server as linkedin
from tests.support import slack_server as slack
from tests.support.journal import RecordingJournal, recorded_run
from tests.support.service import serve

PROMPT = "Post 'Hello from Quik.day!' on LinkedIn"


async def execute(prompt: str, journal: RecordingJournal | None = None, *, attempt: int = 1, **given: Any) -> Any:
    """Run a prompt as a worker does; events go to the journal, if one is given."""
    app = Runcast()
    register_prompt_runner(app, Settings(**given))
    run, recorded = recorded_run(attempt=attempt)
    try:
        return await app.get_runner(PROMPT_RUNNER)(run, {"prompt": prompt})
    finally:
        if journal is not None:
            journal.events.extend(recorded.events)


def with_linkedin(base_url: str) -> dict[str, Any]:
    return {
        "linkedin_url": base_url,
        "linkedin_access_token": linkedin.TOKEN,
        "linkedin_author": linkedin.AUTHOR,
    }


async def test_a_prompt_as_watchers_see_it() -> None:
    """The plan comes first, then each step with its tool call inside, then a text in a few deltas."""
    journal = RecordingJournal()
    result = await execute(f"{PROMPT} then wait 1 ms", journal)
    in_step = ["step_started", "tool_started", "tool_completed", "step_succeeded"]
    waiting = ["step_started", "tool_started", "progress", "tool_completed", "step_succeeded"]
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
    assert started == {"toolCallId": "call-1-1", "tool": "linkedin", "input": {"text": "Hello from Quik.day!"}}
    assert (completed["toolCallId"], completed["output"]["dryRun"]) == ("call-1-1", True)
    (said,) = journal.payloads("message_completed")
    deltas = journal.payloads("message_delta")
    assert "".join(each["delta"] for each in deltas) == said["text"] == result["summary"]
    assert {each["messageId"] for each in deltas} == {said["messageId"]}
    assert len(deltas) > 2


async def test_a_result_has_a_sentence_and_every_output() -> None:
    """The run's output is one sentence about all steps, and what each step gave."""
    result = await execute(f"{PROMPT} then wait 1 ms")
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
        result = await execute(prompt, **with_linkedin(posts.base_url), slack_webhook_url=webhook)
    assert json.loads(posts.received[0].body)["commentary"] == "Hello from Quik.day!"
    assert [json.loads(each.body) for each in messages.received] == [{"text": "It's out"}]
    assert result["summary"] == "Posted on LinkedIn, then sent to #team on Slack."
    assert result["steps"][0]["output"]["urn"] == "urn:li:share:7000000001"


async def test_nothing_runs_unless_all_is_understood() -> None:
    """A prompt with one part that isn't understood executes nothing and tells no plan."""
    journal = RecordingJournal()
    async with linkedin.linkedin_server() as posts:
        with pytest.raises(PromptNotUnderstoodError, match="not understood: “dance”"):
            await execute(f"{PROMPT} then dance", journal, **with_linkedin(posts.base_url))
    assert posts.received == []
    assert journal.events == []


async def test_a_failed_step_ends_the_run() -> None:
    """The tool's error is told with the call and with the step, and comes out; later steps don't begin."""
    journal = RecordingJournal()
    async with linkedin.linkedin_server(answer=linkedin.too_many_requests) as posts:
        with pytest.raises(ServiceRefusedError):
            await execute(f"{PROMPT} then wait 1 hour", journal, **with_linkedin(posts.base_url))
    assert journal.types == ["plan_generated", "step_started", "tool_started", "tool_failed", "step_failed"]
    (failed,) = journal.payloads("tool_failed")
    (step_failed,) = journal.payloads("step_failed")
    assert failed["toolCallId"] == "call-1-1"
    assert failed["error"]["code"] == "service_refused"
    assert failed["error"] == step_failed["error"]


async def test_no_event_holds_a_secret() -> None:
    """Neither token nor webhook stands in any event, when calls work or fail."""
    journal = RecordingJournal()
    async with linkedin.linkedin_server() as posts, slack.slack_server(path="/services/other") as messages:
        webhook = messages.base_url + slack.WEBHOOK_PATH
        with pytest.raises(ServiceRefusedError) as caught:
            await execute(
                f"{PROMPT} then tell #a 'b'", journal, **with_linkedin(posts.base_url), slack_webhook_url=webhook
            )
    told = json.dumps(journal.events) + str(caught.value)
    assert linkedin.TOKEN not in told
    assert slack.WEBHOOK_PATH not in told
    assert "webhook-secret" not in told


async def test_a_later_attempt_does_not_post_again() -> None:
    """When a worker was lost, what may have been published already is not published again: people look first."""
    async with linkedin.linkedin_server() as posts:
        with pytest.raises(OutcomeUnknownError, match=r"step 2 \(Post on LinkedIn\) may have been done before"):
            await execute(f"wait 1 ms then {PROMPT}", attempt=2, **with_linkedin(posts.base_url))
    assert posts.received == []


async def test_a_later_attempt_repeats_what_is_harmless() -> None:
    """Dry runs and waits are simply done again."""
    result = await execute(f"wait 1 ms then {PROMPT}", attempt=2)
    assert len(result["steps"]) == 2


async def test_large_outputs_stay_with_their_steps() -> None:
    """A result never outgrows an event: what doesn't fit is left to the step, which has it whole."""

    async def page(_: Request) -> PlainTextResponse:
        return PlainTextResponse("x" * 60_000)

    journal = RecordingJournal()
    async with serve(Starlette(routes=[Route("/", page)])) as base_url:
        result = await execute(f"GET {base_url}/\n" * 6, journal, http_allow_private=True)
    assert len(json.dumps(result)) < 300_000
    assert [("omitted" in each["output"]) for each in result["steps"]] == [False] * 4 + [True] * 2
    assert all(len(each["output"]["body"]) == 60_000 for each in journal.payloads("step_succeeded"))


async def test_many_steps_make_a_short_sentence() -> None:
    """A long plan is summed up by number, dry runs included."""
    result = await execute("wait 1ms;" * 5 + PROMPT)
    assert result["summary"] == "Did all 6 steps, 1 of them as dry runs."


def test_half_a_configuration_is_refused_at_once() -> None:
    """A token without an author fails when the runner is registered, not when someone posts."""
    with pytest.raises(ConfigurationError, match="RUNCAST_LINKEDIN_AUTHOR"):
        register_prompt_runner(Runcast(), Settings(linkedin_access_token=SecretStr("t")))
