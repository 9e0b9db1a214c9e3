"""The subscriber: one Redis connection that listens to as many channels as there are handlers for.

It subscribes per channel by reference count, and `subscribe` returns when Redis has acknowledged: whatever is
published after that reaches the handler, or the gap handlers are called. When the connection dies or falls silent it
reconnects with backoff and jitter, subscribes to everything again and tells the gap handlers.

redis-py opens the connection, with all that it knows of TLS, passwords and sentinels; then a raw reader takes the
transport over, because nothing may stand between the socket and the handlers for every message of every run.

Never: parses a message, calls a handler outside the event loop, loses a gap without saying so.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import hiredis
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from runcast.backends.redis_wire import Pooled
from runcast.concurrency import end_tasks
from runcast.logs import get_logger

log = get_logger()

MessageHandler = Callable[[bytes], None]
PROBE_SECONDS: Final = 2.0
SUBSCRIBE_TIMEOUT_SECONDS: Final = 2.0
FIRST_LINK_SECONDS: Final = 2.0
_CHANNELS_PER_COMMAND: Final = 500
_LINK_ERRORS: Final = (RedisError, OSError, TimeoutError, RuntimeError)  # the last is uvloop's, for a closed connection


class Link(asyncio.Protocol):
    """A connection that redis-py has opened, from the moment on that only messages and acknowledgements come."""

    def __init__(self, connection: Any, receive: Callable[[Any], None], end_batch: Callable[[], None]) -> None:
        self._connection: Final = connection  # redis-py's; it stays the owner
        self._transport: Final[asyncio.Transport] = connection._writer.transport  # noqa: SLF001 - it has no public way
        self._receive: Final = receive  # called with each reply
        self._end_batch: Final = end_batch  # called after those that came together
        self._replies: Final = hiredis.Reader()
        self.lost: Final[asyncio.Future[Exception]] = asyncio.get_running_loop().create_future()  # then: why
        self._transport.set_protocol(self)

    @classmethod
    async def open(cls, pool: Any, receive: Callable[[Any], None], end_batch: Callable[[], None]) -> "Link":
        """Connect as the pool's connections do."""
        connection = pool.make_connection()
        try:
            await connection.connect()
            return cls(connection, receive, end_batch)
        except BaseException:
            await _disconnect(connection)
            raise

    def data_received(self, data: bytes) -> None:
        # Fast path: all events of all watched runs pass here. redis-py's own reader costs an await for each.
        receive, next_reply = self._receive, self._replies.gets
        try:
            self._replies.feed(data)
            while (reply := next_reply()) is not False:
                receive(reply)
        except hiredis.HiredisError as error:
            self._fail(error)
        self._end_batch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("Redis has closed the connection"))

    def send(self, *command: str) -> None:
        """Send a command. If the link is dead, `lost` says so."""
        with contextlib.suppress(*_LINK_ERRORS):
            self._transport.write(hiredis.pack_command(command))  # type: ignore[arg-type] # its stub takes one argument

    async def close(self) -> None:
        """Let the connection go."""
        self._fail(ConnectionAbortedError("we have closed the connection"))
        await _disconnect(self._connection)

    def _fail(self, error: Exception) -> None:
        if not self.lost.done():
            self.lost.set_result(error)


