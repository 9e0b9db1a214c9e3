"""Runs that wait, ask, start others, fail and are tried again: against a whole server, with a real worker."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.asyncio.client import connect

from runcast import FatalError, Limit, Runcast, RunContext, SyncRunContext
from runcast.errors import ConfigurationError
from tests.gateway.test_api import wait_for_status
from tests.support.stack import Stack, receive, start_stack

calls: list[str] = []
"""What the runners' functions were called with: what a later attempt does again shows up twice."""

app = Runcast()


def note(what: str) -> str:
    calls.append(what)
    return what


@app.runner
async def deploy(run: RunContext, name: str = "web") -> dict[str, Any]:
    """Asks before it goes on."""
    built = await run.step("build", note, f"build {name}")
    async with run.message() as text:
        text.write("Ready ")
        text.write(f"to deploy {built}")
    approval = await run.approve("Deploy?", preview=text.text)
    if not approval:
        return {"deployed": False}
    await run.step("deploy", note, f"deploy {name}")
    return {"deployed": True, "by": approval.by, "text": text.text}


@app.runner
async def survey(run: RunContext) -> dict[str, Any]:
    """Asks for a number."""
    return {"number": await run.ask("How many?", schema=int)}


@app.runner
async def impatient(run: RunContext) -> dict[str, Any]:
    """Asks, but not for long."""
    try:
        await run.approve("Quick?", timeout_seconds=0.05)
    except TimeoutError:
        return {"answered": False}
    return {"answered": True}


@app.runner
async def nap(run: RunContext, seconds: float) -> dict[str, Any]:
    """Sleeps between two steps."""
    await run.step("before", note, "before")
    await run.sleep(seconds)
    await run.step("after", note, "after")
    return {"attempt": run.attempt}


@app.runner(retries=2)
async def flaky(run: RunContext, failures: int, fatal: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
    """Fails a few times."""
    await run.step("once", note, "once")
    if run.attempt <= failures:
        raise FatalError("never") if fatal else RuntimeError("not yet")
    return {"attempt": run.attempt}


@app.runner(retries=1)
async def speaker(run: RunContext) -> dict[str, Any]:
    """Speaks in steps, and fails after the first word of the second."""

    async def speak(text: str, *, fails: bool) -> None:
        async with run.message() as message:
            message.write(text)
        if fails:
            raise RuntimeError("lost for words")

    await run.step("greet", speak, "hello", fails=False)
    await run.step("part", speak, "goodbye", fails=run.attempt == 1)
    async with run.message() as message:
        message.write("silence")
    return {}


@app.runner(timeout_seconds=0.1)
async def slow(run: RunContext) -> dict[str, Any]:
    """Takes too long."""
    await run.step("long", asyncio.sleep, 60)
    return {}


@app.runner
async def family(run: RunContext, children: int) -> dict[str, Any]:
    """Starts others and adds up what they give."""
    started = [await run.start("child", number=number) for number in range(children)]
    return {"sum": sum([(await child.result())["number"] for child in started])}


@app.runner
async def child(_: RunContext, number: int) -> dict[str, Any]:
    """Gives its number."""
    if number < 0:
        raise ValueError("negative")
    return {"number": number}


@app.runner
def plain(run: SyncRunContext, rounds: int) -> dict[str, Any]:
    """A plain function."""
    for number in range(rounds):
        run.progress(number + 1, rounds)
        run.step(f"row {number}", note, f"row {number}")
    with run.message() as text:
        text.write("done")
    run.sleep(0)
    return {"text": text.text}


@app.runner
def stubborn(run: SyncRunContext) -> dict[str, Any]:
    """Goes on until it is told to stop."""
    run.log("begun")
    while not run.is_cancel_requested:
        pass
    note("cleaned up")
    return {}


@app.runner(limit=Limit(most=1, key="user"))
async def alone(run: RunContext, user: str) -> dict[str, Any]:
    """One per user."""
    note(f"{user} begins")
    await run.step("work", asyncio.sleep, 0.05)
    note(f"{user} ends")
    return {}


@app.runner(cron="* * * * * *")
async def tick(run: RunContext) -> dict[str, Any]:
    """Every second."""
    return {"tick": run.attempt}


@pytest.fixture(autouse=True)
def _forget_calls() -> None:
    calls.clear()


@pytest.fixture(params=[60, 0], ids=["held", "parked"])
def park_seconds(request: pytest.FixtureRequest) -> float:
    """Waiting runs stay in memory, or are parked at once: nobody can tell."""
    seconds: float = request.param
    return seconds


@pytest.fixture
async def stack(redis_url: str, tmp_path: Path, park_seconds: float) -> AsyncIterator[Stack]:
    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path, park_seconds=park_seconds) as stack:
        yield stack


