"""The broadcast: the watchers of one run who have seen everything get what is new at once, encoded once per transport.

Whoever is in step has no cursor of its own and no task: it costs an entry here, and one write for all that came in a
turn of the event loop. Whoever can't keep up leaves, standing where everybody here stands.

Never: waits, or lets one who fails hold up the others.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

from runcast.events import Cursor


class Wire(Protocol):
    """A kind of transport: how frames look on it, and how many outlets are written to at once. There is one object of
    each kind: outlets that name the same share what is encoded.
    """

    def encode(self, frames: Sequence[bytes]) -> bytes:
        """Frames as one piece of what is sent."""
        ...

    def gather(self, outlets: Sequence[Any]) -> Any:
        """What `write_all` needs of several outlets of this kind: it is kept for as long as they are the same."""
        ...

    def write_all(self, gathered: Any, piece: bytes) -> None:
        """Write a piece to each, while none is full. One that fails doesn't hold up the others."""
        ...


class Outlet(Protocol):
    """Where a watcher's frames leave: a transport that takes all it is given, and says when that is too much."""

    @property
    def wire(self) -> Wire:
        """Its kind."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether the peer is slower just now than what it is sent."""
        ...

    def write(self, piece: bytes) -> None:
        """Take an encoded piece. Doesn't wait; what can't be sent any more is let go."""
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
    """Those on the same kind of transport."""

    __slots__ = ("gathered", "listeners", "wire")

    def __init__(self, wire: Wire) -> None:
        self.wire: Final = wire
        self.listeners: Final[dict[object, Listener]] = {}  # by themselves, in the order they came
        self.gathered: Any = None  # of all listeners, by the wire; None when they have changed

    def gather(self) -> Any:
        self.gathered = self.wire.gather([listener.outlet for listener in self.listeners.values()])
        return self.gathered


class Broadcast:
    """Those of one run who are in step."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: Sequence[_Group] = ()  # one for each kind of transport; anew whenever there is another

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def listeners(self) -> list[Listener]:
        """Everybody, as of now."""
        return [listener for group in self._groups for listener in group.listeners.values()]

    def add(self, listener: Listener) -> None:
        """Write to it from now on."""
        wire = listener.outlet.wire
        group = next((group for group in self._groups if group.wire is wire), None)
        if group is None:
            group = _Group(wire)
            self._groups = (*self._groups, group)
        group.listeners[listener] = listener
        group.gathered = None

    def discard(self, listener: object) -> bool:
        """Write to it no more, from the next piece on. Whether it was in step."""
        for group in self._groups:
            if group.listeners.pop(listener, None) is not None:
                group.gathered = None
                if not group.listeners:
                    self._groups = tuple(kept for kept in self._groups if kept is not group)
                return True
        return False

    def write(self, frames: Sequence[bytes]) -> None:
        """Write the frames to everybody."""
        # Fast path: mostly one frame to one group, for every event of every watched run.
        for group in self._groups:
            wire, gathered = group.wire, group.gathered
            wire.write_all(gathered if gathered is not None else group.gather(), wire.encode(frames))
