"""The sweeper: keeps runs from being forgotten, and the queue true to the database.

It finds runs that wait and are due without being in the queue, because Redis was away when they were to be put there or
has lost its data, and puts them back. It finds runs whose worker is dead and says so: watchers see `retrying`, or the
end, whether or not there is another worker yet. One that waited for people or for a time to come is parked, and nobody
is told: it has lost nothing. Every process may sweep: what two find at once, one takes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

from runcast.core.lifecycle import PARKABLE, is_held, is_parked
from runcast.errors import RuncastError, StaleAttemptError, UnavailableError
from runcast.events import EventType, LoggedEvent, RunEvent, RunStatus, format_ts, log_event
from runcast.logs import get_logger
from runcast.ports import JobQueue, RunLog, RunStore
from runcast.records import Run, RunError, StatusChange
from runcast.services.jobs import job_of
from runcast.services.takeover import archive_tail

log = get_logger()

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
        for run in found:
            await self._look_after(run)
        return len(found)

    async def _look_after(self, run: Run) -> None:
        if not is_held(run.status, run.worker_id):
            await self._enqueue(run)
        elif (taken := await self._take_from_dead(run)) is not None and self._is_due(taken):
            await self._enqueue(taken)

    def _is_due(self, run: Run) -> bool:
        if run.due_at is None:
            return not run.status.is_final and not is_parked(run.status, run.worker_id)
        return run.due_at <= self._clock()

    async def _enqueue(self, run: Run) -> None:
        async def add() -> None:
            await self._queue.add(job_of(run), priority=run.priority)

        await self._try_redis(add, run.id, otherwise="the run stays out of the queue for now")

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
        wakes_at = await self._find_wake(run) if run.status in PARKABLE else None
        told: list[LoggedEvent] = []

        def decide(dead: Run) -> tuple[StatusChange, LoggedEvent | None]:
            if dead.status in PARKABLE and dead.cancel_requested_at is None:
                return StatusChange(status=dead.status, at=self._clock(), due_at=wakes_at, is_parked=True), None
            change, event = self._decide(dead)
            told[:] = [event]
            return change, event

        taken = await self._store.take_from_dead(run.id, decide, now=self._clock())
        if taken is not None:
            log.warning("❌ a worker is lost", run_id=run.id, worker_id=run.worker_id, status=taken.status)
            if told:
                await self._tell(taken, told)
        return taken

    async def _find_wake(self, run: Run) -> datetime | None:
        """When the first of the run's sleeps ends; one that was over before costs a look in vain."""
        memos = await self._store.read_memos(run.id)
        ends = [memo["until"] for key, memo in memos.items() if key.startswith("sleep:")]
        return min((datetime.fromisoformat(end) for end in ends), default=None)

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
        attempt, losses = run.attempt + 1, run.losses + 1
        status, error = RunStatus.RETRYING, None
        if run.cancel_requested_at is not None:
            status = RunStatus.CANCELED
        elif losses >= self._max_attempts:
            status = RunStatus.FAILED
            error = RunError(code="worker_lost", message=f"its worker was lost {losses} times")
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
            if run.status.is_final and run.parent_id is not None:
                await self._log.send_control({"ended": run.id})

        await self._try_redis(tell, run.id, otherwise="watchers will hear later")
