"""A watcher: one follower of a run, whatever transport carries its frames.

It is asked for frames when those before have been taken, so a slow one holds back only itself. Nothing that fails
ends it: what can't be read now is tried again.
"""

import asyncio
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from runcast.core.delivery import Feed, Frame, Need, Rewind, Subscription
from runcast.errors import UnavailableError
from runcast.events import ControlType, Cursor, EventType, RunStatus, encode_control
from runcast.services.history import History, RunReader
from runcast.services.live_run import FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS, LiveRun

MAX_BYTES_PER_TAKE: Final = 65_536


class ByeReason(StrEnum):
    """Why no more frames come."""

    FINISHED = "finished"  # the run has ended, and everything was given out
    RESTART = "restart"  # the gateway stops: come back with your cursor
    UNSUBSCRIBED = "unsubscribed"


class Watcher:
    """One follower of a run. `hello` first, then `next_frames` until it returns None."""

    def __init__(
        self,
        live: LiveRun,
        feed: Feed,
        *,
        after: Cursor,
        from_snapshot: bool,
        history: History,
        is_degraded: Callable[[], bool],
        now: Callable[[], str],
    ) -> None:
        self.run_id: Final = live.run_id
        self._live: Final = live
        self._feed: Final = feed
        self._subscription = Subscription(feed, after=after)
        self._is_snapshot_due = from_snapshot
        self._is_degraded: Final = is_degraded  # whether Redis is away just now
        self._reader: Final = RunReader(history, live.run_id)
        self._now: Final = now
        self._changed: Final = asyncio.Event()
        self._is_heartbeat_due = False
        self._pause = FIRST_RETRY_SECONDS

    @property
    def status(self) -> RunStatus:
        """The run's status as the feed knows it."""
        return self._feed.status

    @property
    def cursor(self) -> Cursor:
        """The last event given out."""
        return self._subscription.cursor

    @property
    def is_finished(self) -> bool:
        """Whether the run has ended and everything was given out."""
        return self._subscription.need is Need.END

    def hello(self) -> bytes:
        """The first frame of every connection."""
        payload = {"status": "connected", **self._describe("runStatus")}
        return encode_control(EventType.RUN_STATUS, self.run_id, payload, self._now())

    def wake(self, *, heartbeat: bool) -> None:
        """Look again what there is, or that there is nothing."""
        self._is_heartbeat_due |= heartbeat
        self._changed.set()

    async def next_frames(self) -> list[bytes] | None:
        """The next frames as soon as there are any; None once the run has ended and all was given out."""
        while True:
            self._changed.clear()
            if self._is_snapshot_due and (snapshot := await self._take_snapshot()) is not None:
                return [snapshot]
            need = self._subscription.need
            if need is Need.TAKE:
                return [self._encode(frame) for frame in self._subscription.take(max_bytes=MAX_BYTES_PER_TAKE)]
            if need is Need.END:
                return None
            if self._is_heartbeat_due:
                self._is_heartbeat_due = False
                return [self.heartbeat()]
            await (self._read() if need is Need.READ else self._changed.wait())

    def heartbeat(self) -> bytes:
        """A sign of life that also says where the run stands."""
        return encode_control(ControlType.HEARTBEAT, self.run_id, self._describe("status"), self._now())

    def bye(self, reason: ByeReason) -> bytes:
        """The last frame where the transport itself can't say why it ends."""
        payload = {"reason": reason, **self._describe("status")}
        return encode_control(ControlType.BYE, self.run_id, payload, self._now())

    async def _take_snapshot(self) -> bytes | None:
        """The snapshot, from which the watcher then goes on. None if there can't be one: events will do as well."""
        self._is_snapshot_due = False
        try:
            taken = await self._live.snapshots.take(to=self._feed.head)
        except UnavailableError:
            return None
        if taken is None:
            return None
        cursor, payload = taken
        self._subscription = Subscription(self._feed, after=cursor)
        return encode_control(ControlType.SNAPSHOT, self.run_id, payload, self._now())

    async def _read(self) -> None:
        try:
            events = await self._reader.read(self._subscription.cursor)
        except UnavailableError:
            events = ()
        if self._subscription.receive_read(events):
            self._pause = FIRST_RETRY_SECONDS
            return
        # Nobody has the next event yet: the writer is putting it back, or the archive is about to get it.
        await asyncio.sleep(self._pause)
        self._pause = min(self._pause * 2, MAX_RETRY_SECONDS)

    def _describe(self, status_key: str) -> Mapping[str, Any]:
        feed = self._feed
        described = {"lastSeq": feed.head.seq, status_key: feed.status, "final": feed.status.is_final}
        return described | {"degraded": True} if self._is_degraded() else described

    def _encode(self, frame: Frame) -> bytes:
        if isinstance(frame, Rewind):
            return encode_control(ControlType.REWIND, self.run_id, {"to": str(frame.to)}, self._now())
        return frame.raw
