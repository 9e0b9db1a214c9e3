"""A live run: one run that is watched in this gateway, joined once and shared by all its watchers.

What is new goes to the watchers in step by one broadcast. The others, who are behind or whose transport asks for its
frames, look for themselves: they are woken.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from runcast.concurrency import end_tasks
from runcast.core.delivery import Feed, Frame, Rewind
from runcast.errors import UnavailableError
from runcast.events import (
    FINAL_STATUSES,
    START,
    ControlType,
    Cursor,
    EventType,
    LoggedEvent,
    encode_control,
    read_event,
)
from runcast.logs import get_logger
from runcast.ports import Unsubscribe
from runcast.services.broadcast import Broadcast, Listener, Wire
from runcast.services.history import History, RunReader
from runcast.services.snapshots import RunSnapshots
from runcast.services.turn import Turn

log = get_logger()

MAX_BYTES_HELD: Final = 262_144
FIRST_RETRY_SECONDS: Final = 0.02
MAX_RETRY_SECONDS: Final = 1.0


class ByeReason(StrEnum):
    """Why no more frames come."""

    FINISHED = "finished"  # the run has ended, and everything was given out
    RESTART = "restart"  # the gateway stops: come back with your cursor
    UNSUBSCRIBED = "unsubscribed"


class Follower(Protocol):
    """A watcher who looks for itself."""

    def wake(self) -> None:
        """Look again what there is."""
        ...

    def receive_heartbeat(self, frame: bytes) -> None:
        """Pass on a sign of life."""
        ...


class PushedFollower(Follower, Listener, Protocol):
    """A watcher who looks for itself only while it is behind."""


class Surroundings(NamedTuple):
    """What the live runs of a gateway have in common."""

    history: History
    turn: Turn
    is_degraded: Callable[[], bool]  # whether Redis is away just now
    now: Callable[[], str]


class LiveRun:
    """One run that is watched here: its feed, its place on the wire, and who watches."""

    __slots__ = (
        "_encoded",
        "_heard",
        "_held",
        "_held_size",
        "_history_reader",
        "_is_due",
        "_is_heard",
        "_last_told",
        "_quiet_looks",
        "_reader",
        "_reads",
        "_sent",
        "_snapshots",
        "_surroundings",
        "_ticks",
        "_turn",
        "apart",
        "broadcast",
        "feed",
        "run_id",
        "unsubscribe",
    )

    def __init__(self, run_id: str, *, surroundings: Surroundings) -> None:
        self.run_id: Final = run_id
        self.broadcast: Final = Broadcast()  # those in step: all stand at `_sent`
        self.apart: Final[set[Follower]] = set()  # those who look for themselves
        self.feed: Feed | None = None  # None until joined
        self.unsubscribe: Unsubscribe | None = None
        self._surroundings: Final = surroundings
        self._turn: Final = surroundings.turn
        self._history_reader: Final = RunReader(surroundings.history, run_id)
        self._snapshots: RunSnapshots | None = None  # None until somebody asks for one
        self._sent = START
        self._is_due = False  # whether a broadcast comes at the end of this turn
        self._ticks = 0  # halves of the time between two heartbeats
        self._last_told = 0  # the tick before the last broadcast
        self._is_heard = True  # whether the wire has brought an event since the last look
        self._quiet_looks = 0  # looks since it brought one
        self._held: list[LoggedEvent] = []  # came before the feed was there
        self._held_size = 0  # bytes; what passes the limit is let go, and read from the log
        self._heard = START  # the last event that came before the feed was there
        self._reader: asyncio.Task[None] | None = None  # fills the feed's hole
        self._reads: dict[Cursor, asyncio.Task[Sequence[LoggedEvent]]] = {}  # under way for watchers, by cursor
        self._encoded: tuple[Wire, Sequence[Frame], bytes] | None = None  # what was encoded last for one apart

    @property
    def is_over(self) -> bool:
        """Whether the run has ended and its end is here."""
        return self.feed is not None and self.feed.is_ended

    @property
    def is_watched(self) -> bool:
        """Whether anybody watches."""
        return bool(self.apart or self.broadcast)

    def join(self, feed: Feed) -> None:
        """Begin with a feed; what was held goes into it."""
        self.feed = feed
        for event in self._held:
            feed.receive_live(event)
        self._held.clear()
        feed.receive_last(self._heard)
        self._sent = feed.head
        self._read_if_needed(feed)

    def receive(self, raw: bytes) -> None:
        """Take an event from the wire, where anybody with access to Redis may publish anything."""
        self._is_heard = True
        feed = self.feed
        if feed is None:
            if (event := self._parse(raw)) is not None:
                self._hold(event)
        elif feed.receive_raw(raw) or ((event := self._parse(raw)) is not None and feed.receive_live(event)):
            if not self._is_due:
                self._is_due = True
                self._turn.add(self)
        else:
            self._read_if_needed(feed)

    def is_look_due(self) -> bool:
        """Whether to ask how far the run has got, at this look: it was quiet since the last one, and not asked then."""
        was_heard, self._is_heard = self._is_heard, False
        self._quiet_looks = 0 if was_heard else self._quiet_looks + 1
        return self._quiet_looks % 2 == 1

    def receive_last(self, last: Cursor) -> None:
        """Take the word of the log how far it reaches."""
        if self.feed is not None:
            self.feed.receive_last(last)
            self._read_if_needed(self.feed)

    def flush(self) -> None:
        """Broadcast what is new, and have the others look."""
        self._is_due = False
        feed = self.feed
        if feed is None:
            return
        before, self._sent = self._sent, feed.head
        if before is not self._sent and before != self._sent:
            self._last_told = self._ticks
            self._encoded = None
            self._broadcast_after(before, feed)
        if feed.status in FINAL_STATUSES and feed.is_ended:
            for listener in self.broadcast.listeners:
                listener.outlet.receive_end()
        if self.apart:
            for follower in tuple(self.apart):
                follower.wake()

    def _broadcast_after(self, before: Cursor, feed: Feed) -> None:
        raws = feed.raws_after(before)
        if raws is not None:
            self.broadcast.write(raws)
            return
        # Events were taken back, or more have come at once than the tail holds: everybody has to see for itself.
        for listener in self.broadcast.listeners:
            listener.fall_behind(before)

    def step_in(self, watcher: PushedFollower) -> None:
        """Go on by broadcast. Only for one who has seen all that the feed has."""
        if self._is_due:
            self.flush()  # to the others: this one has it
        self.apart.discard(watcher)
        self.broadcast.add(watcher)

    def step_out(self, watcher: PushedFollower) -> Cursor:
        """Go on alone, from where the broadcast is."""
        self.broadcast.discard(watcher)
        self.apart.add(watcher)
        return self._sent

    def leave(self, watcher: Follower | PushedFollower) -> None:
        """Watch no more."""
        self.apart.discard(watcher)
        self.broadcast.discard(watcher)

    def tick(self) -> None:
        """Send heartbeats where they are due. To be called twice in the time between two heartbeats."""
        self._ticks += 1
        if self._ticks > self._last_told + 1:  # nothing was broadcast in this half of the time or the one before
            self._last_told = self._ticks
            if self.broadcast:
                self.broadcast.write([self.heartbeat()])
        if self._ticks % 2 == 0 and self.apart:
            frame = self.heartbeat()
            for follower in tuple(self.apart):
                follower.receive_heartbeat(frame)
        self.flush()

    def hello(self) -> bytes:
        """The first frame of every connection."""
        payload = {"status": "connected", **self._describe("runStatus")}
        return self.encode_control(EventType.RUN_STATUS, payload)

    def heartbeat(self) -> bytes:
        """A sign of life that also says where the run stands."""
        return self.encode_control(ControlType.HEARTBEAT, self._describe("status"))

    def bye(self, reason: ByeReason) -> bytes:
        """The last frame where the transport itself can't say why it ends."""
        return self.encode_control(ControlType.BYE, {"reason": reason, **self._describe("status")})

    def encode_control(self, control: ControlType | EventType, payload: Mapping[str, Any]) -> bytes:
        """A control frame of this run, of now."""
        return encode_control(control, self.run_id, payload, self._surroundings.now())

    def encode(self, wire: Wire, frames: Sequence[Frame]) -> bytes:
        """Frames for one who looks for itself, as one piece. What several of them take alike is encoded once."""
        memo = self._encoded
        if memo is not None and memo[0] is wire and _are_same(memo[1], frames):
            return memo[2]
        piece = wire.encode(self.raws(frames))
        self._encoded = (wire, frames, piece) if len(self.apart) > 1 else None
        return piece

    def raws(self, frames: Sequence[Frame]) -> list[bytes]:
        """Frames as bytes."""
        return [self._rewind(frame) if isinstance(frame, Rewind) else frame.raw for frame in frames]

    async def read(self, after: Cursor) -> Sequence[LoggedEvent]:
        """The history's next events after a cursor. Those who ask for the same at the same time read once.

        Raises:
            UnavailableError: it can't be read now.

        """
        read = self._reads.get(after)
        if read is None:
            read = self._reads[after] = asyncio.create_task(self._read_past(after), name=f"read-{self.run_id}")
            read.add_done_callback(lambda done: self._end_read(after, done))
        return await asyncio.shield(read)

    async def take_snapshot(self) -> tuple[Cursor, Mapping[str, Any]] | None:
        """Where a snapshot of now stands and what it says. None if it would be too large.

        Raises:
            UnavailableError: the history can't be read now.

        """
        if self._snapshots is None:
            self._snapshots = RunSnapshots(self.run_id, history=self._surroundings.history)
        return await self._snapshots.take(to=self.feed.head if self.feed else START)

    async def close(self) -> None:
        """Stop listening and reading."""
        if self.unsubscribe is not None:
            await self.unsubscribe()
        await end_tasks(self._reader, *self._reads.values())

    def _parse(self, raw: bytes) -> LoggedEvent | None:
        try:
            return read_event(raw)
        except ValueError:
            log.warning("❌ something that isn't an event was published", run_id=self.run_id, length=len(raw))
            return None

    def _hold(self, event: LoggedEvent) -> None:
        self._heard = max(self._heard, event.cursor)
        if self._held_size + len(event.raw) <= MAX_BYTES_HELD:
            self._held.append(event)
            self._held_size += len(event.raw)

    def _read_if_needed(self, feed: Feed) -> None:
        if feed.needs_read and (self._reader is None or self._reader.done()):
            self._reader = asyncio.create_task(self._fill_hole(feed), name=f"feed-{self.run_id}")

    async def _fill_hole(self, feed: Feed) -> None:
        """Read what the feed lacks, however often it takes."""
        pause = FIRST_RETRY_SECONDS
        while feed.needs_read:
            if feed.receive_read(await self._read_history(feed.head)):
                self.flush()
                pause = FIRST_RETRY_SECONDS
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_RETRY_SECONDS)

    async def _read_history(self, after: Cursor) -> Sequence[LoggedEvent]:
        try:
            return await self._history_reader.read(after)
        except UnavailableError as error:
            log.warning("❌ neither log nor archive can be read", run_id=self.run_id, error=str(error))
        except Exception:  # it is tried again like any other, after a pause
            log.exception("❌ reading a run's history failed", run_id=self.run_id)
        return ()

    async def _read_past(self, after: Cursor) -> Sequence[LoggedEvent]:
        events = await self._history_reader.read(after)
        if self.feed is not None:
            self.feed.receive_past(after, events)
        return events

    def _end_read(self, after: Cursor, read: "asyncio.Task[Sequence[LoggedEvent]]") -> None:
        del self._reads[after]
        if not read.cancelled():
            read.exception()  # whoever still waits gets it; nobody has to

    def _rewind(self, rewind: Rewind) -> bytes:
        return self.encode_control(ControlType.REWIND, {"to": str(rewind.to)})

    def _describe(self, status_key: str) -> Mapping[str, Any]:
        feed = self.feed
        if feed is None:
            raise RuntimeError("a run is joined before it is watched")
        described = {"lastSeq": feed.head.seq, status_key: feed.status, "final": feed.status.is_final}
        return described | {"degraded": True} if self._surroundings.is_degraded() else described


def _are_same(some: Sequence[Frame], others: Sequence[Frame]) -> bool:
    """Whether they are the very same frames: a feed's tail gives out its events, not copies."""
    return len(some) == len(others) and some[0] is others[0] and some[-1] is others[-1]
