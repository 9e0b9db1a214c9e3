"""What a run leaves behind: questions that it no longer asks, tries that are to come, children, an undo that failed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from runcast import FatalError, Runcast, RunContext
from runcast.assembly import Parts, make_processor, migrate, open_parts
from runcast.config import Settings
from runcast.errors import RequestClosedError, UnavailableError
from runcast.events import EventType, RunStatus, StepStatus
from runcast.ports import RunLog
from runcast.services.handover import ChildRuns
from runcast.services.runs import RunRequest
from runcast.testing import RunHarness, RunResult
from tests.services.test_races import Meddler, until

app = Runcast()
calls: list[str] = []
log_tried = asyncio.Event()


@app.runner
async def hurry(run: RunContext) -> str:
    """Gives up asking, in a step, and asks something else."""
    async with run.step("ask"):
        try:
            async with asyncio.timeout(0.01):
                await run.approve("Now?")
        except TimeoutError:
            calls.append("gave up")
    return await run.ask("When?", schema=str)


@app.runner
async def change_of_mind(run: RunContext) -> str:
    """Asks two things at first, and later only the second."""
    async with asyncio.TaskGroup() as group:
        if run.attempt == 1:
            group.create_task(run.ask("First?", schema=str))
            second = group.create_task(run.ask("Second?", schema=str))
        else:
            second = group.create_task(_ask_second(run))
    return f"{second.result()} in attempt {run.attempt}"


async def _ask_second(run: RunContext) -> str:
    async with run.step("later"):
        return await run.ask("Third?", schema=str)


@app.step(retries=2, wait_seconds=0.3)
def falter() -> str:
    calls.append("try")
    if len(calls) == 1:
        raise ConnectionError("not yet")
    return "done"


@app.runner
async def beside(run: RunContext) -> str:
    """Works at something that has to be tried again, and asks meanwhile."""
    async with asyncio.TaskGroup() as group:
        group.create_task(run.step("falter", falter))
        asked = group.create_task(run.ask("Who?", schema=str))
    return asked.result()


@app.runner
async def late(run: RunContext) -> str:
    """Asks once the log was tried."""
    run.log("begun")
    await log_tried.wait()
    return await run.ask("Who?", schema=str)


async def _give_up() -> None:
    calls.append("call")
    raise FatalError("it can't be done")


@app.step(retries=3, wait_seconds=0)
async def crowd() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_give_up())


@app.runner(retries=3)
async def hopeless(run: RunContext) -> None:
    """Fails for good, in a group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(run.step("crowd", crowd))


def take_back(what: str) -> None:
    calls.append(f"undo {what}")
    if calls.count("undo a") == 1 and what == "a":
        raise FatalError("the shop is closed")


@app.step(undo=take_back)
def put(what: str) -> str:
    return what


@app.runner
async def shop(run: RunContext) -> None:
    """Does three things that can be undone, one by a long name."""
    for name, what in (("a", "a"), ("b", "b"), ("c" * 200, "c")):
        await run.step(name, put, what)


@pytest.fixture(autouse=True)
def _forget() -> None:
    calls.clear()
    log_tried.clear()


@pytest.fixture
async def parts(redis_url: str, tmp_path: Path) -> AsyncIterator[Parts]:
    settings = settings_of(redis_url, tmp_path)
    await migrate(settings)
    async with open_parts(settings, app) as parts:
        yield parts


@pytest.fixture
async def harness(redis_url: str, tmp_path: Path) -> AsyncIterator[RunHarness]:
    async with RunHarness(app, redis_url=redis_url, data_dir=tmp_path) as harness:
        yield harness


def settings_of(redis_url: str, tmp_path: Path) -> Settings:
    return Settings.load(
        redis_url=redis_url, data_dir=tmp_path, database_url=None, park_seconds=0, shutdown_seconds=0, lease_seconds=30
    )


async def wait_asked(harness: RunHarness, run_id: str, prompt: str) -> RunResult:
    async with asyncio.timeout(10):
        while True:
            result = await harness.look(run_id)
            if any(request.prompt == prompt for request in result.open_requests):
                return result
            await asyncio.sleep(0.01)


async def test_a_question_that_is_given_up_is_closed(redis_url: str, tmp_path: Path) -> None:
    """By a time limit of the runner's own: watchers are told, and nobody can answer it any more."""
    async with RunHarness(app, redis_url=redis_url, data_dir=tmp_path, park_seconds=60) as harness:
        run_id = await harness.start(hurry)
        result = await wait_asked(harness, run_id, "When?")
        assert calls == ["gave up"]
        assert [request.prompt for request in result.open_requests] == ["When?"]
        resolved = await harness.wait_for(run_id, EventType.INPUT_RESOLVED)
        assert (resolved.payload["kind"], resolved.payload["resolution"]) == ("approval", "expired")
        given_up = next(request for request in result.requests if request.prompt == "Now?")
        with pytest.raises(RequestClosedError, match="it has expired"):
            await harness.answer(run_id, {"approved": True}, request_id=given_up.id)
        assert (await harness.answer(run_id, "soon")).output == "soon"


