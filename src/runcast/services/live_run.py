"""A live run: one run that is watched in this gateway, joined once and shared by all its watchers."""

import asyncio
from typing import Final, Protocol

import structlog

from runcast.concurrency import end_tasks
from runcast.core.delivery import Feed
from runcast.errors import UnavailableError
from runcast.events import START, Cursor, LoggedEvent
from runcast.ports import Unsubscribe
from runcast.services.history import History, RunReader
from runcast.services.snapshots import RunSnapshots

log = structlog.get_logger()

MAX_BYTES_HELD: Final = 262_144
FIRST_RETRY_SECONDS: Final = 0.02
MAX_RETRY_SECONDS: Final = 1.0


class Wakeable(Protocol):
    """What a live run needs of a watcher."""

    def wake(self, *, heartbeat: bool) -> None:
        """Look again what there is, or that there is nothing."""
        ...


class LiveRun:
    """One run that is watched here: its feed, its place on the wire, and who watches."""

    def __init__(self, run_id: str, *, history: History) -> None:
        self.run_id: Final = run_id
        self.watchers: Final[set[Wakeable]] = set()
        self.feed: Feed | None = None  # None until joined
        self.unsubscribe: Unsubscribe | None = None
        self.snapshots: Final = RunSnapshots(run_id, history=history)
        self._history_reader: Final = RunReader(history, run_id)
        self._held: list[LoggedEvent] = []  # came before the feed was there
        self._held_size = 0  # bytes; what passes the limit is let go, and read from the log
        self._heard = START  # the last event that came before the feed was there
        self._reader: asyncio.Task[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the run has ended and its end is here."""
        return self.feed is not None and self.feed.is_ended

    def join(self, feed: Feed) -> None:
        """Begin with a feed; what was held goes into it."""
        self.feed = feed
        for event in self._held:
            feed.receive_live(event)
        self._held.clear()
        feed.receive_last(self._heard)
        self._read_if_needed()

    def receive(self, event: LoggedEvent) -> None:
        """Take an event from the wire."""
        if self.feed is None:
            self._hold(event)
            return
        if self.feed.receive_live(event):
            self.wake()
        self._read_if_needed()

    def _hold(self, event: LoggedEvent) -> None:
        self._heard = max(self._heard, event.cursor)
        if self._held_size + len(event.raw) <= MAX_BYTES_HELD:
            self._held.append(event)
            self._held_size += len(event.raw)

    def receive_last(self, last: Cursor) -> None:
        """Take the word of the log how far it reaches."""
        if self.feed is not None:
            self.feed.receive_last(last)
            self._read_if_needed()

    def wake(self, *, heartbeat: bool = False) -> None:
        """Let every watcher look again."""
        for watcher in self.watchers:
            watcher.wake(heartbeat=heartbeat)

    async def close(self) -> None:
        """Stop listening and reading."""
        if self.unsubscribe is not None:
            await self.unsubscribe()
        await end_tasks(self._reader)

    def _read_if_needed(self) -> None:
        if self.feed is not None and self.feed.needs_read and (self._reader is None or self._reader.done()):
            self._reader = asyncio.create_task(self._read(self.feed), name=f"feed-{self.run_id}")

    async def _read(self, feed: Feed) -> None:
        """Fill the feed's hole, however often it takes."""
        pause = FIRST_RETRY_SECONDS
        while feed.needs_read:
            if feed.receive_read(await self._read_history(feed.head)):
                self.wake()
                pause = FIRST_RETRY_SECONDS
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_RETRY_SECONDS)

    async def _read_history(self, after: Cursor) -> tuple[LoggedEvent, ...]:
        try:
            return tuple(await self._history_reader.read(after))
        except UnavailableError as error:
            log.warning("❌ neither log nor archive can be read", run_id=self.run_id, error=str(error))
            return ()
