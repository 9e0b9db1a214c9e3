"""The sweeper: keeps runs from being forgotten, and the queue true to the database.

It finds runs that wait without being in the queue, because Redis was away when they were created or has lost its data,
and puts them back. It finds runs whose worker is dead and says so: watchers see `retrying`, or the end, whether or not
there is another worker yet. Every process may sweep: what two find at once, one takes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from runcast.core.lifecycle import HELD_BY_WORKER
from runcast.errors import RuncastError, StaleAttemptError, UnavailableError
from runcast.events import EventType, LoggedEvent, RunEvent, RunStatus, format_ts, log_event
from runcast.ports import JobQueue, RunLog, RunStore
from runcast.records import Job, Run, RunError, StatusChange, Unattended
from runcast.services.takeover import archive_tail

log = structlog.get_logger()

MAX_RUNS_PER_SWEEP: Final = 500


class Sweeper:
    """`run` sweeps until it is cancelled."""

    def __init__(
        self,
        *,
        store: RunStore,
        log: RunLog,
        queue: JobQueue,
        clock: Callable[[], datetime],
        interval_seconds: float,
        max_attempts: int,
    ) -> None:
        self._store: Final = store
        self._log: Final = log
        self._queue: Final = queue
        self._clock: Final = clock
        self._interval_seconds: Final = interval_seconds
        self._max_attempts: Final = max_attempts
        self._is_redis_away = False  # as found by the present sweep

    async def run(self) -> None:
        """Sweep at intervals."""
        while True:
            await asyncio.sleep(self._interval_seconds)
            try:
                await self.sweep()
            except RuncastError as error:
                log.warning("❌ could not sweep", error=str(error))
            except Exception:
                log.exception("❌ the sweeper failed; it will try again")

    async def sweep(self) -> int:
        """Look after every run that nobody looks after. Returns how many there were."""
        now = self._clock()
        waiting_since = now - timedelta(seconds=self._interval_seconds)
        found = await self._store.list_unattended(now=now, queued_before=waiting_since, limit=MAX_RUNS_PER_SWEEP)
        self._is_redis_away = False
        for unattended in found:
            # Only of those that a dead worker had, which are few, all is read. One that was taken or has ended
            # meanwhile may come into the queue once more: the claim refuses it.
            waiting: Unattended | Run | None = unattended
            if unattended.status in HELD_BY_WORKER:
                run = await self._store.get_run(unattended.id)
                waiting = await self._take_from_dead(run) if run is not None else None
            if waiting is not None and not waiting.status.is_final:
                await self._enqueue(waiting)
        return len(found)

    async def _enqueue(self, run: Unattended | Run) -> None:
        # An attempt after the first has a job of its own: the dead worker's stays locked in the queue, or put off, for
        # some time, and adding it again would change nothing. Whichever comes first takes the run.
        job_id = run.id if run.attempt == 0 else f"{run.id}-{run.attempt}"
        job = Job(id=job_id, name=run.runner, data={"runId": run.id})
        await self._try_redis(lambda: self._queue.add(job), run.id, otherwise="the run stays out of the queue for now")

    async def _try_redis(self, action: Callable[[], Awaitable[object]], run_id: str, *, otherwise: str) -> None:
        """Do something that can wait for Redis. Once it was found away, the rest of the sweep does without it."""
        if self._is_redis_away:
            return
        try:
            await action()
        except UnavailableError as error:
            self._is_redis_away = True
            log.warning("❌ Redis is away", run_id=run_id, so=otherwise, error=str(error))

    async def _take_from_dead(self, run: Run) -> Run | None:
        await self._save_tail(run)
        told: list[LoggedEvent] = []

        def decide(dead: Run) -> tuple[StatusChange, LoggedEvent]:
            change, event = self._decide(dead)
            told[:] = [event]
            return change, event

        taken = await self._store.take_from_dead(run.id, decide, now=self._clock())
        if taken is not None:
            log.warning("❌ a worker is lost", run_id=run.id, worker_id=run.worker_id, status=taken.status)
            await self._tell(taken, told)
        return taken

    async def _save_tail(self, run: Run) -> None:
        """Archive what only Redis has of the dead worker's last words. Without Redis they are lost, and told so."""

        async def save() -> None:
            last = (await self._log.read_last([run.id]))[0]
            await archive_tail(run, upto=last, attempt=run.attempt, store=self._store, log=self._log)

        try:
            await self._try_redis(save, run.id, otherwise="the run's last events could not be saved")
        except StaleAttemptError:
            return  # another sweeper was faster, or a worker

    def _decide(self, run: Run) -> tuple[StatusChange, LoggedEvent]:
        now = self._clock()
        attempt = run.attempt + 1
        status, error = RunStatus.RETRYING, None
        if run.cancel_requested_at is not None:
            status = RunStatus.CANCELED
        elif attempt > self._max_attempts:
            status = RunStatus.FAILED
            error = RunError(code="worker_lost", message=f"its worker was lost {run.attempt} times")
        payload: dict[str, Any] = {"status": status, "attempt": attempt, "reason": "worker_lost"}
        if error is not None:
            payload["error"] = {"code": error.code, "message": error.message}
        event = RunEvent(
            type=EventType.RUN_STATUS,
            payload=payload,
            ts=format_ts(now),
            run_id=run.id,
            seq=run.last.seq + 1,
            attempt=attempt,
        )
        return StatusChange(status=status, at=now, error=error), log_event(event)

    async def _tell(self, run: Run, events: list[LoggedEvent]) -> None:
        async def tell() -> None:
            await self._log.fence(run.id, run.attempt, floor=run.last.seq - 1)
            await self._log.append(run.id, events)

        await self._try_redis(tell, run.id, otherwise="watchers will hear later")
