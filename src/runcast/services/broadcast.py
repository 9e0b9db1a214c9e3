"""The broadcast: the watchers of one run who have seen everything get what is new at once, encoded once per transport.

Whoever is in step has no cursor of its own and no task: it costs an entry here, and one write for all that came in a
turn of the event loop. Whoever can't keep up leaves, standing where everybody here stands.

Never: waits, or lets one who fails hold up the others.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from runcast.events import Cursor

Encode = Callable[[Sequence[bytes]], bytes]
"""Frames as one piece of what a transport sends. One function per kind of transport: who has the same shares pieces."""


class Outlet(Protocol):
    """Where a watcher's frames leave: a transport that takes all it is given, and says when that is too much."""

    @property
    def encode(self) -> Encode:
        """How frames look on this transport."""
        ...

    @property
    def write(self) -> Callable[[bytes], None]:
        """Takes an encoded piece. Doesn't wait; what can't be sent any more is let go."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether the peer is slower just now than what it is sent."""
        ...

    def receive_end(self) -> None:
        """The run has ended, and everything was written."""
        ...


class Listener(Protocol):
    """A watcher in step."""

    @property
    def outlet(self) -> Outlet:
        """Where its frames leave."""
        ...

    def fall_behind(self, at: Cursor) -> None:
        """Go on alone from there."""
        ...


class _Group:
    """Those who share an encoding."""

    __slots__ = ("encode", "listeners", "writes")

    def __init__(self, encode: Encode) -> None:
        self.encode: Final = encode
        self.listeners: Final[dict[object, Listener]] = {}  # by themselves, in the order they came
        self.writes: list[Callable[[bytes], None]] | None = None  # of all listeners; None when they have changed

    def write(self, piece: bytes) -> None:
        if self.writes is None:
            self.writes = [listener.outlet.write for listener in self.listeners.values()]
        # Fast path: a delivery is this loop's body and the transport's write; see `python -m bench --only fanout`.
        for write in self.writes:
            try:  # noqa: SIM105 - `suppress` costs as much as the write's own Python
                write(piece)
            except (OSError, RuntimeError):  # the peer is gone; its transport is about to say so
                pass


class Broadcast:
    """Those of one run who are in step."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: Final[dict[Encode, _Group]] = {}

    def __len__(self) -> int:
        return sum(len(group.listeners) for group in self._groups.values())

    @property
    def listeners(self) -> list[Listener]:
        """Everybody, as of now."""
        return [listener for group in self._groups.values() for listener in group.listeners.values()]

    def add(self, listener: Listener) -> None:
        """Write to it from now on."""
        encode = listener.outlet.encode
        group = self._groups.setdefault(encode, _Group(encode))
        group.listeners[listener] = listener
        group.writes = None

    def discard(self, listener: object) -> bool:
        """Write to it no more, from the next piece on. Whether it was in step."""
        for group in self._groups.values():
            if group.listeners.pop(listener, None) is not None:
                group.writes = None
                if not group.listeners:
                    del self._groups[group.encode]
                return True
        return False

    def write(self, frames: Sequence[bytes]) -> None:
        """Write the frames to everybody."""
        for group in tuple(self._groups.values()):
            group.write(group.encode(frames))
