"""One attempt at executing one run, from the claim to its last event.

Order of the end: committed to the database, then published, then the job leaves the queue. Whoever dies in between
leaves something that the next attempt or the archive completes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import structlog

from runcast.app import Runcast, RunContext, describe_error
from runcast.errors import InvalidInputError, RuncastError, StaleAttemptError, TooLargeError
from runcast.events import EventType, LoggedEvent, RunEvent, RunStatus, StepStatus, format_ts, log_event
from runcast.ports import RunLog, RunStore
from runcast.records import Claim, Run, RunError, StatusChange
from runcast.services.journal import RunJournal
from runcast.services.lease import Lease
from runcast.services.outages import outlast_outages
from runcast.services.takeover import take_over
from runcast.services.writer import RunWriter

log = structlog.get_logger()


def tell_running(run: Run, now: datetime) -> LoggedEvent:
    """The event of a run that is claimed for its first attempt, as the claim itself archives it."""
    return log_event(
        RunEvent(
            type=EventType.RUN_STATUS,
            payload={"status": RunStatus.RUNNING},
            ts=format_ts(now),
            run_id=run.id,
            seq=run.last.seq,
            attempt=run.attempt,
        )
    )


class Execution:
    """Call `run` once; `cancel` and `interrupt` may come at any time."""

    def __init__(
        self,
        claim: Claim,
        *,
        app: Runcast,
        store: RunStore,
        log: RunLog,
        lease: Lease,
        clock: Callable[[], datetime],
        max_attempts: int,
        max_event_bytes: int,
    ) -> None:
        self.is_over = False  # whether the run has ended: nothing is left for another attempt
        self.error: RunError | None = None  # why it failed, once it is over
        self._run: Final = claim.run
        self._previous: Final = claim.previous
        self._told: Final = claim.told
        self._app: Final = app
        self._store: Final = store
        self._log: Final = log
        self._lease: Final = lease
        self._clock: Final = clock
        self._max_attempts: Final = max_attempts
        self._max_event_bytes: Final = max_event_bytes
        self._writer: RunWriter | None = None
        self._task: asyncio.Task[Any] | None = None  # the runner
        self._is_cancel_requested = claim.run.cancel_requested_at is not None
        self._is_interrupted = False
        self._has_ended = False  # whether the last event is written, if not yet arrived

    async def run(self) -> None:
        """Execute the run, and return once all that it said has arrived, or another attempt has it."""
        writer = self._writer = await self._open_writer()
        writer.start()
        try:
            await self._execute(writer)
            if self._has_ended:
                await writer.flush()
                self.is_over = True
        except StaleAttemptError:
            log.warning("❌ the run is another worker's now", run_id=self._run.id, attempt=self._run.attempt)
        finally:
            await writer.close()

    @property
    def run_id(self) -> str:
        """The run executed."""
        return self._run.id

    @property
    def attempt(self) -> int:
        """The attempt that this is."""
        return self._run.attempt

    @property
    def is_interrupted(self) -> bool:
        """Whether the worker stops, and leaves the run to another."""
        return self._is_interrupted and not self._has_ended

    def cancel(self) -> None:
        """Somebody asked for the run to be canceled: tell watchers and stop the runner."""
        if self._is_cancel_requested or self._is_interrupted or self._has_ended:
            return
        if self._writer is not None and self._writer.is_fenced:
            return
        self._is_cancel_requested = True
        if self._writer is not None and self._task is not None and not self._task.done():
            self._write_status(self._writer, RunStatus.CANCELING)
            self._task.cancel()

    def give_up(self) -> None:
        """Somebody else has the run: stop at once and write no more."""
        if self._writer is not None:
            self._writer.give_up()

    def interrupt(self) -> None:
        """The worker stops: leave the run to another."""
        self._is_interrupted = True
        if self._task is not None:
            self._task.cancel()

    async def _execute(self, writer: RunWriter) -> None:
        attempt = self._run.attempt
        if self._is_cancel_requested:
            await self._take_back_steps(writer)
            self._end(writer, RunStatus.CANCELED)
        elif attempt > self._max_attempts:
            await self._take_back_steps(writer)
            lost = RunError(code="worker_lost", message=f"its worker was lost {attempt - 1} times")
            self._end(writer, RunStatus.FAILED, error=lost)
        else:
            if self._told is None:
                await self._announce(writer)
            if self._is_cancel_requested:  # it came while we announced
                self._end(writer, RunStatus.CANCELED)
                return
            if self._is_interrupted:
                return
            self._task = asyncio.create_task(self._call_runner(writer), name=f"run-{self._run.id}")
            await asyncio.wait([self._task])
            self._conclude(writer, self._task)

    async def _announce(self, writer: RunWriter) -> None:
        attempt = self._run.attempt
        if attempt > 1:
            if self._previous is not RunStatus.RETRYING:
                payload = {"status": RunStatus.RETRYING, "attempt": attempt, "reason": "worker_lost"}
                writer.write(EventType.RUN_STATUS, payload)
            await self._take_back_steps(writer)
        self._write_status(writer, RunStatus.RUNNING)

    async def _take_back_steps(self, writer: RunWriter) -> None:
        steps = await outlast_outages(lambda: self._store.list_steps(self._run.id))
        for step in steps:
            taken_back = replace(
                step, status=StepStatus.CANCELED, attempt=self._run.attempt, ended_at=step.ended_at or self._clock()
            )
            writer.write(EventType.STEP_RESET, {"stepId": step.id}, step_id=step.id, step=taken_back)

    async def _call_runner(self, writer: RunWriter) -> Any:
        run = self._run
        runner = self._app.get_runner(run.runner)
        journal = RunJournal(writer, clock=self._clock)
        try:
            return await runner(RunContext(run_id=run.id, attempt=run.attempt, journal=journal), run.input)
        finally:
            if not writer.is_fenced and not self._is_interrupted:
                journal.cancel_open_steps()

    def _conclude(self, writer: RunWriter, task: asyncio.Task[Any]) -> None:
        if writer.is_fenced:
            raise StaleAttemptError(self._run.id, self._run.attempt)
        if task.cancelled():
            self._conclude_cancelled(writer)
        elif (failure := task.exception()) is not None:
            # Our own errors say all there is to say; of others their author has to know the place.
            trace = None if isinstance(failure, RuncastError) else failure
            log.info("run failed", run_id=self._run.id, error=repr(failure), exc_info=trace)
            self._end(writer, RunStatus.FAILED, error=describe_error(failure))
        else:
            try:
                self._end(writer, RunStatus.DONE, output=task.result())
            except (InvalidInputError, TooLargeError) as error:
                self._end(writer, RunStatus.FAILED, error=describe_error(error))

    def _conclude_cancelled(self, writer: RunWriter) -> None:
        if self._is_cancel_requested:
            self._end(writer, RunStatus.CANCELED)
        elif not self._is_interrupted:
            stopped = RunError(code="runner_cancelled", message="the runner cancelled itself")
            self._end(writer, RunStatus.FAILED, error=stopped)

    def _end(self, writer: RunWriter, status: RunStatus, *, output: Any = None, error: RunError | None = None) -> None:
        change = StatusChange(status=status, at=self._clock(), output=output, error=error)
        payload: dict[str, Any] = {"status": status}
        if error is not None:
            payload["error"] = {"code": error.code, "message": error.message}
        if status is RunStatus.DONE:
            writer.write(EventType.RUN_COMPLETED, {**payload, "output": output}, change=change)
        else:
            writer.write(EventType.RUN_STATUS, payload, change=change)
        self._has_ended = True
        self.error = error

    def _write_status(self, writer: RunWriter, status: RunStatus) -> None:
        payload: dict[str, Any] = {"status": status}
        if self._run.attempt > 1:
            payload["attempt"] = self._run.attempt
        writer.write(EventType.RUN_STATUS, payload, change=StatusChange(status=status, at=self._clock()))

    async def _open_writer(self) -> RunWriter:
        run, told = self._run, self._told
        last_seq = run.last.seq if told is None else told.cursor.seq - 1
        if run.attempt > 1:
            last = await outlast_outages(lambda: take_over(run, attempt=run.attempt, store=self._store, log=self._log))
            last_seq = last.seq
        writer = RunWriter(
            run_id=run.id,
            attempt=run.attempt,
            last_seq=last_seq,
            store=self._store,
            log=self._log,
            lease=self._lease,
            clock=self._clock,
            max_event_bytes=self._max_event_bytes,
            on_fenced=self._stop_runner,
        )
        if told is not None:
            writer.publish(told)
        return writer

    def _stop_runner(self) -> None:
        if self._task is not None:
            self._task.cancel()
