"""The wire: one Redis connection that many callers' commands are pipelined on.

redis-py takes a connection out of its pool for each command and spends about 100 µs of CPU on it; here a command costs
a few. What is called in one turn of the event loop goes out as one write, and many calls may wait for their answers at
once. It connects when it is first called, and anew after it was lost.

*Order*: commands go out in the order of the calls. *Failure*: when the connection is lost, or no answer has come for
`timeout_seconds` while some were waited for, every call that waits raises redis-py's own `ConnectionError` or
`TimeoutError`; whether its command was carried out is then unknown, and only its caller knows whether it may be
repeated. *Limit*: one command, or one batch, waits here per caller; the callers are bounded by whoever has them.

Never: blocking commands, subscriptions or transactions, which would hold up or change everybody's connection.
"""

import asyncio
import contextlib
import hashlib
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runcast.concurrency import end_tasks

Argument = bytes | str | int
ScriptCall = tuple[Sequence[Argument], Sequence[Argument]]
"""A script's keys and its arguments."""
# A server that says one of these isn't, or no longer, the one to ask: the next call looks for it anew.
_WRONG_SERVER: Final = ("READONLY", "LOADING", "MASTERDOWN")


class Pooled(Protocol):
    """Whatever has a pool that makes connections, such as a client."""

    @property
    def connection_pool(self) -> Any:
        """The pool."""
        ...


