"""The wire: many callers on one connection get their own answers, and nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runcast.backends.redis_client import close_redis, open_redis
from runcast.backends.redis_wire import RedisWire, WireScript
from tests.support.redis_server import start_redis


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator["redis.Redis"]:
    client = open_redis(redis_url)
    yield client
    await close_redis(client)


@pytest.fixture
async def wire(client: "redis.Redis") -> AsyncIterator[RedisWire]:
    wire = RedisWire(client, timeout_seconds=5)
    yield wire
    await wire.close()


async def drop(client: "redis.Redis") -> None:
    """Have the server hang up on every connection but the one that says so."""
    await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call] # redis-py leaves it so


async def test_each_caller_gets_the_answer_to_its_own_command(wire: RedisWire) -> None:
    """However many wait at once on the one connection."""
    echoes = await asyncio.gather(*(wire.call("ECHO", f"{number}") for number in range(1_000)))
    assert echoes == [f"{number}".encode() for number in range(1_000)]


async def test_callers_who_need_a_connection_at_once_share_it(wire: RedisWire) -> None:
    """Connecting takes place once, not once per caller."""
    assert len(set(await asyncio.gather(*(wire.call("CLIENT", "ID") for _ in range(50))))) == 1


async def test_a_batch_gets_its_answers_in_order(wire: RedisWire) -> None:
    """Also while others call."""
    echoes = [f"{number}" for number in range(1_000)]
    answers, alone = await asyncio.gather(wire.call_all(("ECHO", echo) for echo in echoes), wire.call("ECHO", "alone"))
    assert answers == [echo.encode() for echo in echoes]
    assert alone == b"alone"
    assert await wire.call_all(()) == []


async def test_a_refusal_within_a_batch_is_raised(wire: RedisWire) -> None:
    """The connection goes on, with nobody's answer out of place."""
    with pytest.raises(ResponseError):
        await wire.call_all([("ECHO", "a"), ("NOSUCH",), ("ECHO", "b")])
    assert await wire.call("ECHO", "c") == b"c"


async def test_a_batch_whose_connection_is_lost_fails_whole(wire: RedisWire, client: "redis.Redis") -> None:
    """Once; and the next has a new connection."""
    await wire.call("PING")
    waiting = asyncio.create_task(wire.call_all([("BLPOP", "nothing", 0), ("ECHO", "a")]))
    await asyncio.sleep(0)
    await drop(client)
    with pytest.raises(RedisConnectionError):
        await waiting
    assert await wire.call_all([("ECHO", "b")]) == [b"b"]


async def test_a_refusal_is_raised_to_its_caller_alone(wire: RedisWire) -> None:
    """Others on the connection don't notice."""
    answers = await asyncio.gather(wire.call("NOSUCH"), wire.call("ECHO", "a"), return_exceptions=True)
    assert isinstance(answers[0], ResponseError)
    assert answers[1] == b"a"


async def test_a_caller_that_gives_up_leaves_the_others_their_answers(wire: RedisWire) -> None:
    """Its answer is thrown away in its place."""
    calls = [asyncio.create_task(wire.call("ECHO", f"{number}")) for number in range(3)]
    await asyncio.sleep(0)
    calls[1].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [answers[0], answers[2]] == [b"0", b"2"]
    assert isinstance(answers[1], asyncio.CancelledError)


async def test_after_a_lost_connection_the_next_call_has_a_new_one(wire: RedisWire, client: "redis.Redis") -> None:
    """Nobody has to mend it."""
    first = await wire.call("CLIENT", "ID")
    waiting = asyncio.create_task(wire.call("BLPOP", "nothing", 0))
    await asyncio.sleep(0)
    await drop(client)
    with pytest.raises(RedisConnectionError):
        await waiting
    assert await wire.call("CLIENT", "ID") != first


async def test_a_server_that_hangs_fails_all_who_wait() -> None:
    """Within the time-out; and once it answers again, it is called on a new connection."""
    with start_redis() as server:
        client = open_redis(server.url)
        wire = RedisWire(client, timeout_seconds=0.2)
        assert await wire.call("PING") == b"PONG"
        server.pause()
        answers = await asyncio.gather(wire.call("PING"), wire.call("PING"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [RedisTimeoutError, RedisTimeoutError]
        server.resume()
        assert await wire.call("PING") == b"PONG"
        await wire.close()
        await close_redis(client)


async def test_while_there_is_no_server_every_call_fails() -> None:
    """And the first after it came back doesn't."""
    with start_redis() as server:
        client = open_redis(server.url)
        wire = RedisWire(client, timeout_seconds=5)
        server.stop()
        answers = await asyncio.gather(wire.call("PING"), wire.call("PING"), return_exceptions=True)
        assert [type(answer) for answer in answers] == [RedisConnectionError, RedisConnectionError]
        server.start()
        assert await wire.call("PING") == b"PONG"
        await wire.close()
        await close_redis(client)


async def test_a_closed_wire_tells_who_still_waits(client: "redis.Redis") -> None:
    """Nobody is left behind."""
    wire = RedisWire(client, timeout_seconds=5)
    await wire.call("PING")
    waiting = asyncio.create_task(wire.call("BLPOP", "nothing", 0))
    await asyncio.sleep(0)
    await wire.close()
    with pytest.raises(RedisConnectionError):
        await waiting


async def test_a_script_that_the_server_forgot_is_sent_again(wire: RedisWire, client: "redis.Redis") -> None:
    """As after a fail-over to a server that never saw it."""
    script = WireScript(wire, "return {KEYS[1], ARGV[1]}")
    assert await script(["key"], ["one"]) == [b"key", b"one"]
    await client.script_flush()
    assert await script(["key"], [2]) == [b"key", b"2"]


async def test_answers_are_text_where_that_is_asked_for(client: "redis.Redis") -> None:
    """As with a client that decodes."""
    wire = RedisWire(client, timeout_seconds=5, decode=True)
    assert await wire.call("ECHO", "é") == "é"
    await wire.close()


async def test_a_server_that_only_reads_is_left(redis_url: str) -> None:
    """After a fail-over the old one refuses writes: the next call connects anew, and so finds the one in charge."""
    client = open_redis(redis_url)
    wire = RedisWire(client, timeout_seconds=5)
    first = await wire.call("CLIENT", "ID")
    await client.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call] # redis-py leaves it so
    with pytest.raises(ResponseError, match="READONLY"):
        await wire.call("SET", "a", "b")
    await client.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call] # redis-py leaves it so
    assert await wire.call("CLIENT", "ID") != first
    await wire.close()
    await close_redis(client)