async def answer(stack: Stack, run_id: str, value: Any, *, request_id: str = "request-1") -> None:
    response = await stack.http.post(
        f"/runs/{run_id}/input", json={"requestId": request_id, "value": value, "by": "Ada"}
    )
    assert response.status_code == 202, response.text


def types(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames[1:]]


def statuses(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["payload"]["status"] for frame in frames[1:] if frame["type"].startswith("run_")]


def assert_whole(frames: list[dict[str, Any]]) -> None:
    assert [frame["seq"] for frame in frames[1:]] == list(range(1, len(frames)))


async def test_a_run_waits_for_an_approval_and_goes_on(stack: Stack) -> None:
    """Held or parked: what was done is not done again, what was said is not said again."""
    run_id = await stack.create("deploy", name="web")
    await wait_for_status(stack, run_id, "awaiting_approval")
    await answer(stack, run_id, {"approved": True})
    frames = await stack.follow(run_id)
    assert_whole(frames)
    assert frames[-1]["payload"]["output"] == {"deployed": True, "by": "Ada", "text": "Ready to deploy build web"}
    assert calls == ["build web", "deploy web"]
    assert types(frames).count("message_completed") == types(frames).count("input_requested") == 1
    resolved = next(frame["payload"] for frame in frames if frame["type"] == "input_resolved")
    assert (resolved["resolution"], resolved["value"], resolved["by"]) == ("answered", {"approved": True}, "Ada")
    assert statuses(frames) == ["queued", "running", "awaiting_approval", "running", "done"]


async def test_an_answer_reaches_a_run_of_a_worker_that_has_gone(stack: Stack) -> None:
    """A worker that stops leaves waiting runs parked; the next one goes on from there, without a word of a loss."""
    run_id = await stack.create("deploy")
    await wait_for_status(stack, run_id, "awaiting_approval")
    await stack.stop_worker()
    await answer(stack, run_id, {"approved": False})
    stack.start_worker()
    frames = await stack.follow(run_id)
    assert_whole(frames)
    assert frames[-1]["payload"]["output"] == {"deployed": False}
    assert "retrying" not in statuses(frames)
    assert (await stack.get(f"/runs/{run_id}"))["losses"] == 0


async def test_a_question_that_nobody_answers_expires(stack: Stack) -> None:
    """The runner sees a time-out, watchers see that it has expired."""
    frames = await stack.follow(await stack.create("impatient"))
    assert frames[-1]["payload"]["output"] == {"answered": False}
    assert [frame["payload"]["resolution"] for frame in frames if frame["type"] == "input_resolved"] == ["expired"]


async def test_a_waiting_run_is_canceled(stack: Stack) -> None:
    """Held or parked."""
    run_id = await stack.create("deploy")
    await wait_for_status(stack, run_id, "awaiting_approval")
    await stack.http.post(f"/runs/{run_id}/cancel")
    frames = await stack.follow(run_id)
    assert frames[-1]["payload"]["status"] == "canceled"
    assert_whole(frames)


async def test_a_sleep_ends_at_its_time_whoever_executes_the_run(stack: Stack) -> None:
    """The steps before it are not executed again."""
    frames = await stack.follow(await stack.create("nap", seconds=0.3))
    assert frames[-1]["payload"]["status"] == "done"
    assert calls == ["before", "after"]
    assert_whole(frames)


async def test_two_hundred_runs_wait_beside_each_other_in_one_slot(redis_url: str, tmp_path: Path) -> None:
    """Waiting takes no slot."""
    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path, concurrency=1) as stack:
        run_ids = [await stack.create("deploy", name=str(number)) for number in range(20)]
        for run_id in run_ids:
            await wait_for_status(stack, run_id, "awaiting_approval")
        await asyncio.gather(*(answer(stack, run_id, {"approved": True}) for run_id in run_ids))
        for run_id in run_ids:
            await wait_for_status(stack, run_id, "done")


async def test_a_run_that_failed_is_tried_again_as_often_as_its_runner_says(stack: Stack) -> None:
    """Committed steps are skipped; the watcher sees why and when."""
    frames = await stack.follow(await stack.create("flaky", failures=1))
    assert frames[-1]["payload"]["output"] == {"attempt": 2}
    retrying = next(frame["payload"] for frame in frames if frame["payload"].get("status") == "retrying")
    assert (retrying["reason"], retrying["error"]["message"], retrying["attempt"]) == ("failed", "not yet", 2)
    assert calls == ["once"]
    assert_whole(frames)


