"""The stats board on a real server: the promises of the `StatsBoard` port."""

import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import redis.asyncio as redis

from runcast.backends.redis_client import close_redis, open_redis
from runcast.backends.redis_stats import INDEX_KEY, RedisStatsBoard
from runcast.errors import UnavailableError
from runcast.records import GatewayReport, LinkState, WatcherReport
from tests.cli.processes import eventually
from tests.support.redis_server import start_redis

WATCHER = WatcherReport(run_id="r", transport="sse", duration_ms=7, last_status="running")


def report(gateway_id: str, *, connections: int = 1) -> GatewayReport:
    return GatewayReport(
        gateway_id=gateway_id,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        connections=connections,
        link=LinkState(channels=1, handlers=2, connected=True),
        is_degraded=False,
        watchers=(WATCHER,),
    )


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator["redis.Redis"]:
    client = open_redis(any_redis_url)
    yield client
    await close_redis(client)


async def test_what_is_posted_is_read_until_it_is_withdrawn(client: "redis.Redis") -> None:
    """Each process has one report; a later one takes its place."""
    board = RedisStatsBoard(client, ttl_seconds=60)
    assert await board.read() == []
    await board.post(report("a"))
    await board.post(report("b"))
    await board.post(report("b", connections=5))
    assert list(await board.read()) == [report("a"), report("b", connections=5)]
    await board.withdraw("a")
    assert list(await board.read()) == [report("b", connections=5)]
    await board.withdraw("nobody")


async def test_a_report_that_is_not_renewed_disappears_and_leaves_nothing(client: "redis.Redis") -> None:
    """A process that died says nothing more, and when all are gone there is no key left."""
    lasting = RedisStatsBoard(client, ttl_seconds=60)
    await RedisStatsBoard(client, ttl_seconds=0.02).post(report("dead"))
    await lasting.post(report("alive"))

    async def is_gone() -> bool:
        return list(await lasting.read()) == [report("alive")]

    await eventually(is_gone, "the dead process's report is gone")
    await lasting.post(report("alive"))
    assert await client.zrange(INDEX_KEY, 0, -1) == [b"alive"]
    assert {await client.ttl(key) > 0 async for key in client.scan_iter("*")} == {True}


async def test_what_is_no_report_is_left_out(client: "redis.Redis") -> None:
    """A gateway of another version can't keep this one from telling what it knows."""
    board = RedisStatsBoard(client, ttl_seconds=60)
    await board.post(report("a"))
    await board.post(report("b"))
    await client.set(f"{INDEX_KEY}:b", b'{"gateway_id":7}', ex=60)
    assert list(await board.read()) == [report("a")]


async def test_a_board_that_is_away_is_unavailable() -> None:
    """Posting, reading and withdrawing say so in the one way."""
    with start_redis() as server:
        client = open_redis(server.url)
        board = RedisStatsBoard(client, ttl_seconds=60)
        await board.post(report("a"))
        server.stop(signal.SIGKILL)
        for action in (board.post(report("a")), board.read(), board.withdraw("a")):
            with pytest.raises(UnavailableError):
                await action
        await client.aclose()
