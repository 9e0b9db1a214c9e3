"""Runcast on a Redis Cluster: a whole server, its watchers, and masters that die or hand over while a run goes on."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runcast import Runcast, RunContext
from runcast.backends.bullmq_queue import CLUSTER_PREFIX
from tests.gateway.conftest import Gates, app, gates  # noqa: F401 - fixtures
from tests.gateway.test_api import wait_for_status
from tests.gateway.transports import open_many, send
from tests.services.test_faults import assert_whole, wait_for_stats
from tests.support.redis_cluster import RedisCluster, start_cluster
from tests.support.stack import Stack, receive, start_stack

HEARTBEAT_SECONDS = 0.5


@pytest.fixture
async def stack(app: Runcast, cluster_url: str, tmp_path: Path) -> AsyncIterator[Stack]:  # noqa: F811
    async with start_stack(
        app, redis_url=cluster_url, data_dir=tmp_path, heartbeat_seconds=HEARTBEAT_SECONDS, lease_seconds=1.0
    ) as stack:
        yield stack


@pytest.fixture
def replicated() -> Iterator[RedisCluster]:
    """A cluster whose masters may be killed."""
    with start_cluster(has_replicas=True) as cluster:
        yield cluster


@pytest.fixture
async def replicated_stack(app: Runcast, replicated: RedisCluster, tmp_path: Path) -> AsyncIterator[Stack]:  # noqa: F811
    @app.runner
    async def count(run: RunContext, upto: int) -> dict[str, Any]:
        """Says a number every few milliseconds."""
        for number in range(upto):
            run.emit("log", {"text": str(number)})
            await asyncio.sleep(0.005)
        return {}

    async with start_stack(
        app,
        redis_url=replicated.url,
        data_dir=tmp_path,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        poll_interval_ms=100,
    ) as stack:
        yield stack


async def test_a_run_is_executed_and_watched(stack: Stack, redis_cluster: RedisCluster) -> None:
    """Through API, queue, worker, log and gateway; once live, once from what was kept."""
    for number in range(6):  # their slots are here and there
        run_id = await stack.create("greet", name=str(number), times=3)
        live = await stack.follow(run_id)
        assert_whole(live)
        assert [frame for frame in await stack.follow(run_id) if "seq" in frame] == [
            frame for frame in live if "seq" in frame
        ]
    assert {key for _, key in redis_cluster.scan() if key.startswith("bull:")} == set()
    assert any(key.startswith(f"{CLUSTER_PREFIX}:runs:") for _, key in redis_cluster.scan())


async def test_a_long_text_reaches_many_watchers_whole(stack: Stack) -> None:
    """Every token once and in order, at each."""
    run_id = await stack.create("talk", tokens=2_000)
    for frames in await asyncio.gather(*(stack.follow(run_id) for _ in range(10))):
        assert_whole(frames)
        assert len(frames) > 2_000


async def test_statuses_cancels_and_stats_work_on_a_cluster(stack: Stack) -> None:
    """A list hears of all runs, a worker of a cancel, and stats tell of every gateway."""
    async with open_many(stack) as listing:
        await receive(listing)
        await send(listing, type="subscribe", all=True)
        run_id = await stack.create("hold", gate="a")
        seen: list[str] = []
        async with stack.watch(run_id) as watching:
            await wait_for_status(stack, run_id, "running")
            await receive(watching)
            stats = await stack.get("/runs/stats")
            assert stats["redis"] == {"channels": 1, "handlers": 1, "connected": True}
            assert (stats["complete"], stats["degraded"]) == (True, False)
            assert (await stack.http.post(f"/runs/{run_id}/cancel")).status_code < 300
            frames = [msgspec.json.decode(message) async for message in watching]
        assert frames[-1]["payload"]["status"] == "canceled"
        async with asyncio.timeout(10):
            while "canceled" not in seen:
                frame = await receive(listing)
                if frame.get("runId") == run_id:
                    seen.append(frame["payload"]["status"])
    assert seen[0] == "queued"


@pytest.mark.parametrize("how", ["killed", "handed over", "paused"])
async def test_a_watcher_sees_everything_whatever_becomes_of_a_master(
    replicated_stack: Stack, replicated: RedisCluster, how: str
) -> None:
    """The run's own master dies, hands over to its replica, or hangs: 1 … n all the same, and the cluster goes on."""
    stack = replicated_stack
    run_id = await stack.create("count", upto=800)
    async with asyncio.timeout(90), stack.watch(run_id) as watching:
        frames: list[dict[str, Any]] = []
        async for message in watching:
            frame = msgspec.json.decode(message)
            if frame["type"] != "heartbeat":
                frames.append(frame)
            if len(frames) == 150:
                await asyncio.to_thread(lose_master, replicated, f"run:{run_id}", how)
                frames.append(frame)  # so that it is done once
    del frames[150]
    assert_whole(frames)
    assert len(frames) > 800
    await wait_for_stats(stack, degraded=False)
    assert_whole(await stack.follow(await stack.create("greet", name="after")))


def lose_master(cluster: RedisCluster, channel: str, how: str) -> None:
    owner = cluster.owner_of(channel)
    if how == "killed":
        owner.kill()
    elif how == "paused":
        owner.pause()
    else:
        cluster.replicas[cluster.masters.index(owner)].command("CLUSTER", "FAILOVER")


async def test_the_queue_s_master_may_die(replicated_stack: Stack, replicated: RedisCluster) -> None:
    """Runs are accepted meanwhile; they are executed when its replica has taken over."""
    stack = replicated_stack
    assert_whole(await stack.follow(await stack.create("greet", name="before")))
    await asyncio.to_thread(replicated.owner_of(f"{CLUSTER_PREFIX}:runs:wait").kill)
    runs = [await stack.create("greet", name="meanwhile") for _ in range(5)]
    for run_id in runs:
        assert_whole(await stack.follow(run_id))


async def test_a_watcher_sees_everything_while_its_slot_moves(
    stack: Stack,
    redis_cluster: RedisCluster,
    gates: Gates,  # noqa: F811
) -> None:
    """To another master and back, while the run goes on."""
    run_id = await stack.create("hold", gate="a")
    await wait_for_status(stack, run_id, "running")
    channel = f"run:{run_id}"
    owner = redis_cluster.owner_of(channel)
    other = next(node for node in redis_cluster.masters if node is not owner)
    following = asyncio.create_task(stack.follow(run_id))
    async with asyncio.timeout(10):
        while not (await stack.get("/runs/stats"))["redis"]["handlers"]:
            await asyncio.sleep(0.01)
    await asyncio.to_thread(redis_cluster.move, channel, other)
    gates["a"].set()
    assert_whole(await following)
    await asyncio.to_thread(redis_cluster.move, channel, owner)
    assert_whole(await stack.follow(run_id))
