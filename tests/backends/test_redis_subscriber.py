"""The subscriber on a bad link: a server that says nonsense, half of what it means, or nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest

from runcast.backends.redis_client import close_redis, open_redis
from runcast.backends.redis_subscriber import RedisSubscriber

CHANNEL = "run:x"
ACKNOWLEDGED = b"*3\r\n$9\r\nsubscribe\r\n$5\r\nrun:x\r\n:1\r\n"
PONG = b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"


def message(text: str) -> bytes:
    return f"*3\r\n$7\r\nmessage\r\n$5\r\nrun:x\r\n${len(text)}\r\n{text}\r\n".encode()


class Peer:
    """One connection as the server has it: it answers as Redis does until the test has it say something else."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.is_subscribed = asyncio.Event()
        self.is_silent = False

    async def serve(self, reader: asyncio.StreamReader) -> None:
        commands = hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    self._answer(command)
        self.writer.close()

    def _answer(self, command: list[bytes]) -> None:
        name = command[0].upper()
        if name == b"SUBSCRIBE":
            self.is_subscribed.set()
        if not self.is_silent:
            self.writer.write({b"SUBSCRIBE": ACKNOWLEDGED, b"PING": PONG}.get(name, b"+OK\r\n"))


class Scene:
    """A subscriber, and the server's end of its connections: the first, then the one that comes after it."""

    def __init__(self, subscriber: RedisSubscriber, peers: "asyncio.Queue[Peer]") -> None:
        self.subscriber = subscriber
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()
        self.gaps: asyncio.Queue[None] = asyncio.Queue()
        self._peers = peers

    async def next_peer(self) -> Peer:
        """The next connection on which somebody has subscribed."""
        async with asyncio.timeout(10):
            peer = await self._peers.get()
            await peer.is_subscribed.wait()
        return peer

    async def hears(self, text: bytes) -> None:
        async with asyncio.timeout(10):
            assert await self.heard.get() == text

    async def notices_the_gap(self) -> Peer:
        peer = await self.next_peer()
        async with asyncio.timeout(10):
            await self.gaps.get()
        return peer


@asynccontextmanager
async def listening(*, probe_seconds: float = 10) -> AsyncIterator[tuple[Scene, Peer]]:
    peers: asyncio.Queue[Peer] = asyncio.Queue()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(writer)
        peers.put_nowait(peer)
        await peer.serve(reader)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    client = open_redis(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    subscriber = RedisSubscriber(client, probe_seconds=probe_seconds)
    await subscriber.start()
    scene = Scene(subscriber, peers)
    subscriber.on_gap(lambda: scene.gaps.put_nowait(None))
    await subscriber.subscribe(CHANNEL, scene.heard.put_nowait)
    try:
        yield scene, await scene.next_peer()
    finally:
        await subscriber.close()
        await close_redis(client)
        server.close()


@pytest.mark.parametrize(
    "nonsense", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff\xfe", b"*3\r\n$x\r\n", b"-NOAUTH who are you\r\n"]
)
async def test_a_link_that_brings_nonsense_is_left(nonsense: bytes) -> None:
    """What follows couldn't be trusted: it connects anew, subscribes again, and tells of the gap."""
    async with listening() as (scene, peer):
        peer.writer.write(message("before") + nonsense)
        await scene.hears(b"before")
        again = await scene.notices_the_gap()
        again.writer.write(message("after"))
        await scene.hears(b"after")


async def test_what_comes_in_pieces_is_put_together() -> None:
    """However the bytes are cut, each message arrives once and whole."""
    async with listening() as (scene, peer):
        for cut in range(1, len(message("whole"))):
            peer.writer.write(message("whole")[:cut])
            await peer.writer.drain()
            await asyncio.sleep(0)
            peer.writer.write(message("whole")[cut:])
            await scene.hears(b"whole")
        assert scene.gaps.empty()


async def test_half_a_message_is_no_message() -> None:
    """A link that is cut in the middle of one loses it, and says so."""
    async with listening() as (scene, peer):
        peer.writer.write(message("whole") + message("half")[:-4])
        await scene.hears(b"whole")
        peer.writer.close()
        again = await scene.notices_the_gap()
        again.writer.write(message("after"))
        await scene.hears(b"after")


async def test_half_a_message_and_then_silence_is_noticed() -> None:
    """Bytes that never become a reply don't count as a sign of life for ever."""
    async with listening(probe_seconds=0.05) as (scene, peer):
        peer.is_silent = True
        peer.writer.write(message("half")[:-4])
        again = await scene.notices_the_gap()
        again.writer.write(message("after"))
        await scene.hears(b"after")


async def test_a_quiet_link_that_answers_is_kept() -> None:
    """A run that says nothing isn't a link that is dead."""
    async with listening(probe_seconds=0.01) as (scene, peer):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await scene.gaps.get()
        peer.writer.write(message("still here"))
        await scene.hears(b"still here")


@pytest.mark.parametrize(
    "strange", [b":1\r\n", b"+OK\r\n", b"*1\r\n$1\r\na\r\n", b"*3\r\n:1\r\n:2\r\n:3\r\n", b"*-1\r\n"]
)
async def test_a_reply_of_another_kind_is_let_pass(strange: bytes) -> None:
    """Well-formed, and nothing that is listened to."""
    async with listening() as (scene, peer):
        peer.writer.write(strange + message("after"))
        await scene.hears(b"after")
        assert scene.gaps.empty()


async def test_a_subscription_that_is_never_acknowledged_brings_a_new_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever subscribes waits a bounded time; then the link counts as dead."""
    monkeypatch.setattr("runcast.backends.redis_subscriber.SUBSCRIBE_TIMEOUT_SECONDS", 0.1)
    async with listening() as (scene, peer):
        peer.is_silent = True
        undo: Callable[[], Awaitable[None]] = await scene.subscriber.subscribe("run:other", lambda _: None)
        await undo()
        again = await scene.notices_the_gap()
        again.writer.write(message("after"))
        await scene.hears(b"after")
