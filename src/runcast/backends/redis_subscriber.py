"""The subscriber: one Redis connection that listens to as many channels as there are handlers for.

It subscribes per channel by reference count, and `subscribe` returns when Redis has acknowledged: whatever is
published after that reaches the handler, or the gap handlers are called. When the connection dies or falls silent it
reconnects with backoff and jitter, subscribes to everything again and tells the gap handlers.

Never: parses a message, calls a handler outside the event loop, loses a gap without saying so.
"""

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import redis.asyncio as redis
import structlog
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from runcast.concurrency import end_tasks

log = structlog.get_logger()

MessageHandler = Callable[[bytes], None]
PROBE_SECONDS: Final = 5.0
SUBSCRIBE_TIMEOUT_SECONDS: Final = 5.0
FIRST_LINK_SECONDS: Final = 2.0
_CHANNELS_PER_COMMAND: Final = 500
_LINK_ERRORS: Final = (RedisError, OSError, TimeoutError, RuntimeError)  # the last is uvloop's, for a closed connection


class _Connection(Protocol):
    """What is used of redis-py's connection, whose own annotations are incomplete."""

    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...  # noqa: FBT001 - redis-py's own signature
    async def send_command(self, *args: str) -> None: ...
    async def read_response(self, *, timeout: float, disconnect_on_error: bool) -> object: ...  # noqa: ASYNC109


