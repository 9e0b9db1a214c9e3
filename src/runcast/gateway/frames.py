"""What the transports see of a frame without parsing it, and how a watcher says where it wants to begin."""

from runcast.errors import AmbiguousCursorError
from runcast.events import START, Cursor, read_event


def cursor_of(frame: bytes) -> Cursor | None:
    """The place of an event's frame; None for a control frame.

    An event ends with the number of its attempt, a control frame with its run's id: a string.
    """
    return None if frame.endswith(b'"}') else read_event(frame).cursor


def read_start(after: str | None, starting_after: str | None, *, last_event_id: str | None = None) -> Cursor | None:
    """The cursor that a watcher brings, under whichever name; None if it brings none and begins at the start.

    `Last-Event-ID` wins: a browser adds it by itself to an address that still has the first cursor in it.

    Raises:
        AmbiguousCursorError: `after` and `starting_after` are both given.
        InvalidCursorError: it isn't a cursor.

    """
    if after is not None and starting_after is not None:
        raise AmbiguousCursorError
    given = last_event_id or after or starting_after
    return Cursor.parse(given) if given else None


def is_from_snapshot(snapshot: bool, start: Cursor | None) -> bool:  # noqa: FBT001 - both come from the request
    """Whether a watcher gets a snapshot first: it asked for one, and hasn't seen anything yet."""
    return snapshot and (start or START).seq == 0
