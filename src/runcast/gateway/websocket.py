"""WebSocketService: runs over WebSocket. `/ws/runs/{runId}?after=CURSOR` follows one run, `/ws/runs` as many as asked.

One event is one text message. A socket that doesn't drain holds back only its own watcher: frames are asked for when
the ones before have been taken by the transport.

Never: decides which frames a watcher gets (the core does).
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from runcast.core.access import SUBPROTOCOL
from runcast.errors import RuncastError, UnavailableError
from runcast.events import START
from runcast.gateway.connections import GOODBYE_SECONDS, Connections, Ending, Transport
from runcast.gateway.frames import is_from_snapshot, read_start
from runcast.gateway.multiplex import Multiplex
from runcast.gateway.problems import close_reason
from runcast.gateway.tags import RunTags
from runcast.ports import RunLog
from runcast.services.hub import RunHub
from runcast.services.watcher import PulledWatcher

log = structlog.get_logger()

CLOSE_FINISHED: Final = (1000, "run finished")
CLOSE_RESTART: Final = (1012, "the server is restarting; come back with your cursor")
_TRUE: Final = frozenset({"1", "true"})


class WebSocketService:
    """All WebSockets of one gateway process, and the connections that its other transports are counted among."""

    def __init__(
        self,
        *,
        hub: RunHub,
        log: RunLog,
        clock: Callable[[], datetime],
        max_watchers: int,
        heartbeat_seconds: float,
    ) -> None:
        self.connections: Final = Connections(hub=hub, clock=clock, max_watchers=max_watchers)
        self._log: Final = log
        self._clock: Final = clock
        self._heartbeat_seconds: Final = heartbeat_seconds

    def stop(self) -> None:
        """Ask every watcher, of whichever transport, to come back later; each keeps its cursor."""
        self.connections.stop()

    async def serve_run(self, socket: WebSocket, run_id: str) -> None:
        """Follow one run."""
        await _accept(socket)
        query = socket.query_params
        try:
            start = read_start(query.get("after"), query.get("starting_after"))
            from_snapshot = is_from_snapshot(query.get("snapshot") in _TRUE, start)
            async with self.connections.watch(
                run_id, after=start or START, transport=Transport.WEBSOCKET, from_snapshot=from_snapshot
            ) as watcher:
                ending = await self.connections.run_until_gone(_send_run(socket, watcher), _wait_gone(socket))
        except RuncastError as error:
            log.info("❌ WebSocket refused", run_id=run_id[:64], code=error.code)
            await _close(socket, error.close_code, close_reason(error))
        else:
            await _close_after(socket, ending, *CLOSE_FINISHED)

    async def serve_runs(self, socket: WebSocket, tags: RunTags) -> None:
        """Send the statuses of all runs, or whatever the client subscribes to."""
        await _accept(socket)
        multiplex = Multiplex(
            socket,
            connections=self.connections,
            log=self._log,
            tags=tags,
            clock=self._clock,
            heartbeat_seconds=self._heartbeat_seconds,
        )
        try:
            ending, close = await multiplex.serve()
        except UnavailableError as error:
            await _close(socket, error.close_code, close_reason(error))
        else:
            if close is not None:
                await _close(socket, *close)
            else:
                await _close_after(socket, ending, *CLOSE_FINISHED)


async def _send_run(socket: WebSocket, watcher: PulledWatcher) -> None:
    await socket.send_text(watcher.hello().decode())
    while (frames := await watcher.next_frames()) is not None:
        for frame in frames:
            await socket.send_text(frame.decode())


async def _accept(socket: WebSocket) -> None:
    offered = socket.scope.get("subprotocols", ())
    await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)


async def _wait_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _close_after(socket: WebSocket, ending: Ending, code: int, reason: str) -> None:
    if ending is Ending.STOPPING:
        code, reason = CLOSE_RESTART
    if ending is not Ending.GONE:
        await _close(socket, code, reason)


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    # RuntimeError is Starlette's word for a socket that the peer has closed first. A peer that doesn't read is not
    # waited for.
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            await socket.close(code, reason)
