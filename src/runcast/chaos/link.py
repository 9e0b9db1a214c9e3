"""A link: the TCP proxy between one process and Redis, which cuts, delays, holds and drops on demand.

It does only what a network can do: bytes come in order or not at all, and a direction that was held goes on later or
is cut. What is dropped are whole Pub/Sub messages towards a subscriber, as Redis itself drops them when a subscriber
is away for a moment, and the subscriber's connection goes on as if nothing had been.
"""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Final

from runcast.concurrency import end_tasks

_CHUNK_BYTES: Final = 65_536
_MESSAGE: Final = b"*3\r\n$7\r\nmessage\r\n"


class Link:
    """One process's way to Redis. `start` before use, `close` after; the attributes may be set at any time."""

    def __init__(self, upstream: Path, *, source: random.Random) -> None:
        self.delay_seconds = 0.0  # at most, for each piece of bytes
        self.drop_share = 0.0  # of the messages towards subscribers
        self.dropped = 0  # messages, so far
        self._upstream: Final = upstream
        self._source: Final = source
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pairs: set[asyncio.Task[None]] = set()
        self._there: Final = _open_gate()  # towards Redis
        self._back: Final = _open_gate()  # towards the process

    @property
    def url(self) -> str:
        """Where the process finds its Redis."""
        if self._server is None:
            raise RuntimeError("the link is not started")
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Cut everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self.cut()
        await end_tasks(*self._pairs)

    def cut(self) -> None:
        """Break every connection at once. New ones are welcome."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def hold(self, *, there: bool, back: bool) -> None:
        """Let nothing pass in these directions until `release`. Connections are accepted all the same."""
        if there:
            self._there.clear()
        if back:
            self._back.clear()

    def release(self) -> None:
        """Let everything pass again, in order."""
        self._there.set()
        self._back.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # asyncio runs this callback as a task
        self._pairs.add(task)
        self._writers.add(writer)
        try:
            await self._join(reader, writer)
        except OSError:
            pass  # Redis is away: what a process sees of that is a closed connection
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._pairs.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, there = await asyncio.open_unix_connection(self._upstream)
        self._writers.add(there)
        messages = Messages()
        pumps = [
            asyncio.create_task(self._carry_there(reader, there, messages)),
            asyncio.create_task(self._carry_back(back_reader, writer, messages)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.transport.abort()
            self._writers.discard(there)
            await end_tasks(*pumps)

    async def _carry_there(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, messages: "Messages"
    ) -> None:
        with contextlib.suppress(OSError):  # one of the two has hung up
            while data := await reader.read(_CHUNK_BYTES):
                messages.is_subscriber |= b"SUBSCRIBE" in data
                await self._pass(data, writer, self._there)

    async def _carry_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, messages: "Messages"
    ) -> None:
        with contextlib.suppress(OSError):  # one of the two has hung up
            while data := await reader.read(_CHUNK_BYTES):
                passed = self._thin_out(messages, data) if messages.is_subscriber else data
                if passed:
                    await self._pass(passed, writer, self._back)

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self._source.uniform(0, self.delay_seconds))
        await gate.wait()
        if writer.is_closing():
            raise ConnectionResetError("the other side is gone")
        writer.write(data)
        await writer.drain()

    def _thin_out(self, messages: "Messages", data: bytes) -> bytes:
        kept = bytearray()
        for frame in messages.split(data):
            if self.drop_share and frame.startswith(_MESSAGE) and self._source.random() < self.drop_share:
                self.dropped += 1
            else:
                kept += frame
        return bytes(kept)


class Messages:
    """Cuts what Redis says (RESP 2) into whole replies; keeps the beginning of one that isn't whole yet."""

    def __init__(self) -> None:
        self.is_subscriber = False  # others pass untouched: their replies are large, and nothing of them is dropped
        self._rest = b""

    def split(self, data: bytes) -> list[bytes]:
        """The replies that are whole now."""
        buffer, frames, at = self._rest + data, [], 0
        while at < len(buffer) and (end := _end_of(buffer, at)) is not None:
            frames.append(buffer[at:end])
            at = end
        self._rest = buffer[at:]
        return frames


def _end_of(buffer: bytes, at: int) -> int | None:
    """Where the reply that begins at `at` ends; None while it isn't all there."""
    line_end = buffer.find(b"\r\n", at)
    if line_end < 0:
        return None
    kind, following = buffer[at : at + 1], line_end + 2
    if kind not in b"$*":
        return following
    count = int(buffer[at + 1 : line_end])
    if kind == b"$":
        end = following + count + 2 if count >= 0 else following
        return end if end <= len(buffer) else None
    place: int | None = following
    for _ in range(count):
        place = _end_of(buffer, place) if place is not None and place < len(buffer) else None
    return place


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate
