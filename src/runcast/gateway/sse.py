"""Server-sent events: a run's frames as one HTTP response that lasts as long as the run.

    retry: 1000

    data: {"type":"run_status","payload":{"status":"connected", …}

    id: 1-2
    data: {"type":"run_status","payload":{"status":"running"}, …,"seq":2,"attempt":1}

Every event has its cursor as `id`, which a browser gives back as `Last-Event-ID` when it reconnects. Control frames
have none, so a browser keeps the last event's. No block has an `event` field: every frame arrives at `onmessage`, and
says its type itself. The stream ends with a `bye` frame; a watcher that comes back after the end gets 204, at which
browsers stop.

A peer that reads slowly holds back only its own watcher: frames are asked for when the ones before have been taken by
the transport.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runcast.errors import RuncastError
from runcast.events import START, Cursor
from runcast.gateway.connections import Connections, Ending, Transport, wait_gone
from runcast.gateway.frames import cursor_of, is_from_snapshot
from runcast.gateway.problems import problem_of
from runcast.gateway.socket import GOODBYE_SECONDS
from runcast.services.live_run import ByeReason
from runcast.services.watcher import PulledWatcher

MEDIA_TYPE: Final = "text/event-stream"
RETRY_MILLISECONDS: Final = 1_000
_HEADERS: Final = {
    "content-type": MEDIA_TYPE,
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would hold events back
    "vary": "accept",
}


def is_wanted(accept: str | None) -> bool:
    """Whether the request's `Accept` names event streams."""
    return any(part.partition(";")[0].strip().lower() == MEDIA_TYPE for part in (accept or "").split(","))


class EventStream(Response):
    """The answer that follows a run. What keeps it from starting is answered as a problem."""

    def __init__(
        self,
        connections: Connections,
        run_id: str,
        *,
        start: Cursor | None = None,
        snapshot: bool = False,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status_code=status_code)
        self._connections: Final = connections
        self._run_id: Final = run_id
        self._start: Final = start
        self._snapshot: Final = snapshot
        self._more_headers: Final = dict(headers or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send frames until the run has ended or the peer is gone."""
        try:
            async with self._connections.watch(
                self._run_id,
                after=self._start or START,
                transport=Transport.SSE,
                from_snapshot=is_from_snapshot(self._snapshot, self._start),
            ) as watcher:
                if self._start is not None and watcher.is_finished:
                    await Response(status_code=204, headers={"vary": "accept"})(scope, receive, send)
                else:
                    await self._stream(watcher, receive, send)
        except RuncastError as error:
            refusal = problem_of(error)
            refusal.headers.update(self._more_headers)
            await refusal(scope, receive, send)

    async def _stream(self, watcher: PulledWatcher, receive: Receive, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in (_HEADERS | self._more_headers).items()]
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
        ending = await self._connections.run_until_gone(_send_frames(watcher, send), wait_gone(receive))
        if ending is not Ending.GONE:
            reason = ByeReason.FINISHED if ending is Ending.SENT else ByeReason.RESTART
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await _send(send, encode_blocks([watcher.bye(reason)]), more=False)


async def _send_frames(watcher: PulledWatcher, send: Send) -> None:
    await _send(send, b"retry: %d\n\n" % RETRY_MILLISECONDS + encode_blocks([watcher.hello()]))
    while (piece := await watcher.next_piece(_WIRE)) is not None:
        await _send(send, piece)


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


class _EventStreamWire:
    """Event streams as a kind of transport. Their watchers are pulled: nobody writes to them by broadcast."""

    def encode(self, frames: Sequence[bytes]) -> bytes:
        """See `Wire.encode`."""
        return encode_blocks(frames)

    def gather(self, outlets: Sequence[object]) -> object:
        """See `Wire.gather`."""
        raise NotImplementedError

    def write_all(self, gathered: object, piece: bytes) -> None:
        """See `Wire.write_all`."""
        raise NotImplementedError


_WIRE: Final = _EventStreamWire()


def encode_blocks(frames: Iterable[bytes]) -> bytes:
    """Frames as blocks of an event stream."""
    return b"".join(map(_block, frames))


def _block(frame: bytes) -> bytes:
    cursor = cursor_of(frame)
    return b"data: %b\n\n" % frame if cursor is None else b"id: %b\ndata: %b\n\n" % (str(cursor).encode(), frame)
