"""The lookout when something goes wrong: with one run, with the log, with the whole process."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from runcast.events import Cursor, RunStatus
from runcast.records import Head, LinkState
from runcast.services.lookout import TICK_SLICES, Lookout

LAST = Cursor(1, 7)


class ModelRun:
    """Counts what it is told; a bad one raises whenever it is told anything."""

    def __init__(self, *, is_bad: bool = False) -> None:
        self.is_over = False
        self.is_bad = is_bad
        self.ticks = 0
        self.lasts: list[Cursor] = []
        self.is_told = asyncio.Event()
        self.is_ticked = asyncio.Event()

    def is_look_due(self) -> bool:
        return True

    def receive_last(self, last: Cursor) -> None:
        self.lasts.append(last)
        if len(self.lasts) > 2:  # more than one look
            self.is_told.set()
        self._break()

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks > 1:
            self.is_ticked.set()
        self._break()

    def _break(self) -> None:
        if self.is_bad:
            raise ValueError("bad run")


class ModelLog:
    """A log that is there, and may answer with something that nobody expects."""

    def __init__(self, *, is_bad: bool = False) -> None:
        self.is_bad = is_bad
        self.asked = 0

    def get_stats(self) -> LinkState:
        return LinkState(channels=0, handlers=0, connected=True)

    def on_gap(self, _handler: object) -> Any:
        return lambda: None

    async def read_last(self, run_ids: Sequence[str]) -> Sequence[Cursor]:
        self.asked += 1
        if self.is_bad:
            raise ValueError("WRONGTYPE")
        return [LAST for _ in run_ids]

    async def read_heads(self, run_ids: Sequence[str]) -> Mapping[str, Head]:
        return {run_id: Head(LAST, RunStatus.RUNNING) for run_id in run_ids}


@asynccontextmanager
async def looking_out(runs: Mapping[str, ModelRun], log: ModelLog, *, heartbeat_seconds: float) -> AsyncIterator[None]:
    lookout = Lookout(
        log=log,  # type: ignore[arg-type]  # it has the methods that are used
        store=log,  # type: ignore[arg-type]  # here, too
        heartbeat_seconds=heartbeat_seconds,
        poll_seconds=1,
    )
    for run_id, run in runs.items():
        lookout.add(run_id, run)
    lookout.start()
    try:
        yield
    finally:
        await lookout.close()


async def test_one_run_that_fails_keeps_nobody_from_looks_and_heartbeats() -> None:
    """It is told of in the log; the others are looked after, again and again, and so is it."""
    runs = {"bad": ModelRun(is_bad=True), "good": ModelRun()}
    async with looking_out(runs, ModelLog(), heartbeat_seconds=0.05), asyncio.timeout(10):
        for run in runs.values():
            await run.is_told.wait()
            await run.is_ticked.wait()
    assert set(runs["good"].lasts) == {LAST}


async def test_a_log_that_fails_keeps_nobody_from_the_database_and_is_not_pressed() -> None:
    """What can't be read is asked again at the next look, not at once."""
    log, run = ModelLog(is_bad=True), ModelRun()
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with looking_out({"good": run}, log, heartbeat_seconds=0.1), asyncio.timeout(10):
        await run.is_told.wait()
    assert run.lasts[0] == LAST
    assert log.asked <= (loop.time() - began) / (0.1 * 0.4) + 1


async def test_a_process_that_was_frozen_does_not_make_up_for_missed_heartbeats() -> None:
    """After it stood still for ten rounds of heartbeats, the next one comes in its own time."""
    heartbeat_seconds = 0.64
    step_seconds = heartbeat_seconds / 2 / TICK_SLICES
    times: list[float] = []
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()

    class TimedRun(ModelRun):
        def tick(self) -> None:
            if not times:
                time.sleep(10 * heartbeat_seconds / 2)  # the process, not the task, stands still
            times.append(loop.time())
            if len(times) > TICK_SLICES:
                enough.set()

    # One in each part, so that a tick tells when its part was looked after.
    names: dict[int, str] = {}
    while len(names) < TICK_SLICES:
        name = f"run-{secrets.token_hex(4)}"
        names.setdefault(hash(name) % TICK_SLICES, name)
    async with looking_out(dict.fromkeys(names.values(), TimedRun()), ModelLog(), heartbeat_seconds=heartbeat_seconds):
        async with asyncio.timeout(20):
            await enough.wait()
    # The first after the freeze may be due at once; those after it are a step apart.
    assert times[-1] - times[1] >= step_seconds * (TICK_SLICES - 2)
