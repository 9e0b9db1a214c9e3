"""The job queue: BullMQ on Redis, wire-compatible with Node's, behind the `JobQueue` port.

The only module that knows BullMQ. It uses its scripts, its lock manager and its check for stalled jobs, but not its
bundled loop: one fetcher of ours takes jobs one after the other, and finishing a job hands the next one over in the
same round trip. That does several times the jobs a second, and a quiet queue costs one blocking command instead of
hundreds of scripts.

What of BullMQ has to be known here (3.4)
- A finished job stays in Redis for ever unless `removeOnComplete` and `removeOnFail` say otherwise.
- A job is failed by the queue itself when its worker dies too often; here the database counts attempts, so the
  queue's own count is put out of reach.
- A blocking pop longer than the socket's time-out looks like a dead connection: the time-out lies above it.
- The wait for delayed jobs is rounded up to a second until the blocking connection has read the server's version.
- A job that its lock was lost for can't be finished any more: by then it is another worker's.
- What has no priority goes before everything that has one, and of those the lowest number first: so each of our jobs
  has one. That costs no more: BullMQ keeps them in a sorted set instead of a list.
- A job id that is still kept as finished can't be added again: a job that may have to come again is not kept.
- A schedule is one delayed job, the next. Taking it makes the one after; replacing it makes the next anew, and one that
  is just due would get lost: so only a schedule that has changed is replaced.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfoNotFoundError

from bullmq import Queue, Worker
from redis.exceptions import RedisError

from runcast.backends.redis_client import SOCKET_TIMEOUT_SECONDS, close_redis, open_redis, redis_errors
from runcast.backends.redis_cluster import as_cluster
from runcast.backends.redis_cluster_wire import ClusterScript, open_wire, script_on
from runcast.backends.redis_wire import WireScript
from runcast.concurrency import end_tasks
from runcast.errors import ConfigurationError, UnavailableError
from runcast.logs import get_logger
from runcast.records import Job, RunError, Schedule

log = get_logger()

QUEUE_NAME: Final = "runs"
PREFIX: Final = "bull"
CLUSTER_PREFIX: Final = "{bull}"
"""With these braces all keys of the queue are of one slot, as its scripts need it."""

_BLOCK_SECONDS: Final = 5  # longest wait for a job in one command
_SOCKET_TIMEOUT_SECONDS: Final = 20  # above the longest block, which BullMQ limits to 10 s
_RETRY_SECONDS: Final = 0.5
_KEEP_FINISHED: Final = {"age": 3600, "count": 1000}
_KEEP_NOTHING: Final = {"count": 0}
_SCHEDULE_PREFIX: Final = "runcast-"  # of the schedules that are ours
_NO_PRIORITY: Final = 101  # BullMQ's number for our 0; ours go up to 100
_NEVER: Final = 1_000_000  # stalls before BullMQ itself would fail a job


class BullMQQueue:
    """`JobQueue` on BullMQ. A process that only adds never starts the worker's part."""

    def __init__(self, redis_url: str, *, lock_seconds: float, name: str = QUEUE_NAME) -> None:
        self._client: Final = open_redis(redis_url, decode=True, socket_timeout_seconds=_SOCKET_TIMEOUT_SECONDS)
        self._lock_ms: Final = int(lock_seconds * 1000)
        self._name: Final = name
        self._wire: Final = open_wire(self._client, timeout_seconds=SOCKET_TIMEOUT_SECONDS, decode=True)
        prefix = PREFIX if as_cluster(self._client) is None else CLUSTER_PREFIX
        self._connection: Final = {"connection": self._client, "prefix": prefix}
        self._queue: Final = Queue(name, self._connection)
        self._put_on_wire(self._queue.backend, "addPrioritizedJob")
        self._worker: Any = None  # BullMQ's, from the first `take` on
        self._stalled_task: asyncio.Task[None] | None = None
        self._token_number = 0

    async def add(self, job: Job, *, delay_seconds: float = 0, priority: int = 0) -> None:
        """See `JobQueue.add`. Priorities are 0 to 100."""
        options = {
            "jobId": job.id,
            "delay": round(delay_seconds * 1000),
            "priority": _NO_PRIORITY - priority,
            "removeOnComplete": _KEEP_FINISHED,
            "removeOnFail": _KEEP_FINISHED,
        }
        with redis_errors():
            await self._queue.add(job.name, dict(job.data), options)

    async def set_schedules(self, schedules: Mapping[str, Schedule]) -> None:
        """See `JobQueue.set_schedules`."""
        wanted = {f"{_SCHEDULE_PREFIX}{name}": schedule for name, schedule in schedules.items()}
        with redis_errors():
            known = {record["key"]: record for record in await self._queue.getJobSchedulers()}
            for key in known.keys() - wanted.keys():
                if key.startswith(_SCHEDULE_PREFIX):
                    await self._queue.removeJobScheduler(key)
            for key, schedule in wanted.items():
                if not _is_same(known.get(key), schedule):
                    await self._set_schedule(key, schedule)

    async def take(self) -> "ActiveBullMQJob":
        """See `JobQueue.take`."""
        while True:
            try:
                job = await self._next()
            except UnavailableError as error:
                log.warning("❌ no jobs from the queue", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if job is not None:
                return ActiveBullMQJob(job, self)

    async def close(self) -> None:
        """See `JobQueue.close`."""
        await end_tasks(self._stalled_task)
        if self._worker is not None:
            self._worker.closing = True
            await self._worker.lockManager.close()
        await self._wire.close()
        with contextlib.suppress(RedisError, OSError):
            await close_redis(self._client)

    async def _set_schedule(self, key: str, schedule: Schedule) -> None:
        times = {"pattern": schedule.cron, "tz": schedule.timezone}
        options = {"priority": _NO_PRIORITY, "removeOnComplete": _KEEP_FINISHED, "removeOnFail": _KEEP_FINISHED}
        try:
            await self._queue.upsertJobScheduler(key, times, schedule.job_name, dict(schedule.data), options)
        except (ValueError, ZoneInfoNotFoundError) as error:
            name = key.removeprefix(_SCHEDULE_PREFIX)
            raise ConfigurationError(f"the schedule of {name!r} can't be read: {error}") from None
        except TypeError as error:
            # The job of its next time is in hand already: a process whose clock is ahead has been faster.
            log.warning("❌ a schedule was set by another process", schedule=key, error=str(error))

    def _put_on_wire(self, backend: Any, *names: str) -> None:
        """Call those of BullMQ's scripts that every run needs at a tenth of what they cost by redis-py."""
        for name in names:
            on_wire = script_on(self._wire, backend.scripts.commands[name].script)
            backend.scripts.commands[name] = _BullMQScript(on_wire)

    async def _next(self) -> Any:
        with redis_errors():
            worker = await self._start_worker()
            job = await worker.getNextJob(self._new_token())
        if job is not None:
            self._track(job)
        return job

    async def _start_worker(self) -> Any:
        if self._worker is None:
            options = {
                **self._connection,
                "autorun": False,
                "lockDuration": self._lock_ms,
                "maxStalledCount": _NEVER,
                "stalledInterval": self._lock_ms // 2,
                "drainDelay": _BLOCK_SECONDS,
            }
            worker = Worker(self._name, None, options)
            worker.on("error", lambda error, *_: log.warning("❌ queue", error=str(error)))
            await worker.blockingRedisConnection.getRedisVersion()
            self._put_on_wire(worker.backend, "moveToActive", "moveToFinished")
            worker.lockManager.start()
            self._worker = worker
            self._stalled_task = asyncio.create_task(self._check_stalled(), name="queue-stalled")
        return self._worker

    async def _check_stalled(self) -> None:
        while True:
            await self._worker.runStalledJobsCheck()
            await asyncio.sleep(self._lock_ms / 2000)

    def _new_token(self) -> str:
        self._token_number += 1
        return f"{self._worker.id}:{self._token_number}"

    def _track(self, job: Any) -> None:
        self._worker.lockManager.track_job(job.id, job.token, int(time.time() * 1000))

    def _untrack(self, job: Any) -> None:
        # The same job may be in hand again by now, under another token.
        tracked = self._worker.lockManager.tracked_jobs.get(job.id)
        if tracked is not None and tracked["token"] == job.token:
            self._worker.lockManager.untrack_job(job.id)

    async def finish(
        self, job: Any, error: RunError | None, *, take_next: bool = False, keep: Any = _KEEP_FINISHED
    ) -> "ActiveBullMQJob | None":
        """Move a job out of the queue and, in the same round trip, take the next."""
        backend, token = self._worker.backend, job.token
        try:
            with redis_errors():
                if error is None:
                    answer = await backend.moveToCompleted(job, None, keep, token, fetch_next=take_next)
                else:
                    reason = f"{error.code}: {error.message}"
                    answer = await backend.moveToFailed(job, reason, keep, token, fetch_next=take_next)
                return await self._read_next(answer["result"], token) if take_next else None
        except (UnavailableError, TypeError) as failure:
            # TypeError is BullMQ's word for a lock that was lost. The job comes back, and the claim will drop it.
            log.warning("❌ the job could not be finished; it will come again", job_id=job.id, error=str(failure))
            return None
        finally:
            self._untrack(job)

    async def release(self, job: Any, delay_seconds: float) -> None:
        """Put a job back."""
        delay_ms = max(round(delay_seconds * 1000), 1)
        due = int(time.time() * 1000) + delay_ms
        try:
            with redis_errors():
                await self._worker.backend.moveToDelayed(job.id, due, delay_ms, job.token, {"skipAttempt": True})
        except (UnavailableError, TypeError) as failure:
            log.warning("❌ the job could not be given back; its lock will run out", job_id=job.id, error=str(failure))
        finally:
            self._untrack(job)

    async def _read_next(self, answer: Any, token: str) -> "ActiveBullMQJob | None":
        if not answer or not answer[0]:
            return None
        data, job_id, limit_until, delay_until = answer
        job = await self._worker.nextJobFromJobData(data, job_id, limit_until or 0, delay_until or 0, token)
        self._track(job)
        return ActiveBullMQJob(job, self)


class ActiveBullMQJob:
    """`ActiveJob` on BullMQ."""

    def __init__(self, job: Any, queue: BullMQQueue) -> None:
        self.job: Final = Job(id=str(job.id), name=job.name, data=_object(job.data), added_ms=_added_ms(job))
        self._job: Final = job
        self._queue: Final = queue

    async def finish(self, error: RunError | None = None, *, take_next: bool = False) -> "ActiveBullMQJob | None":
        """See `ActiveJob.finish`."""
        return await self._queue.finish(self._job, error, take_next=take_next)

    async def release(self, *, delay_seconds: float = 0) -> None:
        """See `ActiveJob.release`."""
        await self._queue.release(self._job, delay_seconds)

    async def discard(self) -> None:
        """See `ActiveJob.discard`."""
        await self._queue.finish(self._job, None, keep=_KEEP_NOTHING)


class _BullMQScript:
    """A script as BullMQ calls it: with a pipeline of its own if there is one, which here there never is."""

    def __init__(self, script: WireScript | ClusterScript) -> None:
        self._script: Final = script

    async def __call__(self, keys: Sequence[str], args: Sequence[Any], client: None = None) -> Any:
        assert client is None, "a job is never added in a pipeline"  # noqa: S101 - a bug, not input
        return await self._script(tuple(keys), tuple(args))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _added_ms(job: Any) -> int:
    """When the producer added the job; of one that a schedule made, the time that it was made for."""
    if job.repeatJobKey:
        return int(str(job.id).rpartition(":")[2])
    return int(job.timestamp or 0)


def _is_same(record: Mapping[str, Any] | None, schedule: Schedule) -> bool:
    if record is None:
        return False
    known = (record.get("name"), record.get("pattern"), record.get("tz"), record.get("template", {}).get("data"))
    return known == (schedule.job_name, schedule.cron, schedule.timezone, dict(schedule.data))
