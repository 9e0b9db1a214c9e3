"""The job queue on a real server: the promises of the `JobQueue` port, and each piece of BullMQ that we use."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from runcast.backends.bullmq_queue import BullMQQueue
from runcast.backends.redis_client import close_redis, open_redis
from runcast.backends.redis_cluster import as_cluster
from runcast.errors import UnavailableError
from runcast.ports import ActiveJob
from runcast.records import Job, RunError

LOCK_SECONDS = 2


def job(job_id: str) -> Job:
    return Job(id=job_id, name="prompt", data={"runId": job_id})


async def take(queue: BullMQQueue) -> ActiveJob:
    async with asyncio.timeout(15):
        return await queue.take()


def key(client: "redis.Redis", name: str) -> str:
    """On a single Redis as BullMQ has it by default; on a cluster all in one slot."""
    return f"{'bull' if as_cluster(client) is None else '{bull}'}:runs:{name}"


@pytest.fixture
async def queue(any_redis_url: str) -> AsyncIterator[BullMQQueue]:
    queue = BullMQQueue(any_redis_url, lock_seconds=LOCK_SECONDS)
    yield queue
    await queue.close()


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator["redis.Redis"]:
    client = open_redis(any_redis_url, decode=True)
    yield client
    await close_redis(client)


async def test_jobs_come_oldest_first_with_what_the_producer_wrote(queue: BullMQQueue) -> None:
    """Name and data arrive as they were given."""
    for name in ("a", "b", "c"):
        await queue.add(job(name))
    taken = [(await take(queue)).job for _ in range(3)]
    assert [(each.id, each.name, each.data) for each in taken] == [
        ("a", "prompt", {"runId": "a"}),
        ("b", "prompt", {"runId": "b"}),
        ("c", "prompt", {"runId": "c"}),
    ]
    assert all(each.added_ms > 0 for each in taken)


async def test_a_waiting_worker_gets_a_job_as_it_comes(queue: BullMQQueue) -> None:
    """A quiet queue is waited on, not polled."""
    taking = asyncio.create_task(take(queue))
    await asyncio.sleep(0)
    await queue.add(job("a"))
    assert (await taking).job.id == "a"


async def test_adding_a_job_twice_adds_it_once(queue: BullMQQueue, client: "redis.Redis") -> None:
    """The sweeper may add what is there."""
    await queue.add(job("a"))
    await queue.add(job("a"))
    assert await client.llen(key(client, "wait")) == 1


async def test_the_end_of_one_job_brings_the_next(queue: BullMQQueue) -> None:
    """One round trip ends a job and takes another, in the same place."""
    await queue.add(job("a"))
    await queue.add(job("b"))
    first = await take(queue)
    second = await first.finish(take_next=True)
    assert second is not None
    assert second.job.id == "b"
    assert await second.finish(take_next=True) is None


async def test_a_job_that_came_with_the_end_of_another_can_be_finished(
    queue: BullMQQueue, client: "redis.Redis"
) -> None:
    """It holds the lock that the queue gave it."""
    await queue.add(job("a"))
    await queue.add(job("b"))
    second = await (await take(queue)).finish(take_next=True)
    assert second is not None
    await second.finish()
    assert await client.zrange(key(client, "completed"), 0, -1) == ["a", "b"]
    assert await client.llen(key(client, "active")) == 0


async def test_a_failed_job_shows_its_reason_in_the_queue(queue: BullMQQueue, client: "redis.Redis") -> None:
    """Whoever looks at the queue with other tools sees what failed and why."""
    await queue.add(job("a"))
    await (await take(queue)).finish(RunError(code="boom", message="it broke"))
    assert await client.zrange(key(client, "failed"), 0, -1) == ["a"]
    assert await client.hget(key(client, "a"), "failedReason") == "boom: it broke"


async def test_a_released_job_comes_again(queue: BullMQQueue) -> None:
    """Given back, it is there for anybody."""
    await queue.add(job("a"))
    await (await take(queue)).release()
    assert (await take(queue)).job.id == "a"


async def test_a_delayed_job_waits_for_its_time(queue: BullMQQueue) -> None:
    """Neither at once nor a second late."""
    loop = asyncio.get_running_loop()
    await queue.add(job("late"), delay_seconds=0.3)
    await queue.add(job("early"))
    began = loop.time()
    assert (await take(queue)).job.id == "early"
    assert (await take(queue)).job.id == "late"
    assert loop.time() - began >= 0.25


async def test_the_job_of_a_dead_worker_comes_back(queue: BullMQQueue, any_redis_url: str) -> None:
    """Its lock runs out and another worker gets it."""
    dead = BullMQQueue(any_redis_url, lock_seconds=LOCK_SECONDS)
    await queue.add(job("a"))
    await take(dead)
    await dead.close()
    assert (await take(queue)).job.id == "a"


async def test_a_job_in_hand_is_kept_beyond_the_life_of_its_lock(queue: BullMQQueue, any_redis_url: str) -> None:
    """Locks are renewed while the worker lives, however long the job takes."""
    await queue.add(job("a"))
    active = await take(queue)
    other = BullMQQueue(any_redis_url, lock_seconds=LOCK_SECONDS)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(LOCK_SECONDS * 2):
            await other.take()
    await other.close()
    await active.finish()


async def test_a_lost_lock_is_noticed_and_harms_nobody(queue: BullMQQueue, client: "redis.Redis") -> None:
    """A worker that was taken for dead can't finish what is another's now."""
    await queue.add(job("a"))
    active = await take(queue)
    await client.set(key(client, "a:lock"), "somebody else")
    await active.finish()
    assert await client.zcard(key(client, "completed")) == 0


async def test_finished_jobs_are_let_go(queue: BullMQQueue, client: "redis.Redis") -> None:
    """The queue keeps a bounded number of them, for a bounded time."""
    await queue.add(job("a"))
    options = json.loads(await client.hget(key(client, "a"), "opts") or "{}")
    assert options["removeOnComplete"] == options["removeOnFail"] == {"age": 3600, "count": 1000}


async def test_without_redis_add_says_so(tmp_path: object) -> None:
    """The caller knows at once that the job isn't queued."""
    queue = BullMQQueue(f"unix://{tmp_path}/nobody.sock", lock_seconds=LOCK_SECONDS)
    with pytest.raises(UnavailableError):
        await queue.add(job("a"))
    await queue.close()
