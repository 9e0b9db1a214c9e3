"""The hub: joins each run's log once per gateway and shares it among the run's watchers.

Join without a race: listen first, hold what comes, then ask how far the log and the database have got, and go on from
there. A watcher reads what lies before the feed's tail by itself, then takes from the tail like everybody else.

Work grows with the runs watched here, not with the runs that exist; a watcher costs a cursor. The database is asked
when a run is joined, and when neither the feed nor the log has what a watcher lacks: never at intervals per watcher.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, TypeVar

from runcast.concurrency import end_tasks
from runcast.core.delivery import Feed
from runcast.errors import RunNotFoundError, UnavailableError
from runcast.events import START, Cursor, format_ts
from runcast.ports import RunLog, RunStore
from runcast.records import is_run_id
from runcast.services.broadcast import Outlet
from runcast.services.heads import HeadReader
from runcast.services.history import MAX_LOG_SECONDS, History
from runcast.services.live_run import LiveRun, Surroundings
from runcast.services.lookout import Lookout
from runcast.services.turn import Turn
from runcast.services.watcher import PulledWatcher, PushedWatcher

W = TypeVar("W", PulledWatcher, PushedWatcher)


class RunHub:
    """All watched runs of one gateway. `start` before use, `close` after."""

    def __init__(
        self,
        *,
        log: RunLog,
        store: RunStore,
        clock: Callable[[], datetime],
        tail_bytes: int,
        heartbeat_seconds: float,
        poll_seconds: float,
        coalesce_seconds: float = 0,
        is_polling: bool = False,
    ) -> None:
        self._log: Final = log
        self._heads: Final = HeadReader(store)
        self._surroundings: Final = Surroundings(
            history=History(log=log, store=store),
            turn=Turn(window_seconds=coalesce_seconds),
            is_degraded=lambda: self.is_degraded,
            now=lambda: format_ts(clock()),
        )
        self._tail_bytes: Final = tail_bytes
        self._is_polling: Final = is_polling  # by choice: then being without Redis is no degradation
        self._lookout: Final = Lookout(
            log=log, store=store, heartbeat_seconds=heartbeat_seconds, poll_seconds=poll_seconds
        )
        self._runs: dict[str, LiveRun] = {}
        self._joins: dict[str, asyncio.Task[LiveRun]] = {}  # under way, by run id
        self._undo_batch: Callable[[], None] | None = None
        self._drops: set[asyncio.Task[None]] = set()  # under way

    @property
    def transport(self) -> str:
        """Where events come from by choice: `redis` or `polling`."""
        return "polling" if self._is_polling else "redis"

    @property
    def is_degraded(self) -> bool:
        """Whether Redis is away and the database is asked in its stead."""
        return not self._is_polling and not self._log.get_stats().connected

    def start(self) -> None:
        """Begin to send heartbeats and to look after what the wire may have lost."""
        self._undo_batch = self._log.on_batch(self._surroundings.turn.end)
        self._lookout.start()

    async def close(self) -> None:
        """Let everything go. Watchers are the gateway's to close."""
        if self._undo_batch is not None:
            self._undo_batch()
        await self._lookout.close()
        await end_tasks(*self._joins.values())
        await self._heads.close()
        if self._drops:
            await asyncio.wait(self._drops)
        for live in self._runs.values():
            await live.close()
        self._runs.clear()

    @asynccontextmanager
    async def watch(self, run_id: str, *, after: Cursor, from_snapshot: bool = False) -> AsyncIterator[PulledWatcher]:
        """Follow a run from a cursor on, or from a snapshot of what there is, if one can be made; frames are asked for.

        Raises:
            RunNotFoundError: there is no such run.
            UnavailableError: the run can't be joined now.

        """
        watcher = await self._add(
            run_id, lambda live, feed: PulledWatcher(live, feed, after=after, from_snapshot=from_snapshot)
        )
        try:
            yield watcher
        finally:
            self.release(watcher)

    async def push(self, run_id: str, *, after: Cursor, outlet: Outlet) -> PushedWatcher:
        """Follow a run from a cursor on, by what is written to the outlet once the watcher is started. It is the
        caller's to `release`.

        Raises:
            RunNotFoundError: there is no such run.
            UnavailableError: the run can't be joined now.

        """
        return await self._add(run_id, lambda live, feed: PushedWatcher(live, feed, after=after, outlet=outlet))

    def push_joined(self, run_id: str, *, after: Cursor, outlet: Outlet) -> PushedWatcher | None:
        """The same at once, if the run is joined already; else None."""
        live = self._runs.get(run_id)
        if live is None or live.feed is None:
            return None
        watcher = PushedWatcher(live, live.feed, after=after, outlet=outlet)
        live.apart.add(watcher)
        return watcher

    def release(self, watcher: PulledWatcher | PushedWatcher) -> None:
        """Let a watcher go, and its run if it was the last."""
        watcher.close()
        watcher.live.leave(watcher)
        self._drop_soon(watcher.live)

    async def _add(self, run_id: str, create: Callable[[LiveRun, Feed], W]) -> W:
        while True:
            live = self._runs.get(run_id) or await self._join(run_id)
            # While we waited the last other watcher may have left and taken the run along.
            if self._runs.get(run_id) is live and live.feed is not None:
                watcher = create(live, live.feed)
                live.apart.add(watcher)
                return watcher

    async def _join(self, run_id: str) -> LiveRun:
        """Join a run once for all who ask at the same time; one who gives up doesn't take the others along."""
        join = self._joins.get(run_id)
        if join is None:
            join = self._joins[run_id] = asyncio.create_task(self._open(run_id), name=f"join-{run_id}")
            join.add_done_callback(lambda _: self._joins.pop(run_id, None))
        try:
            return await asyncio.shield(join)
        except asyncio.CancelledError:
            if join.cancelled():  # by `close`; who waits for it wasn't cancelled, and is told why
                raise UnavailableError("this gateway stops; try again") from None
            # Perhaps nobody else asked; then the run must not stay joined for nobody.
            join.add_done_callback(lambda _: self._drop_soon(self._runs.get(run_id)))
            raise

    def _drop_soon(self, live: LiveRun | None) -> None:
        """Let a run go that nobody watches."""
        if live is None or live.is_watched or self._runs.get(live.run_id) is not live:
            return
        del self._runs[live.run_id]
        self._lookout.discard(live.run_id)
        drop = asyncio.create_task(live.close(), name=f"drop-{live.run_id}")
        self._drops.add(drop)
        drop.add_done_callback(self._drops.discard)

    async def _open(self, run_id: str) -> LiveRun:
        head = await self._heads.read(run_id) if is_run_id(run_id) else None
        if head is None:
            raise RunNotFoundError(run_id)
        live = LiveRun(run_id, surroundings=self._surroundings)
        last = head.last
        if not head.status.is_final:
            live.unsubscribe = await self._log.on_run_event(run_id, live.receive)
            try:
                # In this order: state is in the database before it is in the log, so the head read last is at least
                # as new as any event up to `last`.
                last = await self._read_last(run_id)
                head = await self._heads.read(run_id) or head
            except BaseException:
                await live.close()
                raise
        live.join(Feed(last=max(last, head.last), status=head.status, tail_bytes=self._tail_bytes))
        self._runs[run_id] = live
        self._lookout.add(run_id, live)
        return live

    async def _read_last(self, run_id: str) -> Cursor:
        if not self._log.get_stats().connected:
            return START
        try:
            async with asyncio.timeout(MAX_LOG_SECONDS):
                return (await self._log.read_last([run_id]))[0]
        except (UnavailableError, TimeoutError):
            return START  # the database says how far it knows; once the log is back, it is asked
