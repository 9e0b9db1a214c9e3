"""History: what happened in a run after a cursor, from the log while it has it, else from the archive."""

import asyncio
from collections.abc import Sequence
from typing import Final

from runcast.core.delivery import is_surely_next
from runcast.errors import UnavailableError
from runcast.events import UNKNOWN_ATTEMPT, Cursor, LoggedEvent
from runcast.ports import RunLog, RunStore

MAX_EVENTS_PER_READ: Final = 500
MAX_BYTES_PER_READ: Final = 262_144
MAX_LOG_SECONDS: Final = 2.0
"""A log that takes longer hangs: then the archive is asked."""

FIRST_LIMIT: Final = 16
"""Events in a reader's first page, whose size it can't know: 16 MiB of the largest ones."""


class History:
    """Two tiers behind one cursor. A page holds events that follow each other, from right after the cursor on."""

    def __init__(self, *, log: RunLog, store: RunStore) -> None:
        self._log: Final = log
        self._store: Final = store

    async def read(self, run_id: str, after: Cursor, *, limit: int = MAX_EVENTS_PER_READ) -> Sequence[LoggedEvent]:
        """Up to `limit` events after the cursor. Empty if neither tier has the next one, now or ever.

        Raises:
            UnavailableError: the log doesn't have it and the database can't be asked.

        """
        # A plain seq says nothing of its attempt, and a log may still hold an attempt's events that were taken back.
        if after.attempt == UNKNOWN_ATTEMPT and after.seq > 0:
            return await self._read_archive(run_id, after, limit) or await self._read_log(run_id, after, limit)
        return await self._read_log(run_id, after, limit) or await self._read_archive(run_id, after, limit)

    async def _read_log(self, run_id: str, after: Cursor, limit: int) -> Sequence[LoggedEvent]:
        if not self._log.get_stats().connected:  # every read would wait for a time-out first
            return ()
        try:
            async with asyncio.timeout(MAX_LOG_SECONDS):
                return _sure(await self._log.read(run_id, after, limit=limit), after)
        except (UnavailableError, TimeoutError):
            return ()

    async def _read_archive(self, run_id: str, after: Cursor, limit: int) -> Sequence[LoggedEvent]:
        return _unbroken(await self._store.read_events(run_id, after, limit=limit), after)


class RunReader:
    """Reads one run's history page by page. What a page holds is bounded in bytes, however large the events are."""

    def __init__(self, history: History, run_id: str) -> None:
        self._history: Final = history
        self._run_id: Final = run_id
        self._limit = FIRST_LIMIT  # events per read, as the size of those seen allows

    async def read(self, after: Cursor) -> Sequence[LoggedEvent]:
        """The next events after the cursor: at most `MAX_BYTES_PER_READ`, but one at least, if there is one."""
        events = await self._history.read(self._run_id, after, limit=self._limit)
        size = 0
        for count, event in enumerate(events):
            size += len(event.raw)
            if size > MAX_BYTES_PER_READ and count:
                self._limit = count
                return events[:count]
        if events:
            self._limit = min(MAX_EVENTS_PER_READ, max(1, MAX_BYTES_PER_READ * len(events) // size))
        return events


def _sure(events: Sequence[LoggedEvent], after: Cursor) -> Sequence[LoggedEvent]:
    """The log's events up to the first hole or change of attempt.

    Where an attempt begins, a log that was away may lack events although seq goes on; the archive never does.
    """
    for count, event in enumerate(events):
        if not is_surely_next(after, event.cursor):
            return events[:count]
        after = event.cursor
    return events


def _unbroken(events: Sequence[LoggedEvent], after: Cursor) -> Sequence[LoggedEvent]:
    """The archive's events up to the first hole. Seq may go back: then events were lost, and taken back."""
    expected = after.seq + 1
    for count, event in enumerate(events):
        if event.cursor.seq > expected:
            return events[:count]
        expected = event.cursor.seq + 1
    return events
