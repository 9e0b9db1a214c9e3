"""WebSocketService: runs over WebSocket. `/ws/runs/{runId}?after=CURSOR` follows one run, `/ws/runs` as many as asked.

One event is one text message. On the gateway's own sockets a run's watcher writes by itself (`open_run`), on the
WebSockets of whichever server an application is mounted in its frames are asked for when the ones before have been
taken (`serve_run`). Either way a socket that doesn't drain holds back only its own watcher.

Never: decides which frames a watcher gets (the core does).
"""

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from starlette.datastructures import QueryParams
from starlette.websockets import WebSocket, WebSocketDisconnect

from runcast.core.access import SUBPROTOCOL
from runcast.errors import RuncastError, UnavailableError
from runcast.events import START, Cursor
from runcast.gateway.connections import Connection, Connections, Ending, Transport
from runcast.gateway.frames import is_from_snapshot, read_start
from runcast.gateway.messages import AsgiSocket, MessageSocket
from runcast.gateway.multiplex import Close, Multiplex
from runcast.gateway.problems import close_reason
from runcast.gateway.socket import CLOSE_FINISHED, CLOSE_RESTART, GOODBYE_SECONDS, GatewaySocket
from runcast.gateway.tags import RunTags
from runcast.logs import get_logger
from runcast.ports import RunLog
from runcast.services.hub import RunHub
from runcast.services.watcher import PulledWatcher, PushedWatcher

log = get_logger()

_ONLY_AFTER: Final = re.compile("after=([0-9]{1,15})-([0-9]{1,15})")  # below `MAX_SEQ`, each
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

    def open_run(self, socket: GatewaySocket, run_id: str, query: str) -> Coroutine[Any, Any, None] | None:
        """Have a run followed on an accepted socket, until either ends. Returns what is left to be awaited until it
        goes by itself.
        """
        # Fast path: a storm's watchers come to runs that others watch. Then nothing has to be waited for, and a task
        # each would be a tenth of what they cost: `python -m bench --only storm`.
        try:
            beginning = _Beginning.read_query(query)
            opened = self.connections.open_joined(
                run_id, after=beginning.after, outlet=socket, transport=Transport.WEBSOCKET
            )
        except RuncastError as error:
            socket.close(*_refusal(run_id, error))
            return None
        if opened is None:
            return self._join_run(socket, run_id, beginning)
        return self._follow(socket, *opened, beginning)

    async def _join_run(self, socket: GatewaySocket, run_id: str, beginning: "_Beginning") -> None:
        try:
            opened = await self.connections.open(
                run_id, after=beginning.after, outlet=socket, transport=Transport.WEBSOCKET
            )
        except RuncastError as error:
            socket.close(*_refusal(run_id, error))
            return
        starting = self._follow(socket, *opened, beginning)
        if starting is not None:
            await starting

    def _follow(
        self, socket: GatewaySocket, connection: Connection, watcher: PushedWatcher, beginning: "_Beginning"
    ) -> Coroutine[Any, Any, None] | None:
        socket.push(watcher, on_gone=connection.close)
        if beginning.is_from_snapshot:
            return watcher.start_from_snapshot()
        watcher.start()
        return None

    async def open_runs(self, socket: GatewaySocket, tags: RunTags) -> None:
        """Serve many runs on an accepted socket that listens."""
        close = await self._multiplex(socket, tags)
        if close is not None:
            socket.close(*close)

    async def serve_run(self, socket: WebSocket, run_id: str) -> None:
        """Follow a run on another server's WebSocket."""
        await _accept(socket)
        try:
            beginning = _Beginning.read(socket.query_params)
            async with self.connections.watch(
                run_id,
                after=beginning.after,
                transport=Transport.WEBSOCKET,
                from_snapshot=beginning.is_from_snapshot,
            ) as watcher:
                sending = _send_run(AsgiSocket(socket), watcher)
                ending = await self.connections.run_until_gone(sending, _wait_gone(socket))
        except RuncastError as error:
            await _close(socket, _refusal(run_id, error))
        else:
            await _close(socket, _close_after(ending))

    async def serve_runs(self, socket: WebSocket, tags: RunTags) -> None:
        """Serve many runs on another server's WebSocket."""
        await _accept(socket)
        await _close(socket, await self._multiplex(AsgiSocket(socket), tags))

    async def _multiplex(self, socket: MessageSocket, tags: RunTags) -> Close | None:
        """Serve many runs. How the socket is to be closed then; None if its peer is gone."""
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
            return error.close_code, close_reason(error)
        return close or _close_after(ending)


class _Beginning(NamedTuple):
    """Where a watcher wants to begin."""

    after: Cursor
    is_from_snapshot: bool

    @classmethod
    def read_query(cls, query: str) -> Self:
        """Of an address."""
        # Fast path: most bring a cursor and nothing else, and to read any query costs ten times as much.
        if not query:
            return cls(START, is_from_snapshot=False)
        if plain := _ONLY_AFTER.fullmatch(query):
            return cls(Cursor(int(plain[1]), int(plain[2])), is_from_snapshot=False)
        return cls.read(QueryParams(query))

    @classmethod
    def read(cls, query: QueryParams) -> Self:
        start = read_start(query.get("after"), query.get("starting_after"))
        return cls(start or START, is_from_snapshot(query.get("snapshot") in _TRUE, start))


def _refusal(run_id: str, error: RuncastError) -> Close:
    log.info("❌ WebSocket refused", run_id=run_id[:64], code=error.code)
    return error.close_code, close_reason(error)


def _close_after(ending: Ending) -> Close | None:
    return {Ending.SENT: CLOSE_FINISHED, Ending.STOPPING: CLOSE_RESTART}.get(ending)


async def _send_run(socket: MessageSocket, watcher: PulledWatcher) -> None:
    await socket.send([watcher.hello()])
    while (frames := await watcher.next_frames()) is not None:
        await socket.send(frames)


async def _accept(socket: WebSocket) -> None:
    offered = socket.scope.get("subprotocols", ())
    await socket.accept(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None)


async def _wait_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _close(socket: WebSocket, close: Close | None) -> None:
    # RuntimeError is Starlette's word for a socket that the peer has closed first. A peer that doesn't read is not
    # waited for.
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(GOODBYE_SECONDS):
            if close is not None:
                await socket.close(*close)
