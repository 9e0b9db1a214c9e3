"""Connections: everybody who watches over this gateway, by whichever transport; counted, listed, bounded, let go.

A transport opens a watcher here, gives its frames out in its own form, and ends with whichever comes first: nothing
more to send, the peer gone, the gateway stopping.

Never: knows how a transport writes.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final

from starlette.types import Receive

from runcast.concurrency import end_tasks
from runcast.errors import UnavailableError
from runcast.events import Cursor
from runcast.logs import get_logger
from runcast.records import WatcherReport
from runcast.services.broadcast import Outlet
from runcast.services.hub import RunHub
from runcast.services.watcher import PulledWatcher, PushedWatcher

log = get_logger()


class Transport(StrEnum):
    """How a watcher is connected."""

    WEBSOCKET = "websocket"
    MULTIPLEX = "multiplex"  # one of several runs on a socket
    SSE = "sse"
    LONG_POLL = "long-poll"


_LINES: Final = {
    Transport.WEBSOCKET: "🔗 WebSocket connected",
    Transport.MULTIPLEX: "🔗 run subscribed",
    Transport.SSE: "🔗 event stream connected",
    Transport.LONG_POLL: "🔗 long poll connected",
}


class Ending(Enum):
    """Why a connection is over."""

    SENT = "sent"  # all there was
    GONE = "gone"  # the peer has left
    STOPPING = "stopping"  # the gateway stops


class Connection:
    """One watcher and how it is connected."""

    __slots__ = ("_connections", "opened_at", "transport", "watcher")

    def __init__(
        self,
        watcher: PulledWatcher | PushedWatcher,
        *,
        transport: Transport,
        opened_at: datetime,
        connections: "Connections",
    ) -> None:
        self.watcher: Final = watcher
        self.transport: Final = transport
        self.opened_at: Final = opened_at
        self._connections: Final = connections

    def close(self) -> None:
        """End what was opened."""
        self._connections.close(self)


class Connections:
    """All connections of one gateway process."""

    def __init__(self, *, hub: RunHub, clock: Callable[[], datetime], max_watchers: int) -> None:
        self._hub: Final = hub
        self._clock: Final = clock
        self._max_watchers: Final = max_watchers
        self._watching: Final[set[Connection]] = set()
        self._places = 0  # taken: by watchers, also those that are still being joined, and by sockets of many runs
        self._runless = 0  # sockets that hear statuses and follow no run just now
        self._stopping: Final = asyncio.Event()
        self._log: Final = log.bind()  # made once: a storm of connects passes it, whatever the level

    @property
    def count(self) -> int:
        """How many watchers of runs there are, and sockets that follow statuses alone."""
        return len(self._watching) + self._runless

    def count_runless(self, change: int) -> None:
        """Count sockets that hear statuses and follow no run."""
        self._runless += change

    def report_watchers(self, *, limit: int) -> tuple[WatcherReport, ...]:
        """Some of the watchers of runs, in no order."""
        now = self._clock()
        return tuple(
            WatcherReport(
                run_id=connection.watcher.run_id,
                transport=connection.transport,
                duration_ms=round((now - connection.opened_at).total_seconds() * 1000),
                last_status=connection.watcher.status,
            )
            for connection in itertools.islice(self._watching, limit)
        )

    def stop(self) -> None:
        """Ask every watcher to come back later; each keeps its cursor."""
        self._stopping.set()

    def check_capacity(self) -> None:
        """Return if there is a place.

        Raises:
            UnavailableError: there is none.

        """
        if self._places >= self._max_watchers:
            raise UnavailableError(f"this gateway has its {self._max_watchers} watchers; try again later")

    @contextmanager
    def take_place(self) -> Iterator[None]:
        """Be counted.

        Raises:
            UnavailableError: there is no place left.

        """
        self._take_place()
        try:
            yield
        finally:
            self._places -= 1

    @asynccontextmanager
    async def watch(
        self, run_id: str, *, after: Cursor, transport: Transport, from_snapshot: bool = False
    ) -> AsyncIterator[PulledWatcher]:
        """Follow a run from a cursor on; frames are asked for.

        Raises:
            RunNotFoundError: there is no such run.
            UnavailableError: the run can't be joined now, or there is no place left.

        """
        with self.take_place():
            async with self._hub.watch(run_id, after=after, from_snapshot=from_snapshot) as watcher:
                connection = self._add(watcher, transport)
                try:
                    yield watcher
                finally:
                    self._remove(connection)

    async def open(
        self, run_id: str, *, after: Cursor, outlet: Outlet, transport: Transport
    ) -> tuple[Connection, PushedWatcher]:
        """Follow a run from a cursor on by what is written to the outlet. Whoever opens closes.

        Raises:
            RunNotFoundError: there is no such run.
            UnavailableError: the run can't be joined now, or there is no place left.

        """
        self._take_place()
        try:
            watcher = await self._hub.push(run_id, after=after, outlet=outlet)
        except BaseException:
            self._places -= 1
            raise
        return self._add(watcher, transport), watcher

    def open_joined(
        self, run_id: str, *, after: Cursor, outlet: Outlet, transport: Transport
    ) -> tuple[Connection, PushedWatcher] | None:
        """The same at once, if the run is joined here already; else None.

        Raises:
            UnavailableError: there is no place left.

        """
        self.check_capacity()
        watcher = self._hub.push_joined(run_id, after=after, outlet=outlet)
        if watcher is None:
            return None
        self._places += 1
        return self._add(watcher, transport), watcher

    def close(self, connection: Connection) -> None:
        """End what was opened."""
        self._places -= 1
        self._hub.release(connection.watcher)
        self._remove(connection)

    def _take_place(self) -> None:
        self.check_capacity()
        self._places += 1

    def _add(self, watcher: PulledWatcher | PushedWatcher, transport: Transport) -> Connection:
        connection = Connection(watcher, transport=transport, opened_at=self._clock(), connections=self)
        self._watching.add(connection)
        self._log.info(_LINES[transport], run_id=watcher.run_id, connections=len(self._watching))
        return connection

    def _remove(self, connection: Connection) -> None:
        self._watching.discard(connection)
        self._log.info("🔌 disconnected", run_id=connection.watcher.run_id, connections=len(self._watching))

    async def run_until_gone(self, sending: Coroutine[Any, Any, None], gone: Coroutine[Any, Any, None]) -> Ending:
        """Send until there is nothing more, the peer goes, or the gateway stops; whichever is first ends the others."""
        tasks = [asyncio.create_task(work) for work in (sending, gone, _wait(self._stopping))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task, ending in zip(tasks, Ending, strict=True):
                if task in done:
                    task.result()
                    return ending
        except OSError:  # a write met a peer that has left
            return Ending.GONE
        finally:
            await end_tasks(*tasks)
        raise AssertionError("one of them has ended")


async def wait_gone(receive: Receive) -> None:
    """Return once an HTTP peer has left. What it still sends is let go."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
