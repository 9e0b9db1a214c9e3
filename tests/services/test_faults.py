"""What happens when Redis goes, comes back, or forgets, and when workers die: nothing lost, nothing twice."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runcast import Runcast
from runcast.backends.bullmq_queue import BullMQQueue
from runcast.backends.redis_client import open_redis
from runcast.backends.sql import open_store
from runcast.events import RunEvent, RunStatus, log_event
from runcast.records import Commit, StatusChange
from tests.gateway.conftest import Gates, app, gates  # noqa: F401 - fixtures
from tests.gateway.test_api import wait_for_status
from tests.support.redis_server import RedisServer, start_redis
from tests.support.stack import Stack, receive, start_stack


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that the test may kill."""
    with start_redis() as server:
        yield server


@pytest.fixture
async def stack(app: Runcast, own_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Stack]:  # noqa: F811
    async with start_stack(
        app,
        redis_url=own_redis.url,
        data_dir=tmp_path,
        lease_seconds=1.0,
        poll_interval_ms=100,
        heartbeat_seconds=0.3,
    ) as stack:
        yield stack


def assert_whole(frames: list[dict[str, Any]], status: str = "done") -> None:
    events = [frame for frame in frames if "seq" in frame]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["payload"]["status"] == status


async def wait_for_stats(stack: Stack, *, degraded: bool) -> None:
    async with asyncio.timeout(15):
        while (await stack.get("/runs/stats"))["degraded"] is not degraded:
            await asyncio.sleep(0.01)


async def test_a_run_goes_on_while_redis_is_away_and_its_watcher_sees_it(
    stack: Stack,
    own_redis: RedisServer,
    gates: Gates,  # noqa: F811
) -> None:
    """The worker commits to the database, the gateway reads from there, and the watcher gets everything."""
    run_id = await stack.create("hold", gate="a")
    await wait_for_status(stack, run_id, "running")
    following = asyncio.create_task(stack.follow(run_id))
    own_redis.stop(signal.SIGKILL)
    await wait_for_stats(stack, degraded=True)
    gates["a"].set()
    run = await wait_for_status(stack, run_id, "done")
    frames = await following
    assert_whole(frames)
    assert frames[-1]["seq"] == run["lastSeq"]
    own_redis.start()
    await wait_for_stats(stack, degraded=False)
    assert_whole(await stack.follow(await stack.create("greet", name="after")))


async def test_a_watcher_can_come_while_redis_is_away(
    stack: Stack,
    own_redis: RedisServer,
    gates: Gates,  # noqa: F811
) -> None:
    """Connected and heartbeat frames say that the service is degraded; the log is all there."""
    run_id = await stack.create("hold", gate="a")
    await wait_for_status(stack, run_id, "running")
    own_redis.stop(signal.SIGKILL)
    await wait_for_stats(stack, degraded=True)
    async with stack.watch(run_id) as socket:
        hello = msgspec.json.decode(await socket.recv())
        assert (hello["payload"]["runStatus"], hello["payload"]["degraded"]) == ("running", True)
        gates["a"].set()
        seqs = []
        while "seq" in (frame := await receive(socket)):
            seqs.append(frame["seq"])
            if frame["type"] == "run_completed":
                break
    assert seqs == list(range(1, len(seqs) + 1))
    own_redis.start()


async def test_redis_coming_back_empty_is_filled_again(
    stack: Stack,
    own_redis: RedisServer,
    gates: Gates,  # noqa: F811
) -> None:
    """The writer goes on where the archive ends; old and new watchers see one gapless log."""
    run_id = await stack.create("hold", gate="a")
    await wait_for_status(stack, run_id, "running")
    following = asyncio.create_task(stack.follow(run_id))
    own_redis.stop(signal.SIGKILL)
    own_redis.wipe()
    own_redis.start()
    await wait_for_stats(stack, degraded=False)
    gates["a"].set()
    assert_whole(await following)
    assert_whole(await stack.follow(run_id))


