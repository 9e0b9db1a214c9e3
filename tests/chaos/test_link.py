"""The link does what a network can do, and drops whole messages only."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis

from runcast.chaos.link import Link, Messages


@pytest.fixture
async def link(redis_url: str) -> AsyncIterator[Link]:
    link = Link(Path(redis_url.removeprefix("unix://")), source=random.Random(1))
    await link.start()
    yield link
    await link.close()


@pytest.fixture
async def client(link: Link) -> AsyncIterator["redis.Redis"]:
    client = redis.Redis.from_url(link.url, protocol=2, socket_timeout=0.3, retry=None)
    yield client
    await client.aclose()


async def test_a_link_passes_commands_and_replies(client: "redis.Redis") -> None:
    """Untouched, it can't be told from Redis itself."""
    await client.set("key", b"\r\n$5\r\n" * 50_000)
    assert await client.get("key") == b"\r\n$5\r\n" * 50_000


async def test_a_cut_link_breaks_connections_and_takes_new_ones(link: Link, client: "redis.Redis") -> None:
    """As when a router restarts."""
    connection = await asyncio.open_connection("127.0.0.1", int(link.url.rpartition(":")[2].removesuffix("/0")))
    connection[1].write(b"PING\r\n")
    assert await connection[0].readline() == b"+PONG\r\n"
    link.cut()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await connection[0].readexactly(1)
    connection[1].close()
    assert await client.ping()


async def test_a_held_link_answers_nothing_and_goes_on_when_released(link: Link, client: "redis.Redis") -> None:
    """Nothing is lost in a black hole that opens again: TCP would have repeated it."""
    link.hold(there=True, back=True)
    with pytest.raises(redis.TimeoutError):
        await client.ping()
    link.release()
    assert await client.ping()


async def test_a_link_drops_messages_and_nothing_else(link: Link, client: "redis.Redis") -> None:
    """A subscriber misses messages, but its subscription and its pings are answered."""
    link.drop_share = 1.0
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("channel")
        assert (await pubsub.get_message(timeout=5) or {})["type"] == "subscribe"
        await client.publish("channel", "lost")
        await pubsub.ping()
        assert (await pubsub.get_message(timeout=5) or {})["type"] == "pong"
        link.drop_share = 0.0
        await client.publish("channel", "kept")
        assert (await pubsub.get_message(timeout=5) or {})["data"] == b"kept"
    assert link.dropped == 1


@pytest.mark.parametrize("piece", [1, 2, 7, 1_000])
def test_replies_are_cut_where_they_end_however_they_arrive(piece: int) -> None:
    """Bytes come in pieces of any size; what is cut out are whole replies."""
    replies = [
        b"+OK\r\n",
        b"*3\r\n$7\r\nmessage\r\n$5\r\nrun:1\r\n$6\r\n\r\n$2\r\n\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$5\r\nrun:1\r\n:1\r\n",
        b"$-1\r\n",
        b"*2\r\n$4\r\npong\r\n$0\r\n\r\n",
    ]
    data, messages = b"".join(replies), Messages()
    cut = [frame for at in range(0, len(data), piece) for frame in messages.split(data[at : at + piece])]
    assert cut == replies
