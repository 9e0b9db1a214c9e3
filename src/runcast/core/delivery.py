"""Delivery: from a log that may lag, a wire that may lose, to watchers that see 1, 2, 3 … n.

A `Feed` is what one gateway knows of one run: the gapless tail of its log, bounded in bytes. It is fed with what
arrives live and with answers to reads of the log, in whatever order, and says whether it needs a read. A
`Subscription` is one watcher: a cursor into the feed. It takes frames from the tail while its cursor lies there, and
says that it needs a read of its own while it doesn't.

Theory of operation
- The log orders events by cursor, (attempt, seq). Seq runs on over attempts without gaps; an attempt begins where
  what was kept of the one before ends. If events were lost by everybody, the new attempt uses their seqs again:
  then, in the log's order, seq goes *back* once. That step back, and nothing else, is a rewind.
- A live event is taken at once if it is surely the next: its seq follows and its attempt is the same, or the feed
  still stands at attempt 0 (whose events are in the database before any worker has the run, so none can be lost).
  Anything else only says how far the log reaches; what lies between is read from the log.
- Its place is the end of an event's bytes, so a feed knows beforehand how the next one ends: mostly nothing else of it
  has to be looked at.
- An answer to a read is what stands in the log after the asked cursor, from there on without omissions. It may be
  older than what the feed knows when it comes: what is known already is skipped.
- What a watcher has read of the past is put before the tail if it leads up to it and there is room: an event's place
  names it for good, and with it all that came before. So a thousand watchers who come back together read once.

Nothing here waits, reads a clock or raises on a peer's misbehaviour.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple

from runcast.events import START, STATUS_START, UNKNOWN_ATTEMPT, Cursor, LoggedEvent, RunStatus, end_of


class Rewind(NamedTuple):
    """The watcher has seen events that no longer exist: it goes back to `to` and takes what comes from there."""

    to: Cursor


Frame = LoggedEvent | Rewind


class Need(Enum):
    """What a subscription can do next."""

    TAKE = "take"  # frames are waiting
    READ = "read"  # the log has to be read after `cursor`
    WAIT = "wait"  # it has all there is
    END = "end"  # it has all there will ever be


class Feed:
    """The gapless recent tail of one run's log.

    Invariants: `tail` holds the events right after `base`, seq by seq, up to `head`; `head` never passes an event
    that hasn't been in the tail; the tail's bytes stay within `tail_bytes` (the newest event always stays), and so do
    those of the events held after a hole: more are let go, for the read that fills the hole brings them. Where nothing
    is known beyond `head`, `known` is the same object.
    """

    __slots__ = (
        "_early",
        "_early_size",
        "_next_end",
        "_size",
        "_tail_bytes",
        "base",
        "head",
        "known",
        "status",
        "tail",
    )

    def __init__(self, *, last: Cursor, status: RunStatus, tail_bytes: int) -> None:
        self.status = status  # as of `head`, or newer when the run was joined
        self.base = last  # the event before the tail; its attempt is unknown after some rewinds
        self.head = last  # the last event that the feed can vouch for
        self.tail: list[LoggedEvent] = []
        self.known = last  # how far the log reaches, as far as anybody has said
        self._early: dict[int, LoggedEvent] = {}  # live events after a hole, by seq
        self._tail_bytes: Final = tail_bytes
        self._size = 0  # bytes in the tail
        self._early_size = 0  # bytes in `_early`
        self._next_end = (
            b""  # how the bytes of the event after `head` end, if it is of the same attempt; empty: unknown
        )

    def __repr__(self) -> str:
        return f"<Feed {self.base}..{self.head} known={self.known} early={len(self._early)} {self.status}>"

    @property
    def is_ended(self) -> bool:
        """Whether the run has ended and the feed holds its end."""
        return self.status.is_final and not self.needs_read

    @property
    def needs_read(self) -> bool:
        """Whether the log has to be read after `head`."""
        return self.known > self.head

    def receive_raw(self, raw: bytes) -> bool:
        """Take an event from the wire by its bytes, if they say that it is surely the next and tells no status. Else
        nothing was done: it has to be read, and taken by `receive_live`.
        """
        # Fast path: all events of all watched runs pass here; see `python -m bench --only many`.
        head = self.head
        if self.known is not head or self._early or raw.startswith(STATUS_START):
            return False
        if not self._next_end:
            self._next_end = end_of(head.attempt, head.seq + 1)
        if not raw.endswith(self._next_end):
            return False
        seq, attempt = head.seq + 1, head.attempt
        self.head = self.known = cursor = Cursor(attempt, seq)
        self.tail.append(LoggedEvent(cursor, raw))
        self._next_end = end_of(attempt, seq + 1)
        self._size += len(raw)
        if self._size > self._tail_bytes:
            self._trim()
        return True

    def receive_live(self, event: LoggedEvent) -> bool:
        """Take an event from the wire. True if the tail has grown."""
        if is_surely_next(self.head, event.cursor):
            self._append(event)
            if self._early:
                self._take_early()
            return True
        if event.cursor > self.head:
            self._hear_of(event.cursor)
            self._hold(event)
        return False

    def receive_read(self, events: Sequence[LoggedEvent]) -> bool:
        """Take the answer to a read after some earlier or the present `head`. True if the tail has changed."""
        before = self.head
        for event in events:
            if event.cursor <= self.head:
                continue
            if event.cursor.seq > self.head.seq + 1:
                break  # not from there on: the log's start was let go, and another source has to be asked
            if event.cursor.seq <= self.head.seq:
                self._rewind_to(event.cursor.seq - 1)
            self._append(event)
        self._take_early()
        return self.head != before

    def receive_past(self, after: Cursor, events: Sequence[LoggedEvent]) -> None:
        """Take the answer to some watcher's read after a cursor before the tail, as far as it leads up to the tail."""
        at = len(events)
        while at and events[at - 1].cursor > self.base:
            at -= 1  # what the tail has anyway
        base, size = self.base, self._size
        while at and events[at - 1].cursor == base and size + len(events[at - 1].raw) <= self._tail_bytes:
            at -= 1
            size += len(events[at].raw)
            base = _place_before(events[at].cursor, events[at - 1].cursor if at else after)
        self.tail[:0] = [event for event in events[at:] if event.cursor <= self.base]
        self.base, self._size = base, size

    def receive_last(self, last: Cursor) -> None:
        """Take the word of somebody that the log reaches to `last`."""
        self._hear_of(last)

    def has(self, cursor: Cursor) -> bool:
        """Whether the event at `cursor` is the one that this feed's tail follows on or contains."""
        if cursor.seq == 0:
            return self.base.seq == 0
        at = cursor.seq - self.base.seq
        if not 0 <= at <= len(self.tail):
            return False
        here = self.tail[at - 1].cursor if at else self.base
        return cursor.attempt in (here.attempt, UNKNOWN_ATTEMPT)

    def cursor_of(self, cursor: Cursor) -> Cursor:
        """The cursor, with its attempt if it came as a plain seq of the tail."""
        if cursor.attempt != UNKNOWN_ATTEMPT or not self.has(cursor):
            return cursor
        at = cursor.seq - self.base.seq
        return self.tail[at - 1].cursor if at else self.base

    def events_after(self, seq: int) -> Sequence[LoggedEvent]:
        """The tail's events after one that it `has`."""
        return self.tail[seq - self.base.seq :]

    def raws_after(self, head: Cursor) -> list[bytes] | None:
        """The bytes of the events after a `head` of before. None if they aren't all there, or it was taken back."""
        # Fast path: mostly one event has come, and what stands before it is that very head.
        tail = self.tail
        at = head.seq - self.base.seq
        here = tail[at - 1].cursor if 0 < at <= len(tail) else self.base
        if here is not head and not self.has(head):
            return None
        return [tail[at].raw] if at == len(tail) - 1 else [event.raw for event in tail[at:]]

    def _hear_of(self, cursor: Cursor) -> None:
        self.known = max(self.known, cursor)

    def _append(self, event: LoggedEvent) -> None:
        self.tail.append(event)
        self._stand_at(event.cursor)
        self._size += len(event.raw)
        if event.status is not None:
            self.status = event.status
        if self._size > self._tail_bytes:
            self._trim()

    def _trim(self) -> None:
        # Down to half at once, so that moving the list's rest is paid for by many appends.
        count = 0
        while self._size > self._tail_bytes // 2 and count < len(self.tail) - 1:
            self._size -= len(self.tail[count].raw)
            count += 1
        if count:
            self.base = self.tail[count - 1].cursor
            del self.tail[:count]

    def _rewind_to(self, seq: int) -> None:
        keep = max(seq - self.base.seq, 0)
        if seq < self.base.seq:
            self.base = Cursor(UNKNOWN_ATTEMPT, seq)
        self._size -= sum(len(event.raw) for event in self.tail[keep:])
        del self.tail[keep:]
        self._stand_at(self.tail[-1].cursor if self.tail else self.base)

    def _stand_at(self, head: Cursor) -> None:
        self.head = head
        self._next_end = b""
        self.known = max(head, self.known)

    def _hold(self, event: LoggedEvent) -> None:
        held = self._early.get(event.cursor.seq)
        if held is not None and held.cursor >= event.cursor:
            return
        size = self._early_size + len(event.raw) - (len(held.raw) if held else 0)
        if size <= self._tail_bytes:
            self._early[event.cursor.seq] = event
            self._early_size = size

    def _take_early(self) -> None:
        while (event := self._early.get(self.head.seq + 1)) and is_surely_next(self.head, event.cursor):
            self._append(event)
            del self._early[event.cursor.seq]
            self._early_size -= len(event.raw)
        if self._early and not self.needs_read:
            self._early.clear()  # of an older attempt: what is known has passed them
            self._early_size = 0


