"""What a step's function is handed over as its run: a context that fits the function, in the step that it is."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from runcast import Runcast, RunContext, SyncRunContext
from runcast.errors import RunCanceledError, StaleAttemptError, StepTimedOutError
from runcast.threads import call_in_thread
from tests.support.journal import RecordingJournal, recorded_run

app = Runcast()


def load(run: SyncRunContext, rows: int) -> str:
    """A plain function that says how far it is."""
    for row in range(rows):
        run.progress(row + 1, rows)
    run.log("loaded")
    with run.message() as text:
        text.write("all rows")
    run.step("inner", str)
    return text.text


class NestedJournal(RecordingJournal):
    """Remembers in which step each event was told."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[tuple[str, str | None]] = []
        self.parents: list[str | None] = []

    def write(self, event_type: Any, payload: Any, *, step_id: str | None = None) -> None:
        super().write(event_type, payload, step_id=step_id)
        self.places.append((event_type.value, step_id))

    def start_step(self, name: str, input: Any, *, parent_id: str | None, is_block: bool) -> Any:  # noqa: A002
        del input
        self.parents.append(parent_id)
        return super().start_step(name, None, parent_id=parent_id, is_block=is_block)


@pytest.fixture
def journal() -> NestedJournal:
    return NestedJournal()


@pytest.fixture
async def run(journal: NestedJournal) -> AsyncIterator[RunContext]:
    context, _ = recorded_run(journal=journal)
    yield context
    for thread in threading.enumerate():
        if thread.name.startswith("step"):
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize("by_name", [False, True])
async def test_a_plain_step_says_how_far_it_is(run: RunContext, journal: NestedJournal, by_name: bool) -> None:  # noqa: FBT001
    """It is handed over a context that blocks, in the step that it is, wherever among its arguments the run stands."""
    begin: Any = run.step
    step = begin("load", load, rows=2, run=run) if by_name else begin("load", load, run, 2)
    assert await step == "all rows"
    told = ["step_progress", "step_progress", "log", "message_started", "message_delta", "message_completed"]
    assert [(each, "step-1") for each in told] == [place for place in journal.places if place[1] is not None]
    assert journal.parents == [None, "step-1"]


async def test_a_plain_runners_async_step_has_a_run_to_await(run: RunContext, journal: NestedJournal) -> None:
    """And its plain steps have one that blocks."""

    async def say(run: RunContext) -> None:
        run.log("said")
        async with run.message() as text:
            text.write("hello")

    def runner(run: SyncRunContext) -> str:
        run.step("say", say, run)
        return run.step("load", load, run, 1)

    assert await call_in_thread(runner, run) == "all rows"
    assert ("log", "step-1") in journal.places
    assert ("step_progress", "step-2") in journal.places


async def test_a_decorated_async_step_has_a_run_to_await(run: RunContext, journal: NestedJournal) -> None:
    """Though what decorates it is a plain function."""

    def decorate(function: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        @functools.wraps(function)
        def call(*args: Any) -> Awaitable[None]:
            return function(*args)

        return call

    @decorate
    async def say(run: RunContext) -> None:
        run.log("said")

    await run.step("say", say, run)
    assert ("log", "step-1") in journal.places


async def test_a_plain_step_is_told_that_its_run_is_canceled(run: RunContext) -> None:
    """What it calls next raises, and it is waited for: it may clean up."""
    begun, ended = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def work(run: SyncRunContext) -> None:
        loop.call_soon_threadsafe(begun.set)
        while not run.is_cancel_requested:
            pass
        with pytest.raises(RunCanceledError):
            run.log("more")
        ended.set()

    task = asyncio.ensure_future(run.step("work", work, run))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert ended.is_set()


async def test_a_plain_step_that_waits_for_somebody_is_told_too(journal: NestedJournal) -> None:
    """Its question is withdrawn."""
    asked, ended = asyncio.Event(), threading.Event()

    async def ask(*_: Any, **__: Any) -> Any:
        asked.set()
        await asyncio.Event().wait()

    def work(run: SyncRunContext) -> None:
        try:
            run.ask("Who?")
        except RunCanceledError:
            ended.set()
            raise

    journal.ask = ask  # type: ignore[method-assign]
    run, _ = recorded_run(journal=journal)
    task = asyncio.ensure_future(run.step("work", work, run))
    await asked.wait()
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), ended.is_set()) == (True, True)


async def test_a_plain_step_that_is_late_is_left_to_itself(run: RunContext, journal: NestedJournal) -> None:
    """Nobody waits for it, and what it says on its run afterwards is refused."""
    may_go_on, ended = threading.Event(), threading.Event()
    refused: list[BaseException] = []

    @app.step(timeout_seconds=0.01)
    def late(run: SyncRunContext) -> None:
        may_go_on.wait(10)
        try:
            run.log("too late")
        except RunCanceledError as error:
            refused.append(error)
        finally:
            ended.set()

    with pytest.raises(StepTimedOutError):
        await run.step("late", late, run)
    may_go_on.set()
    await asyncio.to_thread(ended.wait, 10)
    assert len(refused) == 1
    assert "log" not in journal.types


async def test_a_plain_step_hears_that_another_has_the_run(journal: NestedJournal) -> None:
    """As it would in the event loop."""

    def work(run: SyncRunContext) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise StaleAttemptError("run-1", 1)

        journal.write = refuse  # type: ignore[method-assign]
        run.log("mine")

    run, _ = recorded_run(journal=journal)
    with pytest.raises(StaleAttemptError):
        await run.step("work", work, run)


async def test_plain_steps_within_plain_steps_never_wait_for_a_thread(run: RunContext) -> None:
    """However many there are: each that has the run has a thread of its own."""

    def outer(run: SyncRunContext, depth: int) -> int:
        return run.step("deeper", outer, run, depth - 1) + 1 if depth else 0

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        tasks = [group.create_task(run.step(f"outer {number}", outer, run, 3)) for number in range(40)]
    assert {task.result() for task in tasks} == {3}


async def test_a_context_that_blocks_does_not_block_the_event_loop(run: RunContext) -> None:
    """Called there it would wait for itself: it says so instead."""

    def runner(run: SyncRunContext) -> None:
        async def careless() -> None:
            run.log("never said")

        run.step("careless", careless)

    with pytest.raises(RuntimeError, match="RunContext"):
        await call_in_thread(runner, run)