class RedisSubscriber:
    """Listens. `start` before use, `close` after."""

    def __init__(self, client: Pooled, *, probe_seconds: float = PROBE_SECONDS) -> None:
        self._pool: Final[Any] = client.connection_pool
        self._probe_seconds: Final = probe_seconds
        self._handlers: dict[bytes, tuple[MessageHandler, ...]] = {}  # by channel
        # For each SUBSCRIBE sent and not yet acknowledged, in order, those who wait for it.
        self._unacknowledged: dict[bytes, deque[list[asyncio.Future[None]]]] = {}
        self._gap_handlers: Final[list[Callable[[], None]]] = []
        self._batch_handlers: Final[list[Callable[[], None]]] = []
        self._link: Link | None = None  # None while there is none
        self._linked: Final = asyncio.Event()  # set from the first link on
        self._heard = False  # whether anything came since the last probe
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether there is a link now."""
        return self._link is not None

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
        return add_handler(self._gap_handlers, handler)

    def on_batch(self, handler: Callable[[], None]) -> Callable[[], None]:
        """Call `handler` after the messages of each read of the socket. Returns its undo."""
        return add_handler(self._batch_handlers, handler)

    async def subscribe(self, channel: str, handler: MessageHandler) -> Callable[[], Awaitable[None]]:
        """Call `handler` with each message on the channel from now on. Returns its undo.

        It is in force on return if there is a link. Without one it will be once there is, and then the gap handlers
        are called.
        """
        name = channel.encode()
        before = self._handlers.get(name, ())
        self._handlers[name] = (*before, handler)
        undo = self._undo(name, handler)
        link = self._link
        if link is None:
            return undo
        try:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS):
                await self._wait_acknowledged(name, is_first=not before)
        except TimeoutError:
            log.warning("❌ Redis doesn't acknowledge a subscription; connecting anew", channel=channel)
            await link.close()
        except BaseException:
            await undo()
            raise
        return undo

    def _undo(self, channel: bytes, handler: MessageHandler) -> Callable[[], Awaitable[None]]:
        async def unsubscribe() -> None:
            handlers = list(self._handlers.get(channel, ()))
            if handler not in handlers:
                return
            handlers.remove(handler)
            if handlers:
                self._handlers[channel] = tuple(handlers)
                return
            del self._handlers[channel]
            if self._link is not None:
                self._link.send("UNSUBSCRIBE", channel.decode())

        return unsubscribe

    async def _wait_acknowledged(self, channel: bytes, *, is_first: bool) -> None:
        pending = self._unacknowledged.get(channel)
        if not is_first and not pending:
            return
        acknowledged = asyncio.get_running_loop().create_future()
        if is_first or not pending:
            self._unacknowledged.setdefault(channel, deque()).append([acknowledged])
            if self._link is not None:
                self._link.send("SUBSCRIBE", channel.decode())
        else:
            pending[-1].append(acknowledged)
        await acknowledged

    async def _stay_connected(self) -> None:
        backoff = ExponentialWithJitterBackoff(base=0.05, cap=2)
        failures = 0
        while True:
            link = await self._open()
            if link is not None and await self._use(link):
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(backoff.compute(failures))

    async def _open(self) -> Link | None:
        try:
            return await Link.open(self._pool, self._receive, self._end_batch)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
            log.warning("❌ Redis can't be reached", error=str(error))
            return None

    async def _use(self, link: Link) -> bool:
        """Listen until the link is lost. Whether it ever stood."""
        self._link = link
        try:
            await self._subscribe_to_all(link)
            await self._serve(link)
        except Exception as error:  # noqa: BLE001 - whatever it was, the link is to come back
            log.warning("❌ Redis subscriber can't listen", error=repr(error))
            return False
        else:
            log.warning("❌ Redis subscriber lost its connection", error=repr(link.lost.result()))
            return True
        finally:
            self._link = None
            await link.close()

    async def _serve(self, link: Link) -> None:
        log.info("✅ Redis connected", channels=len(self._handlers))
        self._linked.set()
        self._tell_gap()
        prober = asyncio.create_task(self._probe(link), name="redis-subscriber-probe")
        try:
            await asyncio.wait({link.lost})
        finally:
            await end_tasks(prober)

    async def _subscribe_to_all(self, link: Link) -> None:
        waiters = {channel: list(itertools.chain(*queue)) for channel, queue in self._unacknowledged.items()}
        channels = list(self._handlers)
        everyone = asyncio.get_running_loop().create_future()
        self._unacknowledged = {channel: deque([waiters.get(channel, [])]) for channel in channels}
        for start in range(0, len(channels), _CHANNELS_PER_COMMAND):
            link.send("SUBSCRIBE", *(channel.decode() for channel in channels[start : start + _CHANNELS_PER_COMMAND]))
        # Handlers must not take the log for complete before each of them listens again. Redis answers in order.
        if channels:
            self._unacknowledged[channels[-1]][0].append(everyone)
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS + len(channels) / 10_000):
                await asyncio.wait({everyone, link.lost}, return_when=asyncio.FIRST_COMPLETED)
        if link.lost.done():
            raise link.lost.result()

    def _tell_gap(self) -> None:
        for handler in tuple(self._gap_handlers):
            handler()

    def _end_batch(self) -> None:
        for handler in self._batch_handlers:
            handler()

    async def _probe(self, link: Link) -> None:
        while True:
            self._heard = False
            await asyncio.sleep(self._probe_seconds)
            if self._heard:
                continue
            link.send("PING")
            await asyncio.sleep(self._probe_seconds)
            if not self._heard:
                log.warning("❌ Redis subscriber hears nothing, not even the answer to a PING")
                await link.close()
                return

    def _receive(self, reply: Any) -> None:
        self._heard = True
        if type(reply) is not list:
            if isinstance(reply, hiredis.ReplyError):
                raise hiredis.ProtocolError(f"Redis refuses to let us listen: {reply}")
            return
        if len(reply) != 3:  # noqa: PLR2004 - (kind, channel, message or count); else it is the answer to a PING
            return
        kind, channel, message = reply
        if kind == b"message":
            for handler in self._handlers.get(channel, ()):
                try:
                    handler(message)
                except Exception:  # the other handlers, and the link, are not to suffer for it
                    log.exception("❌ a handler failed", channel=channel.decode())
        elif kind == b"subscribe":
            self._acknowledge(channel)

    def _acknowledge(self, channel: bytes) -> None:
        queue = self._unacknowledged.get(channel)
        if not queue:
            return
        for waiter in queue.popleft():
            if not waiter.done():
                waiter.set_result(None)
        if not queue:
            del self._unacknowledged[channel]


def add_handler(handlers: list[Callable[[], None]], handler: Callable[[], None]) -> Callable[[], None]:
    """Add it. Returns its undo, which may be called again."""
    handlers.append(handler)
    return lambda: handlers.remove(handler) if handler in handlers else None


async def _disconnect(connection: Any) -> None:
    with contextlib.suppress(*_LINK_ERRORS):
        await connection.disconnect(nowait=True)