class RedisSubscriber:
    """Listens. `start` before use, `close` after."""

    def __init__(self, client: "redis.Redis", *, probe_seconds: float = PROBE_SECONDS) -> None:
        self._pool: Final[Any] = client.connection_pool
        self._probe_seconds: Final = probe_seconds
        self._handlers: dict[str, list[MessageHandler]] = {}
        # For each SUBSCRIBE sent and not yet acknowledged, in order, those who wait for it.
        self._unacknowledged: dict[str, deque[list[asyncio.Future[None]]]] = {}
        self._gap_handlers: list[Callable[[], None]] = []
        self._connection: _Connection | None = None  # None while there is no link
        self._linked: Final = asyncio.Event()  # set from the first link on
        self._heard = False  # whether anything came since the last probe
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether there is a link now."""
        return self._connection is not None

    def count(self, prefix: str) -> tuple[int, int]:
        """Channels that start with `prefix`, and handlers on them."""
        matching = [len(handlers) for channel, handlers in self._handlers.items() if channel.startswith(prefix)]
        return len(matching), sum(matching)

    async def start(self) -> None:
        """Connect, and stay connected. Returns with the first link, or soon without it: it comes when Redis does."""
        self._task = asyncio.create_task(self._stay_connected(), name="redis-subscriber")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LINK_SECONDS):
                await self._linked.wait()

    async def close(self) -> None:
        """Let the connection go."""
        await end_tasks(self._task)

    def on_gap(self, handler: Callable[[], None]) -> Callable[[], None]:
        """Call `handler` after messages may have been lost. Returns its undo."""
        self._gap_handlers.append(handler)
        return lambda: self._gap_handlers.remove(handler) if handler in self._gap_handlers else None

    async def subscribe(self, channel: str, handler: MessageHandler) -> Callable[[], Awaitable[None]]:
        """Call `handler` with each message on the channel from now on. Returns its undo.

        It is in force on return if there is a link. Without one it will be once there is, and then the gap handlers
        are called.
        """
        handlers = self._handlers.setdefault(channel, [])
        is_first = not handlers
        handlers.append(handler)
        undo = self._undo(channel, handler)
        connection = self._connection
        if connection is None:
            return undo
        try:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS):
                await self._wait_acknowledged(channel, is_first=is_first)
        except TimeoutError:
            log.warning("❌ Redis doesn't acknowledge a subscription; connecting anew", channel=channel)
            await _disconnect(connection)
        except BaseException:
            await undo()
            raise
        return undo

    def _undo(self, channel: str, handler: MessageHandler) -> Callable[[], Awaitable[None]]:
        async def unsubscribe() -> None:
            handlers = self._handlers.get(channel, [])
            if handler not in handlers:
                return
            handlers.remove(handler)
            if not handlers:
                del self._handlers[channel]
                await self._send("UNSUBSCRIBE", channel)

        return unsubscribe

    async def _wait_acknowledged(self, channel: str, *, is_first: bool) -> None:
        pending = self._unacknowledged.get(channel)
        if not is_first and not pending and self.is_connected:
            return
        acknowledged = asyncio.get_running_loop().create_future()
        if is_first or not pending:
            self._unacknowledged.setdefault(channel, deque()).append([acknowledged])
            if self.is_connected:
                await self._send("SUBSCRIBE", channel)
        else:
            pending[-1].append(acknowledged)
        await acknowledged

    async def _send(self, *command: str) -> None:
        if self._connection is None:
            return
        # A failed write means a dead link: the reader meets the same error, and reconnecting sends everything again.
        with contextlib.suppress(*_LINK_ERRORS):
            await self._connection.send_command(*command)

    async def _stay_connected(self) -> None:
        backoff = ExponentialWithJitterBackoff(base=0.05, cap=2)
        while True:
            failures = 0
            while (connection := await self._connect()) is None:
                failures += 1
                await asyncio.sleep(backoff.compute(failures))
            try:
                await self._serve(connection)
            except Exception as error:  # noqa: BLE001 - whatever it was, the link is to come back
                log.warning("❌ Redis subscriber lost its connection", error=repr(error))
            finally:
                self._connection = None
                await _disconnect(connection)

    async def _connect(self) -> _Connection | None:
        connection: _Connection = self._pool.make_connection()
        try:
            await connection.connect()
        except _LINK_ERRORS as error:
            log.warning("❌ Redis can't be reached", error=str(error))
            await _disconnect(connection)
            return None
        return connection

    async def _serve(self, connection: _Connection) -> None:
        self._connection = connection
        await self._subscribe_to_all(connection)
        log.info("✅ Redis connected", channels=len(self._handlers))
        self._linked.set()
        self._tell_gap()
        prober = asyncio.create_task(self._probe(connection), name="redis-subscriber-probe")
        try:
            while True:
                self._receive(await connection.read_response(timeout=math.inf, disconnect_on_error=False))
        finally:
            await end_tasks(prober)

    async def _subscribe_to_all(self, connection: _Connection) -> None:
        waiters = {channel: list(itertools.chain(*queue)) for channel, queue in self._unacknowledged.items()}
        channels = list(self._handlers)
        self._unacknowledged = {channel: deque([waiters.get(channel, [])]) for channel in channels}
        for start in range(0, len(channels), _CHANNELS_PER_COMMAND):
            await connection.send_command("SUBSCRIBE", *channels[start : start + _CHANNELS_PER_COMMAND])
        # Handlers must not take the log for complete before each of them listens again.
        while any(self._unacknowledged.get(channel) for channel in channels):
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS):
                self._receive(await connection.read_response(timeout=math.inf, disconnect_on_error=False))

    def _tell_gap(self) -> None:
        for handler in tuple(self._gap_handlers):
            handler()

    async def _probe(self, connection: _Connection) -> None:
        while True:
            self._heard = False
            await asyncio.sleep(self._probe_seconds)
            if self._heard:
                continue
            await self._send("PING")
            await asyncio.sleep(self._probe_seconds)
            if not self._heard:
                log.warning("❌ Redis subscriber hears nothing, not even the answer to a PING")
                await _disconnect(connection)
                return

    def _receive(self, response: object) -> None:
        self._heard = True
        if not isinstance(response, list) or len(response) != 3:  # noqa: PLR2004 - (kind, channel, message or count)
            return  # the answer to a PING
        kind, channel_bytes, message = response
        channel = channel_bytes.decode()
        if kind == b"message":
            for handler in tuple(self._handlers.get(channel, ())):
                try:
                    handler(message)
                except Exception:  # the other handlers, and the link, are not to suffer for it
                    log.exception("❌ a handler failed", channel=channel)
        elif kind == b"subscribe":
            self._acknowledge(channel)

    def _acknowledge(self, channel: str) -> None:
        queue = self._unacknowledged.get(channel)
        if not queue:
            return
        for waiter in queue.popleft():
            if not waiter.done():
                waiter.set_result(None)
        if not queue:
            del self._unacknowledged[channel]


async def _disconnect(connection: _Connection) -> None:
    with contextlib.suppress(*_LINK_ERRORS):
        await connection.disconnect(nowait=True)