async def test_what_was_said_to_its_end_stands_though_its_step_is_executed_again(stack: Stack) -> None:
    """It isn't said again, to no watcher, and the runner has the text that was said."""
    run_id = await stack.create("speaker")
    frames = await stack.follow(run_id)
    assert [frame["payload"]["text"] for frame in frames if frame["type"] == "message_completed"] == [
        "hello",
        "goodbye",
        "silence",
    ]
    async with connect(f"ws://127.0.0.1:{stack.settings.port}/ws/runs/{run_id}?snapshot=1") as socket:
        snapshot = await receive(socket)
        while snapshot["type"] != "snapshot":
            snapshot = await receive(socket)
    assert [message["text"] for message in snapshot["payload"]["messages"]] == ["hello", "goodbye", "silence"]


async def test_a_fatal_error_is_not_tried_again(stack: Stack) -> None:
    """It ends the run at once."""
    frames = await stack.follow(await stack.create("flaky", failures=1, fatal=True))
    assert statuses(frames) == ["queued", "running", "failed"]


async def test_a_run_that_works_too_long_is_timed_out(stack: Stack) -> None:
    """Its open step is cut short, and the run says how it ended."""
    frames = await stack.follow(await stack.create("slow"))
    assert frames[-1]["payload"]["status"] == "timed_out"
    assert frames[-2]["type"] == "step_failed"


async def test_a_run_gets_what_its_children_give(stack: Stack) -> None:
    """They are runs of their own, and know their parent."""
    run_id = await stack.create("family", children=5)
    frames = await stack.follow(run_id)
    assert frames[-1]["payload"]["output"] == {"sum": 10}
    assert types(frames).count("child_started") == types(frames).count("child_ended") == 5
    started = next(frame["payload"]["runId"] for frame in frames if frame["type"] == "child_started")
    assert (await stack.get(f"/runs/{started}"))["parentId"] == run_id


async def test_a_plain_function_runs_in_a_thread(stack: Stack) -> None:
    """With the same words, which block there."""
    frames = await stack.follow(await stack.create("plain", rounds=3))
    assert frames[-1]["payload"]["output"] == {"text": "done"}
    assert types(frames).count("step_succeeded") == 3
    assert_whole(frames)


async def test_a_plain_function_is_told_to_stop(stack: Stack) -> None:
    """It cleans up, and then the run has ended as canceled."""
    run_id = await stack.create("stubborn")
    await wait_for_status(stack, run_id, "running")
    await stack.http.post(f"/runs/{run_id}/cancel")
    frames = await stack.follow(run_id)
    assert frames[-1]["payload"]["status"] == "canceled"
    assert calls == ["cleaned up"]


async def test_runs_of_one_key_follow_each_other(stack: Stack) -> None:
    """One at a time for each user, users beside each other; none is forgotten."""
    run_ids = [await stack.create("alone", user=user) for user in ("a", "a", "b", "a")]
    for run_id in run_ids:
        await wait_for_status(stack, run_id, "done")
    of_a = [call for call in calls if call.startswith("a")]
    assert of_a == ["a begins", "a ends"] * 3


async def test_a_runner_with_a_schedule_runs_by_itself(stack: Stack) -> None:
    """At each of its times, once."""
    async with asyncio.timeout(20):
        while len(runs := (await stack.get("/runs?runner=tick&status=done"))["runs"]) < 2:
            await asyncio.sleep(0.05)
    created = [datetime.fromisoformat(run["createdAt"]).replace(microsecond=0) for run in runs]
    assert len(set(created)) == len(created)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cron": "now and then"}, "cron="),
        ({"cron": "0 9 * * *", "timezone": "Moon/Sea"}, "time zone"),
        ({"limit": Limit(most=1, key="nobody")}, "none of its inputs"),
        ({"limit": Limit(most=0)}, "1 or more"),
        ({"limit": Limit(1, on_full=cast("Any", "drop"))}, "queue, reject, cancel_older"),
        ({"retries": -1}, "retries"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
    ],
)
def test_a_runner_whose_options_cant_work_is_refused(options: dict[str, Any], words: str) -> None:
    """Where it is written, before anything starts."""

    async def runner(run: RunContext) -> None: ...

    with pytest.raises(ConfigurationError, match=words):
        Runcast().runner(**options)(runner)
