"""What the end, or the parking, of one run means for others: who goes on, who is told, and when it goes on itself.

All of it may fail for a while: the sweeper and the workers' heartbeats find in the store what was not done here.
"""

import contextlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from runcast.errors import RunEndedError, UnavailableError
from runcast.events import RunStatus
from runcast.logs import get_logger
from runcast.ports import JobQueue, RunLog, RunStore
from runcast.records import Run
from runcast.services.announcer import Announcer
from runcast.services.runs import RunRequest, RunService

log = get_logger()


class Handover:
    """Stateless; one per worker."""

    def __init__(self, *, store: RunStore, log: RunLog, queue: JobQueue, clock: Callable[[], datetime]) -> None:
        self._store: Final = store
        self._announcer: Final = Announcer(log=log, queue=queue, clock=clock)
        self._clock: Final = clock

    async def wake(self, run: Run) -> None:
        """Have a run that nobody holds taken again when it is due; without a time, when somebody says so."""
        if run.due_at is not None:
            await self._announcer.enqueue(run)

    async def tell_ended(self, run: Run) -> None:
        """Let the next of its limit begin, and its parent know."""
        if run.parent_id is not None:
            await self._announcer.tell_workers({"ended": run.id})
        if run.limit is not None:
            await self._start_next(run.limit.key)

    async def _start_next(self, limit_key: str) -> None:
        try:
            following = await self._store.find_next(limit_key, now=self._clock())
        except UnavailableError as error:
            log.warning("❌ the next run of a limit will begin late", limit=limit_key, error=str(error))
            return
        if following is not None:
            await self._announcer.enqueue(following)


class ChildRuns:
    """How a run starts others: `journal.Children` over the `RunService`."""

    def __init__(self, runs: RunService) -> None:
        self._runs: Final = runs

    async def start(self, runner: str, value: Mapping[str, Any], *, parent_id: str, key: str) -> Run:
        """See `Children.start`."""
        request = RunRequest(runner=runner, input=value, parent_id=parent_id, idempotency_key=key)
        run, _ = await self._runs.create(request)
        # Whoever cancels the parent cancels the children there are by then: this one may have come just after.
        parent = await self._runs.get(parent_id)
        if parent.cancel_requested_at is not None or parent.status is RunStatus.CANCELED:
            with contextlib.suppress(RunEndedError):  # it has ended by itself
                return await self._runs.cancel(run.id)
        return run
