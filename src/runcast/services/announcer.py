"""What queue, log and workers are told of a run once the database has it.

Nothing of it may fail the request that it is part of: what can't be told now, the sweepers and heartbeats make up for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from runcast.errors import UnavailableError
from runcast.events import LoggedEvent
from runcast.logs import get_logger
from runcast.ports import JobQueue, Missing, RunLog
from runcast.records import Run
from runcast.services.jobs import job_of

log = get_logger()

REDIS_PATIENCE_SECONDS: Final = 2.0
"""How long one of Redis' parts in a request may take. It is past what a loaded server needs, and below what a caller
waits for an answer."""


class Announcer:
    """Stateless; one per process."""

    def __init__(self, *, log: RunLog, queue: JobQueue, clock: Callable[[], datetime]) -> None:
        self._log: Final = log
        self._queue: Final = queue
        self._clock: Final = clock

    async def enqueue(self, run: Run) -> None:
        """Have a run that nobody holds taken by a worker when it is due."""
        delay = 0.0 if run.due_at is None else max(0.0, (run.due_at - self._clock()).total_seconds())
        try:
            async with _within_patience():
                await self._queue.add(job_of(run), delay_seconds=delay, priority=run.priority)
        except UnavailableError as error:
            log.warning("❌ the run is stored but not queued yet", run_id=run.id, error=str(error))

    async def tell(self, run_id: str, events: Sequence[LoggedEvent]) -> None:
        """Show watchers what has happened."""
        try:
            async with _within_patience():
                await self._append(run_id, events)
        except UnavailableError as error:
            log.warning("❌ watchers will hear later", run_id=run_id, error=str(error))

    async def tell_workers(self, message: Mapping[str, Any]) -> None:
        """Tell the worker that holds a run, whoever it is."""
        try:
            async with _within_patience():
                await self._log.send_control(message)
        except UnavailableError as error:
            log.warning("❌ the worker will see it at its next heartbeat", message=dict(message), error=str(error))

    async def _append(self, run_id: str, events: Sequence[LoggedEvent]) -> None:
        if isinstance(await self._log.append(run_id, events), Missing):
            # Redis has lost what came before; the archive has it.
            first = events[0].cursor
            await self._log.fence(run_id, first.attempt, floor=first.seq - 1)
            await self._log.append(run_id, events)


@contextlib.asynccontextmanager
async def _within_patience() -> AsyncIterator[None]:
    """Give Redis up after a while: what is in the database by now is told by the sweepers, too.

    A Redis that hangs, or a network that swallows packets, would keep the caller waiting for the sockets' time-outs.
    """
    try:
        async with asyncio.timeout(REDIS_PATIENCE_SECONDS):
            yield
    except TimeoutError:
        raise UnavailableError(f"Redis didn't answer within {REDIS_PATIENCE_SECONDS} s") from None