class RedisWire:
    """Calls Redis. `close` it after use; the client, which says where Redis is, stays the caller's."""

    def __init__(self, client: Pooled, *, timeout_seconds: float, decode: bool = False) -> None:
        self._pool: Final[Any] = client.connection_pool
        self._decode: Final = decode  # whether answers are text, as a client of `open_redis` may want them
        self._timeout_seconds: Final = timeout_seconds
        self._link: _Link | None = None  # None or closed: the next call connects
        self._connecting: asyncio.Task[_Link] | None = None  # while callers wait for a link

    async def call(self, *command: Argument) -> Any:
        """What Redis answers.

        Raises:
            redis.exceptions.RedisError, OSError: it can't be reached, or refuses.

        """
        return (await self.call_all((command,)))[0]

    async def call_all(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """What Redis answers to each of several commands, sent together.

        Raises:
            redis.exceptions.RedisError, OSError: as `call`, of the first that failed.

        """
        answers = await self.call_each(commands)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise answer
        return answers

    async def call_each(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """As `call_all`, but a refusal is the answer to its command, a `ResponseError`.

        Raises:
            redis.exceptions.RedisError, OSError: it can't be reached.

        """
        packed = [hiredis.pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type] # it means any number of arguments
        if not packed:
            return []
        link = self._link
        if link is None or link.is_closed:
            link = await self._connect()
        answers = await link.send(packed)
        for answer in answers:
            if isinstance(answer, ResponseError) and str(answer).startswith(_WRONG_SERVER):
                link.close()
        return answers

    async def close(self) -> None:
        """Let the connection go."""
        await end_tasks(self._connecting)
        await self._let_go()

    async def _connect(self) -> "_Link":
        """One attempt to connect, shared by all who wait for it."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._open(), name="redis-wire-connect")
            self._connecting.add_done_callback(self._forget)
        return await asyncio.shield(self._connecting)

    def _forget(self, connecting: "asyncio.Task[_Link]") -> None:
        self._connecting = None
        if not connecting.cancelled() and connecting.exception() is None:
            self._link = connecting.result()

    async def _open(self) -> "_Link":
        await self._let_go()
        # redis-py finds the server (a Sentinel's too), speaks TLS, says who we are; then its transport is taken over.
        connection = self._pool.make_connection()
        try:
            await connection.connect()
        except BaseException:
            await _disconnect(connection)
            raise
        return _Link(connection, timeout_seconds=self._timeout_seconds, decode=self._decode)

    async def _let_go(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()
            await _disconnect(link.connection)


def is_unknown_script(answer: Any) -> bool:
    """Whether Redis doesn't know the script that it was called by name."""
    return isinstance(answer, ResponseError) and str(answer).startswith("NOSCRIPT")


class WireScript:
    """A Lua script that Redis keeps: called by its name, and sent only where it isn't known yet."""

    def __init__(self, wire: RedisWire, source: str) -> None:
        self._wire: Final = wire
        self._source: Final = source
        self._name: Final = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis' own name for a script

    async def __call__(self, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """What the script returns.

        Raises:
            redis.exceptions.RedisError, OSError: as `RedisWire.call`.

        """
        answer = (await self.call_each(((keys, args),)))[0]
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def call_each(self, calls: Iterable[ScriptCall]) -> list[Any]:
        """What the script returns to each of several calls, sent together; see `RedisWire.call_each`."""
        commands = [("EVALSHA", self._name, len(keys), *keys, *args) for keys, args in calls]
        answers = await self._wire.call_each(commands)
        unknown = [n for n, answer in enumerate(answers) if is_unknown_script(answer)]
        if unknown:
            await self._wire.call("SCRIPT", "LOAD", self._source)
            again = await self._wire.call_each([commands[n] for n in unknown])
            for n, answer in zip(unknown, again, strict=True):
                answers[n] = answer
        return answers


class _Batch:
    """Commands that were sent together. Fast path: one future for all of them, see `python -m bench.runs deltas`."""

    __slots__ = ("answered", "answers", "count")

    def __init__(self, answered: "asyncio.Future[list[Any]]", count: int) -> None:
        self.answered: Final = answered
        self.answers: Final[list[Any]] = []  # so far
        self.count: Final = count


class _Link(asyncio.Protocol):
    """One connection, from its first command until it is lost."""

    def __init__(self, connection: Any, *, timeout_seconds: float, decode: bool) -> None:
        self.is_closed = False
        self.connection: Final = connection  # redis-py's; it wants to be disconnected in the end
        self._loop: Final = asyncio.get_running_loop()
        self._transport: Final[asyncio.Transport] = connection._writer.transport  # noqa: SLF001 - redis-py has no word for it
        self._timeout_seconds: Final = timeout_seconds
        encoding = "utf-8" if decode else None
        self._reader: Final = hiredis.Reader(
            replyError=ResponseError, protocolError=RedisConnectionError, encoding=encoding, errors="replace"
        )
        self._waiting: Final[deque[_Batch]] = deque()  # for their answers, in the order of their commands
        self._unsent: list[bytes] = []
        self._heard_at = 0.0  # when the last answer came, or the first that is waited for was asked for
        self._watch: asyncio.TimerHandle | None = None  # while answers are waited for
        self._transport.set_protocol(self)

    def send(self, packed: Sequence[bytes]) -> "asyncio.Future[list[Any]]":
        """The answers to some commands, to be awaited; a refusal is returned, not raised."""
        if self.is_closed:
            raise RedisConnectionError("the connection was lost")
        batch = _Batch(self._loop.create_future(), len(packed))
        if not self._waiting:
            self._heard_at = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_seconds, self._look)
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._waiting.append(batch)
        self._unsent += packed
        return batch.answered

    def close(self) -> None:
        """Hang up; whoever still waits is told."""
        self._fail(RedisConnectionError("the connection was closed"))
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._heard_at = self._loop.time()
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                batch = self._waiting[0]
                batch.answers.append(answer)
                if len(batch.answers) == batch.count:
                    self._waiting.popleft()
                    if not batch.answered.done():  # its caller may have been cancelled
                        batch.answered.set_result(batch.answers)
        except (RedisConnectionError, IndexError) as error:  # not what was asked for: from here on nothing fits
            self._fail(RedisConnectionError(f"Redis said something unexpected: {error}"))
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._fail(RedisConnectionError(f"the connection was lost: {exc}" if exc else "the connection was lost"))

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self.is_closed:
            return
        try:
            self._transport.write(b"".join(unsent))
        except RuntimeError as error:  # uvloop's word for a connection that is closed, if it isn't told yet
            self._fail(RedisConnectionError(f"the connection was lost: {error}"))

    def _look(self) -> None:
        """Whether the answers that are waited for still come."""
        self._watch = None
        if self.is_closed or not self._waiting:
            return
        left = self._heard_at + self._timeout_seconds - self._loop.time()
        if left <= 0:
            self._fail(RedisTimeoutError("Redis doesn't answer"))
            self._transport.abort()
        else:
            self._watch = self._loop.call_later(left, self._look)

    def _fail(self, error: RedisError) -> None:
        self.is_closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._waiting:
            answered = self._waiting.popleft().answered
            if not answered.done():
                answered.set_exception(error)


async def _disconnect(connection: Any) -> None:
    with contextlib.suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)