async def test_an_answer_that_nobody_waits_for_wakes_a_run_once(harness: RunHarness) -> None:
    """The next attempt asks something else: it is parked, and stays so until that is answered."""
    asked = await harness.run(change_of_mind)
    await harness.answer(asked.id, "one", request_id=asked.requests[0].id)
    told = await harness.wait_for(asked.id, EventType.INPUT_RESOLVED)
    assert (told.attempt, told.payload["resolution"], told.payload["value"]) == (2, "answered", "one")
    waiting = await wait_asked(harness, asked.id, "Third?")
    await harness.answer(asked.id, "three", request_id=waiting.requests[-1].id)
    await harness.wait_for(asked.id, EventType.RUN_COMPLETED)
    assert (await harness.look(asked.id)).output == "three in attempt 3"


async def test_a_run_is_not_parked_between_two_tries_of_a_step(harness: RunHarness) -> None:
    """The step gets its next try while the question is open."""
    run_id = await harness.start(beside)
    succeeded = await harness.wait_for(run_id, EventType.STEP_SUCCEEDED)
    assert (succeeded.attempt, len(calls)) == (1, 2)
    assert (await harness.answer(run_id, "Ada")).output == "Ada"
    assert len(calls) == 2


async def test_a_run_that_waits_hears_its_answer_while_redis_is_away(
    parts: Parts, redis_url: str, tmp_path: Path
) -> None:
    """It isn't parked, for that would have to wait for the log."""
    is_away = True

    async def fail(go_on: Callable[[], Awaitable[Any]], *_: Any) -> Any:
        if not is_away:
            return await go_on()
        asyncio.get_running_loop().call_soon(log_tried.set)  # once the writer knows
        raise UnavailableError("Redis is away")

    log = cast("RunLog", Meddler(cast("Any", parts.log), append_all=fail))
    processor = make_processor(settings_of(redis_url, tmp_path), replace(parts, log=log))
    working = asyncio.create_task(processor.run())
    run, _ = await parts.runs.create(RunRequest(runner="late", input={}))

    async def has_asked() -> bool:
        return (await parts.runs.get(run.id)).status is RunStatus.AWAITING_INPUT

    async def is_done() -> bool:
        return (await parts.runs.get(run.id)).status is RunStatus.DONE

    try:
        await until(has_asked)
        await parts.runs.answer(run.id, None, "Ada")
        await until(is_done)
        assert (await parts.runs.get(run.id)).attempt == 1
    finally:
        is_away = False
        working.cancel()
        await asyncio.wait([working])


async def test_a_child_that_comes_just_after_the_cancel_is_canceled_too(parts: Parts) -> None:
    """Whoever canceled its parent could not know of it."""
    parent, _ = await parts.runs.create(RunRequest(runner="late", input={}))
    await parts.store.renew_lease("w", until=datetime(2099, 1, 1, tzinfo=UTC))
    await parts.store.claim_run(parent.id, "w", now=parts.clock())
    await parts.runs.cancel(parent.id)
    child = await ChildRuns(parts.runs).start("late", {}, parent_id=parent.id, key="child:1")
    assert child.status is RunStatus.CANCELED


async def test_a_child_is_its_parents_whatever_another_attempt_asks_for(parts: Parts) -> None:
    """Its key is the place in the parent's code: it is found again, not refused, with an input that has changed."""
    parent, _ = await parts.runs.create(RunRequest(runner="late", input={}))
    children = ChildRuns(parts.runs)
    first, again = [
        await children.start("prompt", {"prompt": f"wait {number} ms"}, parent_id=parent.id, key="child:1")
        for number in (1, 2)
    ]
    assert (again.id, again.input["prompt"]) == (first.id, "wait 1 ms")


async def test_a_fatal_error_in_a_group_is_not_tried_again(harness: RunHarness) -> None:
    """Neither the step nor the run; and watchers are told the error, not the group's."""
    result = await harness.run(hopeless)
    assert (result.status, calls) == (RunStatus.FAILED, ["call"])
    assert result.error is not None
    assert result.error.message == "it can't be done"
    assert [step.status for step in result.steps] == [StepStatus.FAILED]


async def test_an_undo_that_failed_goes_on_where_it_ended(harness: RunHarness) -> None:
    """In another run; what is undone stays so, and once all of it is, no more undo runs are made."""
    shopped = await harness.run(shop)
    failed = await harness.undo(shopped.id)
    assert (failed.status, calls) == (RunStatus.FAILED, ["undo c", "undo b", "undo a"])
    undone = await harness.undo(shopped.id)
    assert (undone.status, undone.output) == (RunStatus.DONE, {"runId": shopped.id, "undone": ["a"]})
    assert calls == ["undo c", "undo b", "undo a", "undo a"]
    assert (await harness.undo(shopped.id)).id == undone.id
