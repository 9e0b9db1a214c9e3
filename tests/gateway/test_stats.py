"""Stats of several gateways: each tells of all. The processes are real ones in `tests/cli/test_gateways.py`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from runcast import Runcast
from runcast.gateway.reports import MAX_LISTED_CONNECTIONS
from tests.cli.processes import eventually
from tests.gateway.conftest import Gates
from tests.support.redis_server import RedisServer, start_redis
from tests.support.stack import Stack, free_port, receive, start_stack

HEARTBEAT_SECONDS = 0.4


@pytest.fixture
async def other(stack: Stack) -> AsyncIterator[Stack]:
    """A second gateway of the same installation."""
    other = Stack(stack.app, stack.settings.model_copy(update={"port": free_port()}))
    await other.start_api()
    yield other
    await other.close()


@pytest.fixture
async def stack(app: Runcast, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path, heartbeat_seconds=HEARTBEAT_SECONDS) as stack:
        yield stack


async def stats_when(stack: Stack, **expected: Any) -> dict[str, Any]:
    """The stats, once they say what is expected; the other's report may be an interval old."""
    found: dict[str, Any] = {}

    async def is_so() -> bool:
        nonlocal found
        found = await stack.get("/runs/stats")
        return all(found[name] == value for name, value in expected.items())

    await eventually(is_so, f"stats are {expected}")
    return found


async def test_each_gateway_tells_of_all(stack: Stack, other: Stack, gates: Gates) -> None:
    """Connections, channels and handlers add up, whichever is asked; the one that answers comes first."""
    runs = [await stack.create("hold", gate="a") for _ in range(2)]
    async with stack.watch(runs[0]) as one, other.watch(runs[0]) as two, other.watch(runs[1]) as three:
        for socket in (one, two, three):
            await receive(socket)
        here = await stats_when(stack, activeConnections=3)
        there = await stats_when(other, activeConnections=3)
    gates["a"].set()
    assert here["redis"] == there["redis"] == {"channels": 3, "handlers": 3, "connected": True}
    assert (here["complete"], here["degraded"]) == (True, False)
    assert sorted(each["runId"] for each in here["connections"]) == sorted([runs[0], runs[0], runs[1]])
    assert all(0 <= each["duration"] < 60_000 for each in here["connections"])
    assert [each["activeConnections"] for each in here["gateways"]] == [1, 2]
    assert [each["activeConnections"] for each in there["gateways"]] == [2, 1]
    assert [each["id"] for each in here["gateways"]] == [each["id"] for each in reversed(there["gateways"])]


async def test_a_gateway_that_stops_is_gone_at_once(stack: Stack, other: Stack) -> None:
    """It takes its report down itself; nothing has to run out."""
    assert len((await stats_when(other, complete=True))["gateways"]) >= 1
    await eventually(lambda: _has_gateways(stack, 2), "both are known")
    await other.stop_api()
    assert await _has_gateways(stack, 1)


async def test_more_connections_than_the_limit_are_counted_but_not_listed(
    stack: Stack, other: Stack, gates: Gates
) -> None:
    """The gateways take turns in the list, so a busy one doesn't hide the others."""
    run_id = await stack.create("hold", gate="a")
    quiet = await stack.create("hold", gate="a")
    async with AsyncExitStack() as watchers:
        await receive(await watchers.enter_async_context(stack.watch(quiet)))
        for _ in range(MAX_LISTED_CONNECTIONS + 5):
            await receive(await watchers.enter_async_context(other.watch(run_id)))
        stats = await stats_when(other, activeConnections=MAX_LISTED_CONNECTIONS + 6)
    gates["a"].set()
    listed = [each["runId"] for each in stats["connections"]]
    assert len(listed) == MAX_LISTED_CONNECTIONS
    assert listed.count(quiet) == 1


@pytest.fixture
def own_redis() -> Any:
    with start_redis() as server:
        yield server


async def test_without_redis_a_gateway_tells_of_itself_and_says_so(
    app: Runcast, own_redis: RedisServer, gates: Gates, tmp_path: Path
) -> None:
    """What the others do can't be known then; once Redis is back it is."""
    async with start_stack(
        app, redis_url=own_redis.url, data_dir=tmp_path, heartbeat_seconds=HEARTBEAT_SECONDS
    ) as stack:
        other = Stack(stack.app, stack.settings.model_copy(update={"port": free_port()}))
        await other.start_api()
        run_id = await stack.create("hold", gate="a")
        async with stack.watch(run_id) as one, other.watch(run_id) as two:
            await receive(one)
            await receive(two)
            await stats_when(stack, activeConnections=2)
            own_redis.stop()
            alone = await stats_when(stack, complete=False, degraded=True)
            assert (alone["activeConnections"], len(alone["gateways"]), len(alone["connections"])) == (1, 1, 1)
            own_redis.start()
            await stats_when(stack, complete=True, degraded=False, activeConnections=2)
        gates["a"].set()
        await stack.follow(run_id)
        await other.close()


async def test_a_redis_that_hangs_keeps_nobody_waiting_for_stats(
    app: Runcast, own_redis: RedisServer, tmp_path: Path
) -> None:
    """The answer comes within the board's time-out and tells of one process."""
    async with start_stack(app, redis_url=own_redis.url, data_dir=tmp_path) as stack:
        own_redis.pause()
        try:
            async with asyncio.timeout(10):
                stats = await stack.get("/runs/stats")
        finally:
            own_redis.resume()
    assert (stats["complete"], len(stats["gateways"])) == (False, 1)


async def _has_gateways(stack: Stack, count: int) -> bool:
    return len((await stack.get("/runs/stats"))["gateways"]) == count