async def test_redis_rolled_back_to_an_older_state_changes_nothing_for_watchers(
    stack: Stack,
    own_redis: RedisServer,
    gates: Gates,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Lost writes are put back under their own numbers."""
    run_id = await stack.create("hold", gate="a")
    own_redis.stop()
    shutil.copytree(own_redis.home, tmp_path / "older", ignore=shutil.ignore_patterns("*.sock"))
    own_redis.start()
    await wait_for_status(stack, run_id, "running")
    following = asyncio.create_task(stack.follow(run_id))
    own_redis.stop()
    own_redis.wipe()
    shutil.copytree(tmp_path / "older", own_redis.home, dirs_exist_ok=True)
    own_redis.start()
    await wait_for_stats(stack, degraded=False)
    gates["a"].set()
    assert_whole(await following)
    assert_whole(await stack.follow(run_id))


async def test_runs_created_without_redis_are_executed_once_it_is_back(stack: Stack, own_redis: RedisServer) -> None:
    """A run that is stored is acknowledged; the sweeper sees to the rest."""
    own_redis.stop(signal.SIGKILL)
    run_id = await stack.create("greet", name="Ada")
    own_redis.start()
    assert_whole(await stack.follow(run_id))


async def test_runs_are_accepted_while_redis_hangs(stack: Stack, own_redis: RedisServer) -> None:
    """The answer waits for the database, not for the sockets' time-outs; what was accepted is executed later."""
    own_redis.pause()
    try:
        run_id = await stack.create("greet", name="Ada")  # the client gives up after 10 s; Redis' sockets after 50
        canceled = await stack.http.post(f"/runs/{await stack.create('greet', name='Bob')}/cancel")
    finally:
        own_redis.resume()
    assert canceled.json()["status"] == "canceled"
    assert_whole(await stack.follow(run_id))


async def test_a_dead_worker_is_told_of_even_if_there_is_no_other(stack: Stack) -> None:
    """No page shows "running" for ever: the gateway itself notices, and watchers see `retrying`."""
    await stack.stop_worker()
    run_id = await stack.create("greet", name="Ada")
    store = await open_store(stack.settings.database)
    now = datetime.now(UTC)
    await store.renew_lease("doomed", until=now + timedelta(seconds=0.5))
    assert await store.claim_run(run_id, "doomed", now=now) is not None
    await store.close()
    async with stack.watch(run_id) as socket:
        while (await receive(socket))["payload"]["status"] != "retrying":
            pass
        stack.start_worker()
        statuses = []
        while (frame := await receive(socket))["type"] != "run_completed":
            statuses.append(frame["payload"].get("status"))
    assert statuses[0] == "running"
    assert frame["attempt"] == 2


async def test_a_dead_workers_run_is_executed_while_its_job_is_still_locked(
    stack: Stack, own_redis: RedisServer
) -> None:
    """The database says who is dead; the queue, which learns it later, doesn't hold up the next attempt."""
    await stack.stop_worker()
    run_id = await stack.create("greet", name="Ada")
    doomed = BullMQQueue(own_redis.url, lock_seconds=3600)
    await doomed.take()
    store = await open_store(stack.settings.database)
    now = datetime.now(UTC)
    await store.renew_lease("doomed", until=now + timedelta(seconds=0.5))
    assert await store.claim_run(run_id, "doomed", now=now) is not None
    await store.close()
    await doomed.close()
    stack.start_worker()
    assert_whole(await stack.follow(run_id))


async def test_a_cancel_of_a_run_whose_worker_died_still_ends_it(stack: Stack) -> None:
    """Whoever asked gets what they asked for."""
    await stack.stop_worker()
    run_id = await stack.create("greet", name="Ada")
    store = await open_store(stack.settings.database)
    assert await store.claim_run(run_id, "dead", now=datetime.now(UTC)) is not None
    await store.close()
    await stack.http.post(f"/runs/{run_id}/cancel")
    assert_whole(await stack.follow(run_id), status="canceled")


async def test_polling_mode_gives_the_same_frames(
    app: Runcast,  # noqa: F811
    own_redis: RedisServer,
    tmp_path: Path,
) -> None:
    """The rollback: another source, the same cursor, the same frames; and it isn't called degraded."""
    async with start_stack(
        app, redis_url=own_redis.url, data_dir=tmp_path, transport="polling", poll_interval_ms=50
    ) as stack:
        run_id = await stack.create("talk", tokens=500)
        live = await stack.follow(run_id)
        assert_whole(live)
        assert (await stack.follow(run_id))[1:] == live[1:]
        stats = await stack.get("/runs/stats")
        assert (stats["transport"], stats["degraded"]) == ("polling", False)


async def test_a_cut_link_loses_nothing(stack: Stack, own_redis: RedisServer) -> None:
    """Events published while the subscriber was cut off are read from the log once it is back."""
    client = open_redis(own_redis.url)
    following = [asyncio.create_task(stack.follow(await stack.create("talk", tokens=3_000))) for _ in range(3)]
    for _ in range(5):
        await client.client_kill_filter(_type="pubsub")
        await asyncio.sleep(0)
    for frames in await asyncio.gather(*following):
        assert_whole(frames)
    await client.aclose()


async def test_an_end_that_nobody_could_tell_the_log_of_is_still_told(stack: Stack, own_redis: RedisServer) -> None:
    """Redis has lost the run's beginning and no worker is alive: what the database says reaches the watcher."""
    await stack.stop_worker()
    run_id = await stack.create("greet", name="Ada")
    following = asyncio.create_task(stack.follow(run_id))
    async with asyncio.timeout(10):
        while not (await stack.get("/runs/stats"))["connections"]:
            await asyncio.sleep(0.01)
    client = open_redis(own_redis.url)
    await client.flushall()
    await client.aclose()
    store = await open_store(stack.settings.database)
    claimed = await store.claim_run(run_id, "w", now=datetime.now(UTC))
    assert claimed is not None
    ended = log_event(
        RunEvent(
            type="run_status",
            payload={"status": "failed"},
            ts="2026-01-01T00:00:00.000Z",
            run_id=run_id,
            seq=2,
            attempt=1,
        )
    )
    change = StatusChange(status=RunStatus.FAILED, at=datetime.now(UTC))
    await store.commit(Commit(run_id=run_id, attempt=1, events=[ended], change=change))
    await store.close()
    assert_whole(await following, status="failed")


async def test_a_cancel_after_redis_lost_the_run_is_told(stack: Stack, own_redis: RedisServer) -> None:
    """What the log lacks before it, the archive has."""
    await stack.stop_worker()
    run_id = await stack.create("greet", name="Ada")
    client = open_redis(own_redis.url)
    await client.flushall()
    await stack.http.post(f"/runs/{run_id}/cancel")
    assert_whole(await stack.follow(run_id), status="canceled")
    assert await client.xlen(f"{{run:{run_id}}}:log") == 1
    await client.aclose()


async def test_a_full_redis_is_waited_out(stack: Stack, own_redis: RedisServer, gates: Gates) -> None:  # noqa: F811
    """Out of memory is an outage like any other: runs go on, new ones are stored, and all is told in the end."""
    run_id = await stack.create("hold", gate="a")
    await wait_for_status(stack, run_id, "running")
    client = open_redis(own_redis.url)
    await client.config_set("maxmemory", 1)
    gates["a"].set()
    assert_whole(await stack.follow(run_id))
    waiting = await stack.create("greet", name="later")
    await client.config_set("maxmemory", 0)
    await client.aclose()
    assert_whole(await stack.follow(waiting))


async def test_without_redis_every_dead_worker_is_noticed(stack: Stack, own_redis: RedisServer) -> None:
    """One run that can't be queued doesn't hide the others."""
    await stack.stop_worker()
    run_ids = [await stack.create("greet", name="Ada") for _ in range(3)]
    store = await open_store(stack.settings.database)
    for run_id in run_ids:
        assert await store.claim_run(run_id, "dead", now=datetime.now(UTC)) is not None
    await store.close()
    own_redis.stop(signal.SIGKILL)
    for run_id in run_ids:
        await wait_for_status(stack, run_id, "retrying")
    own_redis.start()


async def test_heartbeats_go_on_while_redis_hangs(stack: Stack, own_redis: RedisServer) -> None:
    """A server that neither answers nor closes holds up no sign of life."""
    await stack.stop_worker()
    run_id = await stack.create("greet", name="Ada")
    async with stack.watch(run_id) as socket:
        while "seq" not in await receive(socket):
            pass  # what there is has been read: the log is not being asked just now
        own_redis.pause()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(8):
            while msgspec.json.decode(await socket.recv())["type"] != "heartbeat":
                pass
        assert loop.time() - began < 8 * 2  # with 0.3 s between two; waiting for Redis it would be 20 s for the first
        own_redis.resume()


async def test_a_worker_outlasts_nonsense_on_the_control_channel(stack: Stack, own_redis: RedisServer) -> None:
    """Anybody with access to Redis may publish anything; a cancel after it still arrives."""
    client = open_redis(own_redis.url)
    for junk in (b"not json", b"7", b'{"cancel": 7}'):
        await client.publish("runcast:control", junk)
    run_id = await stack.create("hold", gate="never")
    await wait_for_status(stack, run_id, "running")
    await stack.http.post(f"/runs/{run_id}/cancel")
    assert_whole(await stack.follow(run_id), status="canceled")
    assert await client.pubsub_numsub("runcast:control") == [(b"runcast:control", 1)]
    await client.aclose()
