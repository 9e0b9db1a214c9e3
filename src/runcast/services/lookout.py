"""The lookout: sends heartbeats, and looks after what the wire may have lost.

Twice between two heartbeats it asks how far those watched runs have got that nothing was heard of lately: their logs, a
hundred in a round trip, and the database, in one query for all; for the end of a run is a fact there even if nobody
could tell the log of it. So a lost *last* message is noticed within a heartbeat; any other is noticed by the next that
comes. A run that goes on being quiet is asked about every other time. When the wire has had a gap it looks into all at
once. While Redis is away, or the gateway is told to do without it, the database is asked every `poll_seconds`. What it
asks of the logs grows with the quiet runs watched here that go on, never with their watchers.

Heartbeats don't wait for any of this.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Final, Protocol, TypeVar

from runcast.concurrency import end_tasks
from runcast.errors import UnavailableError
from runcast.events import Cursor
from runcast.logs import get_logger
from runcast.ports import RunLog, RunStore

log = get_logger()

TICK_SLICES: Final = 64
"""Parts of the watched runs whose heartbeats are looked after one after the other: many small delays, no long one."""

MAX_RUNS_PER_LOOK: Final = 100
"""Asking for more at once would hold up the event loop."""

MAX_RUNS_PER_QUERY: Final = 5_000
"""A database takes only so many parameters."""

T = TypeVar("T")


class WatchedRun(Protocol):
    """What the lookout needs of a watched run."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        ...

    def is_look_due(self) -> bool:
        """Whether it is to be asked about this time. To be called each time."""
        ...

    def receive_last(self, last: Cursor) -> None:
        """Take the word that the run's log reaches to `last`."""
        ...

    def tick(self) -> None:
        """Send heartbeats where they are due."""
        ...


class Lookout:
    """`start` before use, `close` after."""

    def __init__(
        self,
        *,
        log: RunLog,
        store: RunStore,
        heartbeat_seconds: float,
        poll_seconds: float,
    ) -> None:
        self._watched: Final[tuple[dict[str, WatchedRun], ...]] = tuple({} for _ in range(TICK_SLICES))  # by run id
        self._log: Final = log
        self._store: Final = store
        self._heartbeat_seconds: Final = heartbeat_seconds
        self._poll_seconds: Final = poll_seconds
        self._gap: Final = asyncio.Event()
        self._undo_gap: Callable[[], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, run_id: str, run: WatchedRun) -> None:
        """Look after a run."""
        self._watched[hash(run_id) % TICK_SLICES][run_id] = run

    def discard(self, run_id: str) -> None:
        """Look after a run no more."""
        self._watched[hash(run_id) % TICK_SLICES].pop(run_id, None)

    def start(self) -> None:
        """Begin."""
        self._undo_gap = self._log.on_gap(self._gap.set)
        self._tasks = [
            asyncio.create_task(self._send_heartbeats(), name="heartbeats"),
            asyncio.create_task(self._look_out(), name="lookout"),
        ]

    async def close(self) -> None:
        """End."""
        if self._undo_gap is not None:
            self._undo_gap()
        await end_tasks(*self._tasks)

    async def _send_heartbeats(self) -> None:
        # Spread over time, so that the heartbeats of many runs never hold up an event.
        slices = cycle(self._watched)
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            # A process that was frozen doesn't make up for the heartbeats it has missed.
            due = max(due + self._heartbeat_seconds / 2 / TICK_SLICES, loop.time())
            await asyncio.sleep(due - loop.time())
            for run_id, run in tuple(next(slices).items()):
                with _spare_others(run_id):
                    run.tick()

    async def _look_out(self) -> None:
        # A round's looks are spread over half of its time, so that a thousand quiet runs don't hold up an event either.
        interval = pause = self._heartbeat_seconds * 0.4
        left: list[Mapping[str, WatchedRun]] = []  # looks of this round that are still to come
        step = 0.0  # from one to the next
        while True:
            is_connected = self._log.get_stats().connected
            has_gap = await self._wait_for_gap(pause if is_connected else self._poll_seconds)
            if has_gap or not is_connected:
                left, pause = [], interval
                runs = self._plan_looks(must_ask_all=True)
                for some in _slice(runs, MAX_RUNS_PER_LOOK):
                    await self._look_into_log(some)
                await self._look_into_database(runs)
                continue
            if not left:
                runs = self._plan_looks(must_ask_all=False)
                left = list(_slice(runs, MAX_RUNS_PER_LOOK))
                step, pause = interval / 2 / max(len(left), 1), interval
                await self._look_into_database(runs)
            if left:
                await self._look_into_log(left.pop())
                pause = step if left else interval / 2 + step

    async def _wait_for_gap(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._gap.wait()
        except TimeoutError:
            return False
        self._gap.clear()
        return True

    def _plan_looks(self, *, must_ask_all: bool) -> Mapping[str, WatchedRun]:
        return {
            run_id: run
            for runs in self._watched
            for run_id, run in runs.items()
            if (run.is_look_due() or must_ask_all) and not run.is_over
        }

    async def _look_into_log(self, runs: Mapping[str, WatchedRun]) -> None:
        if not self._log.get_stats().connected:
            return
        try:
            # A Redis that hangs must not keep us from the database.
            async with asyncio.timeout(self._heartbeat_seconds / 2):
                lasts = await self._log.read_last(list(runs))
        except (UnavailableError, TimeoutError) as error:
            reason = str(error) or "it doesn't answer"
            log.warning("❌ the log can't be asked how far the runs have got", runs=len(runs), error=reason)
            return
        except Exception:  # the key of one run may hold something else; the database is asked all the same
            log.exception("❌ asking the log how far the runs have got failed", runs=len(runs))
            return
        _tell(runs, dict(zip(runs, lasts, strict=True)))

    async def _look_into_database(self, runs: Mapping[str, WatchedRun]) -> None:
        """One query for all of them, but for very many."""
        for asked in _slice(runs, MAX_RUNS_PER_QUERY):
            try:
                heads = await self._store.read_heads(list(asked))
            except UnavailableError as error:
                log.warning(
                    "❌ the database can't be asked how far the runs have got", runs=len(runs), error=str(error)
                )
                return
            except Exception:  # the next look is to come
                log.exception("❌ asking the database how far the runs have got failed", runs=len(runs))
                return
            for some in _slice(heads, MAX_RUNS_PER_LOOK):
                _tell(asked, {run_id: head.last for run_id, head in some.items()})
                await asyncio.sleep(0)  # an event may be waiting


def _slice(runs: Mapping[str, T], size: int) -> Iterator[Mapping[str, T]]:
    for start in range(0, len(runs), size):
        yield dict(islice(runs.items(), start, start + size))


def _tell(runs: Mapping[str, WatchedRun], lasts: Mapping[str, Cursor]) -> None:
    for run_id, last in lasts.items():
        with _spare_others(run_id):
            runs[run_id].receive_last(last)


@contextmanager
def _spare_others(run_id: str) -> Iterator[None]:
    """What goes wrong with one run isn't to end the look at all the others."""
    try:
        yield
    except Exception:
        log.exception("❌ a watched run failed; the others go on", run_id=run_id)
