"""A watcher: one follower of a run, whatever transport carries its frames.

A `PulledWatcher` is asked for frames when those before have been taken. A `PushedWatcher` writes to its outlet by
itself: it is in step with the run's broadcast, or behind; while its outlet is full it does nothing, while the tail
doesn't reach back to its cursor it has a task that reads. Either way a slow one holds back only itself, and nothing
that fails ends it: what can't be read now is tried again.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from runcast.core.delivery import Feed, Frame, Need, Subscription
from runcast.errors import UnavailableError
from runcast.events import ControlType, Cursor, RunStatus
from runcast.services.broadcast import Outlet, Wire
from runcast.services.live_run import FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, ByeReason, LiveRun

MAX_BYTES_PER_TAKE: Final = 65_536


class Watcher:
    """What all watchers have: a place in a run."""

    __slots__ = ("_feed", "_live", "_subscription")

    def __init__(self, live: LiveRun, feed: Feed, *, after: Cursor) -> None:
        self._live: Final = live
        self._feed: Final = feed
        self._subscription = Subscription(feed, after=after)

    @property
    def live(self) -> LiveRun:
        """The run that is watched."""
        return self._live

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._live.run_id

    @property
    def cursor(self) -> Cursor:
        """The last event given out; of one in step, as of when it stepped in."""
        return self._subscription.cursor

    @property
    def status(self) -> RunStatus:
        """The run's status as the feed knows it."""
        return self._feed.status

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended and everything was given out."""
        return self._subscription.need is Need.END

    def hello(self) -> bytes:
        """The first frame of every connection."""
        return self._live.hello()

    def bye(self, reason: ByeReason) -> bytes:
        """The last frame where the transport itself can't say why it ends."""
        return self._live.bye(reason)

    async def take_snapshot(self) -> bytes | None:
        """The snapshot, from which the watcher then goes on. None if there can't be one: events will do as well."""
        try:
            taken = await self._live.take_snapshot()
        except UnavailableError:
            return None
        if taken is None:
            return None
        cursor, payload = taken
        self._subscription = Subscription(self._feed, after=cursor)
        return self._live.encode_control(ControlType.SNAPSHOT, payload)

    async def _read(self) -> None:
        """Read until there are frames, from wherever they come."""
        pause = FIRST_RETRY_SECONDS
        while self._subscription.need is Need.READ:
            try:
                events = await self._live.read(self._subscription.cursor)
            except UnavailableError:
                events = ()
            if not self._subscription.receive_read(events):
                # Nobody has the next event yet: the writer is putting it back, or the archive is about to get it.
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_RETRY_SECONDS)


