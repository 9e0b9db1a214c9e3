"""Many runs on one socket: runs followed each from its own cursor, and the statuses of all runs or of those with a tag.

A followed run is here what it is on a socket of its own: `connected` first, every event once and in order, its own
heartbeats; only its end is a `bye` frame, for the socket stays. Statuses have no cursor: as soon as one may have been
lost, the socket closes and its client loads its list again.

Fair: runs take turns at writing, and a turn is what a watcher takes at once (64 KiB, or one larger frame). A run that
has much to say can't starve the others, and a peer that doesn't read holds back itself alone.

Limits: `MAX_SUBSCRIPTIONS` of a socket, above it an error frame; `MAX_MISTAKES`, then the socket closes;
`MAX_WAITING_STATUSES` not yet sent, then it closes as well.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from runcast.concurrency import end_tasks
from runcast.errors import InvalidInputError, RuncastError, SubscriptionLimitError, UnavailableError
from runcast.events import Cursor, LoggedEvent, encode_json, format_ts
from runcast.gateway.connections import Connections, Ending, Transport
from runcast.gateway.messages import MessageSocket
from runcast.gateway.subscriptions import ClientFrame, Interests, read_client_frame
from runcast.gateway.tags import RunTags
from runcast.ports import RunLog
from runcast.services.live_run import ByeReason

MAX_SUBSCRIPTIONS: Final = 1_000
MAX_MISTAKES: Final = 10
MAX_WAITING_STATUSES: Final = 1_000

Close = tuple[int, str]
"""A close code and its reason."""

CLOSE_RELOAD: Final[Close] = (1012, "updates may have been lost; load the list again")
CLOSE_MISTAKES: Final[Close] = (4400, "too many frames that can't be read")


class _Named(msgspec.Struct, rename="camel"):
    run_id: str


_named_decoder: Final = msgspec.json.Decoder(_Named)


class Multiplex:
    """One socket of many runs, from its first frame to its last. Call `serve` once."""

    def __init__(
        self,
        socket: MessageSocket,
        *,
        connections: Connections,
        log: RunLog,
        tags: RunTags,
        clock: Callable[[], datetime],
        heartbeat_seconds: float,
    ) -> None:
        self._socket: Final = socket
        self._connections: Final = connections
        self._log: Final = log
        self._tags: Final = tags
        self._clock: Final = clock
        self._heartbeat_seconds: Final = heartbeat_seconds
        self._interests: Final = Interests()
        self._followed: Final[dict[str, asyncio.Task[None]]] = {}  # by run id
        self._waiting: Final[asyncio.Queue[LoggedEvent | None]] = asyncio.Queue(MAX_WAITING_STATUSES)  # None: a gap
        self._turn: Final = asyncio.Lock()  # first come, first served
        self._is_open = False
        self._is_runless = (
            False  # whether it counts as a connection by itself: it hears statuses, and follows no run that counts
        )
        self._has_overflowed = False
        self._mistakes = 0
        self._close: Close | None = None

    async def serve(self) -> tuple[Ending, Close | None]:
        """Serve until the peer goes, the gateway stops, or the socket is to be closed: then, how.

        Raises:
            UnavailableError: statuses can't be had now, or the gateway has no place left.

        """
        with self._connections.take_place(), self._counted():
            undo_gap = self._log.on_gap(lambda: self._receive_status(None))
            try:
                unsubscribe = await self._log.on_status(self._receive_status)
                try:
                    ending = await self._connections.run_until_gone(self._send_statuses(), self._receive())
                finally:
                    await end_tasks(*self._followed.values())
                    await unsubscribe()
            finally:
                undo_gap()
        return ending, self._close

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._is_open = True
        self._count()
        try:
            yield
        finally:
            self._is_open = False  # before the last of its runs is forgotten
            self._count()

    def _count(self) -> None:
        is_runless = self._is_open and self._interests.is_any and not self._followed
        self._connections.count_runless(is_runless - self._is_runless)
        self._is_runless = is_runless

    def _receive_status(self, event: LoggedEvent | None) -> None:
        if not self._interests.is_any:
            return
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self._has_overflowed = True  # the sender will notice, and close

    async def _send_statuses(self) -> None:
        await self._send_control("run_status", {"status": "connected"})
        while True:
            try:
                async with asyncio.timeout(self._heartbeat_seconds):
                    event = await self._waiting.get()
            except TimeoutError:
                await self._send_control("heartbeat", {})
                continue
            if event is None or self._has_overflowed:
                self._close = CLOSE_RELOAD
                return
            try:
                if await self._is_wanted(event):
                    await self._send([event.raw])
            except UnavailableError:
                self._close = CLOSE_RELOAD
                return

    async def _is_wanted(self, event: LoggedEvent) -> bool:
        if self._interests.has_all or not self._interests.tags:
            return self._interests.has_all
        tags = await self._tags.of(_named_decoder.decode(event.raw).run_id)
        return not self._interests.tags.isdisjoint(tags)

    async def _receive(self) -> None:
        """Take the client's frames, one after the other, until it leaves or makes too many mistakes."""
        while (message := await self._socket.receive()) is not None:
            try:
                await self._receive_frame(read_client_frame(message))
            except InvalidInputError as error:
                self._mistakes += 1
                if self._mistakes >= MAX_MISTAKES:
                    self._close = CLOSE_MISTAKES
                    return
                await self._send_error(error)
            except SubscriptionLimitError as error:
                await self._send_error(error)

    async def _receive_frame(self, frame: ClientFrame) -> None:
        if frame.type == "subscribe" and len(self._followed) + len(self._interests.tags) >= MAX_SUBSCRIPTIONS:
            raise SubscriptionLimitError(MAX_SUBSCRIPTIONS)
        self._interests.receive(frame)
        self._count()
        if frame.run_id is None:
            await self._confirm(frame)
        elif frame.type == "subscribe":
            await self._subscribe(frame.run_id, frame.start)
        else:
            await self._unsubscribe(frame.run_id)

    async def _confirm(self, frame: ClientFrame) -> None:
        what = {"all": True} if frame.all else {"tag": frame.tag}
        if frame.type == "subscribe":
            await self._send_control("run_status", {"status": "connected", **what})
        else:
            await self._send_control("bye", {"reason": ByeReason.UNSUBSCRIBED, **what})

    async def _subscribe(self, run_id: str, after: Cursor) -> None:
        if run_id in self._followed:
            taken = InvalidInputError("the run is followed already: unsubscribe first", field="runId")
            await self._send_error(taken, run_id)
            return
        task = self._followed[run_id] = asyncio.create_task(self._follow(run_id, after), name=f"follow-{run_id[:64]}")
        self._count()
        task.add_done_callback(lambda done: self._forget(run_id) if self._is_of(run_id, done) else None)

    async def _unsubscribe(self, run_id: str) -> None:
        await end_tasks(self._forget(run_id))
        await self._send_control("bye", {"reason": ByeReason.UNSUBSCRIBED}, run_id)

    def _forget(self, run_id: str) -> asyncio.Task[None] | None:
        task = self._followed.pop(run_id, None)
        self._count()
        return task

    def _is_of(self, run_id: str, task: asyncio.Task[None]) -> bool:
        """Whether the task is still the one that follows the run: it may have been subscribed to again."""
        return self._followed.get(run_id) is task

    async def _follow(self, run_id: str, after: Cursor) -> None:
        # A peer that has left is noticed by `_receive`, which ends everything.
        with contextlib.suppress(OSError):
            try:
                async with self._connections.watch(run_id, after=after, transport=Transport.MULTIPLEX) as watcher:
                    await self._send([watcher.hello()])
                    while (frames := await watcher.next_frames()) is not None:
                        await self._send(frames)
                    await self._send([watcher.bye(ByeReason.FINISHED)])
            except RuncastError as error:
                await self._send_error(error, run_id)

    async def _send_error(self, error: RuncastError, run_id: str | None = None) -> None:
        payload = {"code": error.code, "message": str(error)}
        await self._send_control("error", payload if run_id is None else {**payload, "runId": run_id[:64]})

    async def _send_control(self, frame_type: str, payload: Mapping[str, Any], run_id: str | None = None) -> None:
        frame = {"type": frame_type, "payload": payload, "ts": format_ts(self._clock())}
        await self._send([encode_json(frame if run_id is None else {**frame, "runId": run_id[:64]})])

    async def _send(self, frames: Sequence[bytes]) -> None:
        async with self._turn:
            await self._socket.send(frames)
