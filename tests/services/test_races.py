"""What may happen at the same moment: a cancel and a parking, a wake and a leaving, two who come for one place."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from runcast import Limit, Runcast, RunContext, SyncRunContext
from runcast.assembly import Parts, make_processor, migrate, open_parts
from runcast.config import Settings
from runcast.events import START, RunStatus
from runcast.ports import RunStore
from runcast.records import Commit, StatusChange
from runcast.services.journal import Past, RunJournal
from runcast.services.runs import RunRequest, RunService
from runcast.services.waiting import Slots, TimeLimit, Waits
from runcast.testing import RunHarness

app = Runcast()
calls: list[str] = []


@app.runner
async def ask(run: RunContext) -> str:
    """Asks."""
    return await run.ask("Who?", schema=str)


@app.runner(limit=Limit(most=1, on_full="cancel_older"))
async def latest(run: RunContext) -> str:
    """The newest counts."""
    return await run.ask("Who?", schema=str)


@app.runner
def crowd(run: SyncRunContext) -> list[str]:
    """Asks in two threads of its own."""

    def ask_in_thread(number: int) -> str:
        try:
            return str(run.ask(f"Who, {number}?"))
        finally:
            calls.append("ended")

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(ask_in_thread, range(2)))


@app.runner
async def clumsy(run: RunContext) -> int:
    """Breaks when it is told to stop."""
    if run.attempt == 1:
        run.log("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RuntimeError("it could not clean up") from None
    return run.attempt


@pytest.fixture(autouse=True)
def _forget_calls() -> None:
    calls.clear()


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings.load(
        redis_url=redis_url, data_dir=tmp_path, database_url=None, park_seconds=0, shutdown_seconds=0, lease_seconds=30
    )


@pytest.fixture
async def parts(settings: Settings) -> AsyncIterator[Parts]:
    await migrate(settings)
    async with open_parts(settings, app) as parts:
        yield parts


class Meddler:
    """A store that lets something happen before or after one of its methods."""

    def __init__(self, store: RunStore, **meddling: Callable[..., Awaitable[Any]]) -> None:
        self._store = store
        self._meddling = meddling

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        meddle = self._meddling.get(name)
        if meddle is None:
            return method

        async def meddled(*args: Any, **kwargs: Any) -> Any:
            return await meddle(lambda: method(*args, **kwargs), *args)

        return meddled


class SilentWriter:
    """A writer that nobody hears."""

    run_id, attempt, is_fenced = "parent", 1, False

    def write(self, *_: Any, **__: Any) -> int:
        return 1


def service_on(parts: Parts, store: Meddler) -> RunService:
    return RunService(
        app=app,
        store=cast("RunStore", store),
        log=parts.log,
        queue=parts.queue,
        clock=parts.clock,
        max_prompt_chars=1_000,
    )


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_cancel_finds_a_run_that_is_parked_meanwhile(parts: Parts) -> None:
    """Held when it was looked at first, and nobody's when its holder was to be asked."""
    run, _ = await parts.runs.create(RunRequest(runner="ask", input={}))
    await parts.store.renew_lease("w", until=datetime(2099, 1, 1, tzinfo=UTC))
    await parts.store.claim_run(run.id, "w", now=parts.clock())

    async def park_first(go_on: Callable[[], Awaitable[Any]], *_: Any) -> Any:
        change = StatusChange(status=RunStatus.AWAITING_INPUT, at=parts.clock(), is_parked=True)
        await parts.store.commit(Commit(run_id=run.id, attempt=1, events=(), change=change))
        return await go_on()

    canceled = await service_on(parts, Meddler(parts.store, request_cancel=park_first)).cancel(run.id)
    assert canceled.status is RunStatus.CANCELED


