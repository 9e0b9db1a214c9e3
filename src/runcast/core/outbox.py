"""One attempt's events on their way to the archive and to the log.

The worker that holds a run numbers its events and puts them here. They leave on two ways at once: into the archive
(the database) and into the log (Redis). An event that changes state goes into the log only once the archive has it;
all others may go first. An event is kept until it has arrived on both ways, so whatever the log loses and the archive
doesn't have can be appended again, under its own seq.
"""

from collections import deque
from collections.abc import Sequence

from runcast.events import LoggedEvent


class Outbox:
    """Invariants: events are numbered without gaps; `appended` never reaches a state event above `archived`."""

    def __init__(self, *, last_seq: int) -> None:
        self.archived = last_seq  # seq up to which the archive has everything
        self.appended = last_seq  # seq up to which the log has everything, as far as it has confirmed
        self.last_seq = last_seq  # seq of the newest event ever put in
        self.size = 0  # bytes kept
        self._events: list[LoggedEvent] = []
        self._first: int = last_seq + 1  # seq of the first event kept
        self._states: deque[int] = deque()  # seqs of the state events that the archive hasn't confirmed

    def __repr__(self) -> str:
        return f"<Outbox {self._first}..{self.last_seq} archived={self.archived} appended={self.appended}>"

    @property
    def has_state_to_archive(self) -> bool:
        """Whether a state event waits for the archive."""
        return bool(self._states)

    def put(self, event: LoggedEvent, *, is_state: bool) -> None:
        """Add the next event; its seq is `last_seq + 1`."""
        # Fast path: every token of every run. What is read often is an attribute, what is looked for is in `_states`.
        seq = event.cursor.seq
        assert seq == self.last_seq + 1, "events are numbered without gaps"  # noqa: S101 - a bug, not input
        self._events.append(event)
        self.last_seq = seq
        self.size += len(event.raw)
        if is_state:
            self._states.append(seq)

    def to_archive(self) -> Sequence[LoggedEvent]:
        """All events that the archive hasn't confirmed."""
        return self._events[self.archived + 1 - self._first :]

    def to_append(self, *, max_events: int) -> Sequence[LoggedEvent]:
        """The next events that may go into the log."""
        begin = self.appended + 1 - self._first
        end = begin + max_events
        if self._states:
            end = min(end, self._states[0] - self._first)
        return self._events[begin:end]

    def confirm_archived(self, seq: int) -> None:
        """The archive has everything up to `seq`."""
        self.archived = max(self.archived, seq)
        while self._states and self._states[0] <= self.archived:
            self._states.popleft()
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

    def _release(self) -> None:
        count = min(self.archived, self.appended) + 1 - self._first
        if count > 0:
            self.size -= sum(len(event.raw) for event in self._events[:count])
            del self._events[:count]
            self._first += count
