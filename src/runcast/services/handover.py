"""What the end, or the parking, of one run means for others: who goes on, who is told, and when it goes on itself.

All of it may fail for a while: the sweeper and the workers' heartbeats find in the store what was not done here.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import structlog

from runcast.errors import UnavailableError
from runcast.ports import JobQueue, RunLog, RunStore
from runcast.records import Run
from runcast.services.jobs import job_of
from runcast.services.runs import RunRequest, RunService

log = structlog.get_logger()


class Handover:
    """Stateless; one per worker."""

    def __init__(self, *, store: RunStore, log: RunLog, queue: JobQueue, clock: Callable[[], datetime]) -> None:
        self._store: Final = store
        self._log: Final = log
        self._queue: Final = queue
        self._clock: Final = clock

    async def wake(self, run: Run) -> None:
        """Have a run that nobody holds taken again when it is due; without a time, when somebody says so."""
        if run.due_at is None:
            return
        seconds = max(0.0, (run.due_at - self._clock()).total_seconds())
        try:
            await self._queue.add(job_of(run), delay_seconds=seconds, priority=run.priority)
        except UnavailableError as error:
            log.warning("❌ the run will go on late", run_id=run.id, error=str(error))

    async def tell_ended(self, run: Run) -> None:
        """Let the next of its limit begin, and its parent know."""
        if run.limit is None and run.parent_id is None:
            return
        try:
            if run.parent_id is not None:
                await self._log.send_control({"ended": run.id})
            if (
                run.limit is not None
                and (following := await self._store.find_next(run.limit.key, now=self._clock())) is not None
            ):
                await self._queue.add(job_of(following), priority=following.priority)
        except UnavailableError as error:
            log.warning("❌ others will learn late that the run has ended", run_id=run.id, error=str(error))


class ChildRuns:
    """How a run starts others: `journal.Children` over the `RunService`."""

    def __init__(self, runs: RunService) -> None:
        self._runs: Final = runs

    async def start(self, runner: str, value: Mapping[str, Any], *, parent_id: str, key: str) -> Run:
        """See `Children.start`."""
        request = RunRequest(runner=runner, input=value, parent_id=parent_id, idempotency_key=key)
        run, _ = await self._runs.create(request)
        return run
