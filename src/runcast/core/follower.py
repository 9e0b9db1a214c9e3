"""The client's half of delivery: one watcher's place in a run, whichever connection brings the frames.

Invariants: events are handed on as 1, 2, 3 … after the cursor, each once. What was seen is dropped; what doesn't follow
is never handed on, and the connection that brought it is no longer good: the next one is asked from the cursor. Only
`rewind` and `snapshot` move the cursor otherwise. PROTOCOL.md has the rules, `tests/vectors` what they come to.

Never: does I/O, or raises on what a gateway says.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from runcast.errors import InvalidCursorError
from runcast.events import FINAL_STATUSES, UNKNOWN_ATTEMPT, ControlType, Cursor, EventType, RunEvent


class ControlEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A frame of the connection itself: `connected` (as a `run_status`), `heartbeat`, `rewind`, `snapshot`, `bye`."""

    type: str
    payload: Mapping[str, Any]
    ts: str = ""
    run_id: str = ""


News = RunEvent | ControlEvent


class Received(NamedTuple):
    """What is new, in order, and whether the connection that brought it is still good."""

    news: Sequence[News]
    is_sound: bool


class Follower:
    """One watcher's place in a run. `begin` at each connection, then `receive_message` for each message of it."""

    def __init__(self, *, after: Cursor) -> None:
        self.cursor = after  # the last event handed on, or where a rewind or snapshot has led
        self.is_ended = False  # the last event handed on was the run's last
        self._behind_at: int | None = None  # our seq at the last heartbeat, if that one knew of more

    def begin(self) -> None:
        """Another connection: what the one before said of how far the run is no longer counts."""
        self._behind_at = None

    def receive_message(self, message: str | bytes) -> Received:
        """Take one frame, or several joined by newlines."""
        # All of it is read before any of it counts: a message with something unreadable is asked for again whole.
        frames = _read_message(message)
        if frames is None:
            return Received((), is_sound=False)
        news: list[News] = []
        for frame in frames:
            if isinstance(frame, RunEvent) and self._is_seen(frame.cursor):
                continue
            if not self._take(frame):
                return Received(news, is_sound=False)
            news.append(frame)
        return Received(news, is_sound=True)

    def _take(self, frame: News) -> bool:
        if isinstance(frame, ControlEvent):
            return self._receive_control(frame)
        if frame.seq != self.cursor.seq + 1:
            return False
        self.cursor = frame.cursor
        self.is_ended = _is_final(frame)
        return True

    def _is_seen(self, cursor: Cursor) -> bool:
        """Whether the event stands at or before our cursor in the log's order.

        A seq that we have, of a later attempt, isn't seen: ours was lost by everybody, and the gateway has to say so.
        """
        if self.cursor.attempt == UNKNOWN_ATTEMPT:
            return cursor.seq <= self.cursor.seq
        return cursor <= self.cursor

    def _receive_control(self, frame: ControlEvent) -> bool:
        if frame.type in {ControlType.REWIND, ControlType.SNAPSHOT}:
            return self._jump(frame)
        return frame.type != ControlType.HEARTBEAT or self._receive_heartbeat(frame.payload.get("lastSeq"))

    def _jump(self, frame: ControlEvent) -> bool:
        try:
            to = Cursor.parse(str(frame.payload.get("to")))
        except InvalidCursorError:
            return False
        if frame.type == ControlType.REWIND and to.seq > self.cursor.seq:
            return False
        self.cursor = to
        self.is_ended = False
        return True

    def _receive_heartbeat(self, last_seq: object) -> bool:
        """Two heartbeats that know of more, and nothing in between: what is missing won't come by itself."""
        is_behind = isinstance(last_seq, int) and last_seq > self.cursor.seq
        was_behind = self._behind_at == self.cursor.seq
        self._behind_at = self.cursor.seq if is_behind else None
        return not (is_behind and was_behind)


def _read_message(message: str | bytes) -> Sequence[News] | None:
    """The frames of a message. None if one of them isn't a frame."""
    lines = message.split("\n") if isinstance(message, str) else message.split(b"\n")
    try:
        return [_read_frame(line) for line in lines if line]
    except (msgspec.MsgspecError, TypeError):
        return None


def _read_frame(line: str | bytes) -> News:
    fields = msgspec.json.decode(line)
    return msgspec.convert(fields, RunEvent) if "seq" in fields else msgspec.convert(fields, ControlEvent)


def _is_final(event: RunEvent) -> bool:
    if event.type == EventType.RUN_COMPLETED:
        return True
    return event.type == EventType.RUN_STATUS and event.payload.get("status") in FINAL_STATUSES
