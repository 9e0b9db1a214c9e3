"""One attempt's events on their way to the archive and to the log.

The worker that holds a run numbers its events and puts them here. They leave on two ways at once: into the archive
(the database) and into the log (Redis). An event that changes state goes into the log only once the archive has it;
all others may go first. An event is kept until it has arrived on both ways, so whatever the log loses and the archive
doesn't have can be appended again, under its own seq.
"""

from collections.abc import Sequence
from typing import NamedTuple

from runcast.events import LoggedEvent


class Entry(NamedTuple):
    """An event, and whether it tells of state that must be a fact before anybody is told."""

    event: LoggedEvent
    is_state: bool


class Outbox:
    """Invariants: entries are numbered without gaps; `appended` never reaches a state entry above `archived`."""

    def __init__(self, *, last_seq: int) -> None:
        self.archived = last_seq  # seq up to which the archive has everything
        self.appended = last_seq  # seq up to which the log has everything, as far as it has confirmed
        self._entries: list[Entry] = []
        self._first: int = last_seq + 1  # seq of the first entry kept
        self._size = 0
        self._last_state = last_seq  # seq of the newest state event

    def __repr__(self) -> str:
        return f"<Outbox {self._first}..{self.last_seq} archived={self.archived} appended={self.appended}>"

    @property
    def last_seq(self) -> int:
        """Seq of the newest event ever put in."""
        return self._first + len(self._entries) - 1

    @property
    def size(self) -> int:
        """Bytes kept."""
        return self._size

    @property
    def has_state_to_archive(self) -> bool:
        """Whether a state event waits for the archive."""
        return self._last_state > self.archived

    def put(self, event: LoggedEvent, *, is_state: bool) -> None:
        """Add the next event; its seq is `last_seq + 1`."""
        assert event.cursor.seq == self.last_seq + 1, "events are numbered without gaps"  # noqa: S101 - a bug, not input
        self._entries.append(Entry(event, is_state))
        self._size += len(event.raw)
        if is_state:
            self._last_state = event.cursor.seq

    def to_archive(self) -> Sequence[LoggedEvent]:
        """All events that the archive hasn't confirmed."""
        return [entry.event for entry in self._after(self.archived)]

    def to_append(self, *, max_events: int) -> Sequence[LoggedEvent]:
        """The next events that may go into the log."""
        ready: list[LoggedEvent] = []
        for entry in self._after(self.appended):
            if len(ready) == max_events or (entry.is_state and entry.event.cursor.seq > self.archived):
                break
            ready.append(entry.event)
        return ready

    def confirm_archived(self, seq: int) -> None:
        """The archive has everything up to `seq`."""
        self.archived = max(self.archived, seq)
        self._release()

    def confirm_appended(self, seq: int) -> None:
        """The log has everything up to `seq`."""
        self.appended = max(self.appended, seq)
        self._release()

    def take_back(self, log_seq: int) -> int | None:
        """The log turns out to end at `log_seq`: what it has lost is to be appended again.

        None if all the lost is kept here. Otherwise the seq after which the log has to go on with a hole before it:
        what the hole lacks stands in the archive.
        """
        floor = self._first - 1
        if log_seq >= floor:
            self.appended = min(self.appended, log_seq)
            return None
        self.appended = floor
        return floor

    def spill(self) -> None:
        """Let go of what the archive has, though the log may not: it will go on with a hole that the archive fills."""
        self.appended = max(self.appended, self.archived)
        self._release()

    def _after(self, seq: int) -> Sequence[Entry]:
        return self._entries[max(seq + 1 - self._first, 0) :]

    def _release(self) -> None:
        count = min(self.archived, self.appended) + 1 - self._first
        if count > 0:
            self._size -= sum(len(entry.event.raw) for entry in self._entries[:count])
            del self._entries[:count]
            self._first += count