def _place_before(cursor: Cursor, candidate: Cursor) -> Cursor:
    """The place before an event's, of which its attempt may not be known."""
    if cursor.seq == 1:
        return START
    # A later attempt may begin where an older one had more: then what was read before isn't what comes before.
    return candidate if is_surely_next(candidate, cursor) else Cursor(UNKNOWN_ATTEMPT, cursor.seq - 1)


def is_surely_next(head: Cursor, cursor: Cursor) -> bool:
    """Whether nothing can stand between two places: seq follows, and no attempt begins that others may not know."""
    return cursor.seq == head.seq + 1 and head.attempt in (cursor.attempt, 0)


class Subscription:
    """One watcher of a feed: a cursor, and the frames that a read has brought for it."""

    __slots__ = ("_feed", "_frames", "cursor")

    def __init__(self, feed: Feed, *, after: Cursor) -> None:
        # The last event taken or waiting in `_frames`. A plain seq means the event that has it now, if it is known.
        self.cursor = feed.cursor_of(after)
        self._feed: Final = feed
        self._frames: list[Frame] = []  # from a read, not yet taken

    def __repr__(self) -> str:
        return f"<Subscription {self.cursor} {self.need.value} frames={len(self._frames)}>"

    @property
    def is_level(self) -> bool:
        """Whether it stands where the feed does: what comes next for the feed comes next for it."""
        return not self._frames and self.cursor.seq == self._feed.head.seq and self._feed.has(self.cursor)

    def stand_at(self, cursor: Cursor) -> None:
        """Go on from there: what lies before was given out otherwise."""
        self.cursor = cursor

    @property
    def need(self) -> Need:
        """What to do next."""
        if self._frames:
            return Need.TAKE
        feed = self._feed
        if feed.has(self.cursor):
            if self.cursor.seq < feed.head.seq:
                return Need.TAKE
            return Need.END if feed.is_ended else Need.WAIT
        if self._is_ahead():
            return Need.END if feed.is_ended else Need.WAIT
        return Need.READ

    def take(self, *, max_bytes: int) -> Sequence[Frame]:
        """The next frames, at most `max_bytes` of them but at least one. Only when `need` is TAKE."""
        if self._frames:
            waiting = _first_of(self._frames, max_bytes)
            self._frames = self._frames[len(waiting) :]
            return waiting
        events = self._feed.events_after(self.cursor.seq)
        taken = _first_of(events, max_bytes)
        self.cursor = events[len(taken) - 1].cursor
        return taken

    def receive_read(self, events: Sequence[LoggedEvent]) -> bool:
        """Take the answer to a read after `cursor`. True if there are frames now."""
        for event in events:
            if not self._is_after_cursor(event.cursor):
                continue
            if event.cursor.seq > self.cursor.seq + 1:
                break
            if event.cursor.seq <= self.cursor.seq:
                self._frames.append(Rewind(Cursor(UNKNOWN_ATTEMPT, event.cursor.seq - 1)))
            self._frames.append(event)
            self.cursor = event.cursor
        return bool(self._frames)

    def _is_after_cursor(self, cursor: Cursor) -> bool:
        if self.cursor.attempt == UNKNOWN_ATTEMPT:
            return cursor.seq > self.cursor.seq
        return cursor > self.cursor

    def _is_ahead(self) -> bool:
        """Whether the cursor lies beyond what the feed knows: the log will get there, or never was."""
        head = self._feed.head
        if self.cursor.attempt == UNKNOWN_ATTEMPT:
            return self.cursor.seq > head.seq
        return self.cursor > head


def _first_of(frames: Sequence[Frame], max_bytes: int) -> Sequence[Frame]:
    size = 0
    for count, frame in enumerate(frames):
        size += len(frame.raw) if isinstance(frame, LoggedEvent) else 0
        if size > max_bytes and count:
            return frames[:count]
    return frames