async def test_of_two_that_are_created_at_once_the_newer_stays(parts: Parts) -> None:
    """Each sees the other; only the older is canceled."""
    both = asyncio.Barrier(2)

    async def list_together(go_on: Callable[[], Awaitable[Any]], *_: Any) -> Any:
        await both.wait()
        return await go_on()

    service = service_on(parts, Meddler(parts.store, list_under_way=list_together))
    request = RunRequest(runner="latest", input={})
    created = await asyncio.gather(service.create(request), service.create(request))
    ended = sorted([await parts.runs.get(run.id) for run, _ in created], key=lambda run: (run.created_at, run.id))
    assert [run.status for run in ended] == [RunStatus.CANCELED, RunStatus.QUEUED]


async def test_a_run_that_is_woken_while_its_worker_leaves_it_goes_on_at_once(settings: Settings, parts: Parts) -> None:
    """The job that wakes it comes to the same worker before that has finished the one before."""

    async def answer_then_dawdle(go_on: Callable[[], Awaitable[Any]], commit: Commit) -> Any:
        await go_on()
        if commit.change is not None and commit.change.is_parked:
            await parts.runs.answer(commit.run_id, None, "Ada")
            await asyncio.sleep(0.2)  # the job is taken meanwhile

    store = cast("RunStore", Meddler(parts.store, commit=answer_then_dawdle))
    working = asyncio.create_task(make_processor(settings, parts, store=store).run())
    run, _ = await parts.runs.create(RunRequest(runner="ask", input={}))

    async def is_done() -> bool:
        return (await parts.runs.get(run.id)).status is RunStatus.DONE

    try:
        await until(is_done)
    finally:
        working.cancel()
        await asyncio.wait([working])


async def test_a_runner_that_breaks_when_its_worker_stops_is_left_to_another(settings: Settings, parts: Parts) -> None:
    """It was the worker that ended it, so its run hasn't failed."""
    run, _ = await parts.runs.create(RunRequest(runner="clumsy", input={}))

    async def has_begun() -> bool:
        return len(await parts.store.read_events(run.id, START, limit=10)) == 3

    async def is_done() -> bool:
        return (await parts.runs.get(run.id)).status.is_final

    for condition in (has_begun, is_done):
        working = asyncio.create_task(make_processor(settings, parts).run())
        try:
            await until(condition)
        finally:
            working.cancel()
            await asyncio.wait([working])
    ended = await parts.runs.get(run.id)
    assert (ended.status, ended.output) == (RunStatus.DONE, 2)


async def test_threads_that_wait_are_all_told_to_stop(redis_url: str, tmp_path: Path) -> None:
    """However many of them a plain function has."""
    async with RunHarness(app, redis_url=redis_url, data_dir=tmp_path, park_seconds=60) as harness:
        run_id = await harness.start("crowd")

        async def has_asked_twice() -> bool:
            return len((await harness.look(run_id)).requests) == 2

        await until(has_asked_twice)
        began = time.monotonic()
        assert (await harness.cancel(run_id)).status is RunStatus.CANCELED
        assert time.monotonic() - began < 3
        assert calls == ["ended"] * 2


async def test_a_child_that_ends_while_it_is_looked_at_is_noticed(parts: Parts) -> None:
    """The word of its end comes after the database was read, and before the parent begins to wait for it."""
    child, _ = await parts.runs.create(RunRequest(runner="ask", input={}))
    looks = 0

    async def end_meanwhile(go_on: Callable[[], Awaitable[Any]], run_id: str) -> Any:
        nonlocal looks
        looks += 1
        found = await go_on()
        if looks == 1:
            await parts.runs.cancel(run_id)
            journal.receive_child_ended(run_id)
        return found

    waits = Waits(slot=Slots(1).take(), limit=TimeLimit(None, lambda: None), park_seconds=60, on_park=lambda: None)
    journal = RunJournal(
        cast("Any", SilentWriter()),
        clock=parts.clock,
        store=cast("RunStore", Meddler(parts.store, get_run=end_meanwhile)),
        waits=waits,
        children=cast("Any", None),
        artifacts=parts.artifacts,
        past=Past(),
    )
    async with asyncio.timeout(3):
        ended = await journal.wait_child(child.id, step_id=None)
    assert (ended.status, looks) == (RunStatus.CANCELED, 2)