class PulledWatcher(Watcher):
    """`hello` first, then `next_frames` or `next_piece` until it returns None; `close` after."""

    __slots__ = ("_changed", "_heartbeat", "_is_snapshot_due", "_reading")

    def __init__(self, live: LiveRun, feed: Feed, *, after: Cursor, from_snapshot: bool) -> None:
        super().__init__(live, feed, after=after)
        self._is_snapshot_due = from_snapshot
        self._changed: Final = asyncio.Event()
        self._heartbeat: bytes | None = None  # to be given out
        self._reading: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Look again what there is."""
        self._changed.set()

    def receive_heartbeat(self, frame: bytes) -> None:
        """Give it out, unless there is something else."""
        self._heartbeat = frame
        self._changed.set()

    async def next_frames(self) -> list[bytes] | None:
        """The next frames as soon as there are any; None once the run has ended and all was given out."""
        taken = await self._next()
        if taken is None or isinstance(taken, bytes):
            return None if taken is None else [taken]
        return self._live.raws(taken)

    async def next_piece(self, wire: Wire) -> bytes | None:
        """The same, encoded."""
        taken = await self._next()
        if taken is None or isinstance(taken, bytes):
            return None if taken is None else wire.encode([taken])
        return self._live.encode(wire, taken)

    def close(self) -> None:
        """Ask no more."""
        if self._reading is not None:
            self._reading.cancel()

    async def _next(self) -> Sequence[Frame] | bytes | None:
        """Events of the run, or one frame of the connection."""
        if self._is_snapshot_due:
            self._is_snapshot_due = False
            if (snapshot := await self.take_snapshot()) is not None:
                return snapshot
        while True:
            self._changed.clear()
            need = self._subscription.need
            if need is Need.END:
                return None
            heartbeat, self._heartbeat = self._heartbeat, None
            if need is Need.TAKE:
                return self._subscription.take(max_bytes=MAX_BYTES_PER_TAKE)
            if heartbeat is not None:
                return heartbeat
            if need is Need.READ:
                self._read_aside()
            await self._changed.wait()

    def _read_aside(self) -> None:
        # Not awaited here: a log that hangs must not hold up heartbeats.
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name=f"watcher-{self.run_id}")
            self._reading.add_done_callback(self._end_reading)

    def _end_reading(self, _: "asyncio.Task[None]") -> None:
        self._reading = None  # a cancelled task knows us by its traceback: no cycle is left behind
        self._changed.set()


class PushedWatcher(Watcher):
    """Writes to its outlet by itself, from `start` to `close`.

    In step it is a listener of the run's broadcast. Else it is apart: new, full, reading, or ahead of the run.
    """

    __slots__ = ("_is_closed", "_is_in_step", "_is_live", "_reading", "outlet")

    def __init__(self, live: LiveRun, feed: Feed, *, after: Cursor, outlet: Outlet) -> None:
        super().__init__(live, feed, after=after)
        self.outlet: Final = outlet
        self._is_live = False  # between `start` and `close`
        self._is_closed = False
        self._is_in_step = False  # then the subscription stands still: it stands where the broadcast does
        self._reading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Say hello, and begin."""
        outlet, subscription = self.outlet, self._subscription
        hello = outlet.wire.encode([self._live.hello()])
        need = subscription.need
        if need is Need.TAKE:  # then one write says it all
            hello += self._take()
        outlet.write(hello)
        self._is_live = True
        # Fast path: a storm's watchers have seen everything, see `python -m bench --only storm`.
        if need is Need.WAIT and subscription.is_level and not outlet.is_full:
            self._step_in()
        else:
            self.wake()

    async def start_from_snapshot(self) -> None:
        """Say hello, give the snapshot if one can be made, and begin."""
        self._write(self.hello())
        snapshot = await self.take_snapshot()
        if self._is_closed:  # the read may outlive the peer: not everything that is waited for can be cancelled
            return
        if snapshot is not None:
            self._write(snapshot)
        self._is_live = True
        self.wake()

    def close(self) -> None:
        """Write no more."""
        self._is_live, self._is_closed = False, True
        if self._reading is not None:
            self._reading.cancel()

    def wake(self) -> None:
        """Write what there is, as far as the outlet takes it; then be in step, read, or wait to be woken."""
        while self._is_live and not self._is_in_step and not self.outlet.is_full:
            need = self._subscription.need
            if need is Need.TAKE:
                self.outlet.write(self._take())
                continue
            if need is Need.READ:
                self._read_aside()
            elif need is Need.END:
                self.outlet.receive_end()
            elif self._subscription.is_level:
                self._step_in()
            return

    def receive_heartbeat(self, frame: bytes) -> None:
        """Pass it on, unless there is more than enough under way."""
        if not self.outlet.is_full:
            self._write(frame)

    def receive_full(self) -> None:
        """The outlet is full: stop until it is woken."""
        if self._is_in_step:
            self._stand_alone(self._live.step_out(self))

    def fall_behind(self, at: Cursor) -> None:
        """Go on alone from there."""
        self._live.step_out(self)
        self._stand_alone(at)
        self.wake()

    def _step_in(self) -> None:
        self._is_in_step = True
        if self._reading is not None:
            self._reading.cancel()  # what it would bring comes by broadcast
        self._live.step_in(self)

    def _stand_alone(self, at: Cursor) -> None:
        self._is_in_step = False
        self._subscription.stand_at(at)

    def _take(self) -> bytes:
        return self._live.encode(self.outlet.wire, self._subscription.take(max_bytes=MAX_BYTES_PER_TAKE))

    def _write(self, frame: bytes) -> None:
        self.outlet.write(self.outlet.wire.encode([frame]))

    def _read_aside(self) -> None:
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name=f"watcher-{self.run_id}")
            self._reading.add_done_callback(self._end_reading)

    def _end_reading(self, _: "asyncio.Task[None]") -> None:
        self._reading = None  # a cancelled task knows us by its traceback: no cycle is left behind
        self.wake()
