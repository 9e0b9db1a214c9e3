"""The job queue on a real server: the promises of the `JobQueue` port, and each piece of BullMQ that we use."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from runcast.backends.bullmq_queue import BullMQQueue
from runcast.backends.redis_client import close_redis, open_redis
from runcast.backends.redis_cluster import as_cluster
from runcast.concurrency import end_tasks
from runcast.errors import ConfigurationError, UnavailableError
from runcast.ports import ActiveJob
from runcast.records import Job, RunError, Schedule
from runcast.services.runs import run_id_of

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
    assert await client.zcard(key(client, "prioritized")) == 1


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
    began = loop.time()
    await queue.add(job("late"), delay_seconds=0.3)
    await queue.add(job("early"))
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


class TestPriorities:
    async def test_the_higher_goes_first_then_the_older(self, queue: BullMQQueue) -> None:
        """Also before those without a priority that have waited longer."""
        for name, priority in {"a": 0, "b": 100, "c": 1, "d": 100, "e": 0}.items():
            await queue.add(job(name), priority=priority)
        assert [(await take(queue)).job.id for _ in range(5)] == ["b", "d", "c", "a", "e"]

    async def test_it_outlasts_a_delay(self, queue: BullMQQueue) -> None:
        """A delayed job takes its place among those that wait, once it is due."""
        await queue.add(job("a"))
        await queue.add(job("b"), priority=5, delay_seconds=0.01)
        first = await take(queue)
        await asyncio.sleep(0.05)  # the delay
        second = await take(queue)
        assert {first.job.id, second.job.id} == {"a", "b"}
        await queue.add(job("c"), priority=1)
        await queue.add(job("d"), priority=9)
        await first.release()
        await asyncio.sleep(0.05)  # a release is a delay of a millisecond
        left = ["d", "c", first.job.id] if first.job.id == "a" else ["d", first.job.id, "c"]
        assert [(await take(queue)).job.id for _ in range(3)] == left


async def test_a_discarded_job_can_be_added_again(queue: BullMQQueue, client: "redis.Redis") -> None:
    """A run may be looked at in vain and be due again under the same id; a finished job is kept to be seen."""
    for _ in range(3):
        await queue.add(job("a"))
        await (await take(queue)).discard()
    await queue.add(job("b"))
    await (await take(queue)).finish()
    assert await client.zrange(key(client, "completed"), 0, -1) == ["b"]


class TestSchedules:
    every_second = Schedule(cron="* * * * * *", job_name="report", data={"input": {"deep": True}})

    async def test_at_each_time_there_is_one_job_for_all_processes(self, redis_url: str) -> None:
        """Three processes set the same schedule and work: each second's job comes once, with a moment of its own."""
        queues = [BullMQQueue(redis_url, lock_seconds=LOCK_SECONDS) for _ in range(3)]
        taken: list[Job] = []

        async def work(queue: BullMQQueue) -> None:
            while True:
                active = await queue.take()
                taken.append(active.job)
                await active.finish()

        await asyncio.gather(*(queue.set_schedules({"report": self.every_second}) for queue in queues))
        workers = [asyncio.create_task(work(queue)) for queue in queues]
        try:
            async with asyncio.timeout(60):
                while len(taken) < 3:
                    await asyncio.sleep(0.05)
                    await queues[0].set_schedules({"report": self.every_second})
        finally:
            await end_tasks(*workers)
            for queue in queues:
                await queue.close()

        moments = [each.added_ms for each in taken]
        assert moments == sorted(set(moments))
        assert all(moment % 1000 == 0 for moment in moments)
        assert {(each.name, json.dumps(each.data)) for each in taken} == {("report", '{"input": {"deep": true}}')}
        assert len({run_id_of(each) for each in taken}) == len(taken)

    async def test_they_are_exactly_those_that_were_set(self, queue: BullMQQueue) -> None:
        """One that is gone is removed with its job, one that has changed is replaced; other producers' stay."""
        yearly = "0 0 1 1 *"
        await queue._queue.upsertJobScheduler("foreign", {"pattern": yearly}, "other")
        await queue.set_schedules({"a": Schedule(cron=yearly, job_name="a"), "b": Schedule(cron=yearly, job_name="b")})
        tokyo = Schedule(cron="0 0 2 1 *", job_name="b", timezone="Asia/Tokyo")
        await queue.set_schedules({"b": tokyo})
        records = {record["key"]: record for record in await queue._queue.getJobSchedulers()}
        assert set(records) == {"foreign", "runcast-b"}
        assert (records["runcast-b"]["pattern"], records["runcast-b"]["tz"]) == ("0 0 2 1 *", "Asia/Tokyo")
        assert await queue._queue.getDelayedCount() == 2

    @pytest.mark.parametrize(
        "broken",
        [Schedule(cron="every day", job_name="a"), Schedule(cron="* * * * *", job_name="a", timezone="Mars/Base")],
    )
    async def test_one_that_cant_be_read_is_a_wrong_setting(self, queue: BullMQQueue, broken: Schedule) -> None:
        """The message names it."""
        with pytest.raises(ConfigurationError, match="'broken'"):
            await queue.set_schedules({"broken": broken})

    async def test_no_schedules_leave_nothing(self, queue: BullMQQueue, client: "redis.Redis") -> None:
        """An application that has none any more asks for none."""
        await queue.set_schedules({"report": self.every_second})
        await queue.set_schedules({})
        assert await client.zcard(key(client, "repeat")) == 0
        assert await client.zcard(key(client, "delayed")) == 0
