"""One attempt at executing one run, from the claim to its last event, or until it is parked or to be tried again.

Order of the end: committed to the database, then published, then the job leaves the queue. Whoever dies in between
leaves something that the next attempt or the archive completes.
"""

import asyncio
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final, NamedTuple

from runcast.context import RunContext
from runcast.core.replay import reopen
from runcast.errors import InvalidInputError, RuncastError, StaleAttemptError, TooLargeError
from runcast.events import RunStatus
from runcast.logs import get_logger
from runcast.ports import RunLog, RunStore
from runcast.records import Claim, Commit, Memo, Run, RunError, StatusChange
from runcast.registry import RunnerRegistry
from runcast.runners import Runner
from runcast.services.appender import Appender, Round
from runcast.services.artifacts import ArtifactService
from runcast.services.journal import Children, Past, RunJournal
from runcast.services.outages import outlast_outages
from runcast.services.takeover import take_over
from runcast.services.telling import StatusTeller
from runcast.services.waiting import Slot, TimeLimit, Waits
from runcast.services.writer import RunWriter
from runcast.steps import describe_error, may_retry, to_json
from runcast.threads import call_in_thread

log = get_logger()


class Outcome(Enum):
    """What has become of the run with this attempt."""

    BROKEN = auto()  # it broke, or another attempt has the run
    ENDED = auto()
    PARKED = auto()  # nobody holds it until it is due, or answered
    RETRYING = auto()  # it failed, and is due again
    INTERRUPTED = auto()  # the worker stops, and leaves it to another


class _Parking(NamedTuple):
    """What stays of a run that is parked, as it is when its runner is stopped."""

    change: StatusChange
    memos: tuple[Memo, ...]
    waited: AbstractSet[str]  # the requests whose answers wake it


class _Stop(Enum):
    """Why a runner is stopped."""

    CANCEL = auto()
    TIMEOUT = auto()
    PARK = auto()
    INTERRUPT = auto()
    FENCED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionLimits:
    """What an attempt may. Times are in seconds."""

    max_attempts: int  # how often a run's worker may be lost
    max_event_bytes: int
    park_seconds: float  # how long a run that waits is held
    cancel_seconds: float  # how long a runner that is stopped may clean up
    delta_seconds: float  # in which a message's bits are joined


class Execution:
    """Call `run` once; `cancel`, `interrupt` and the `receive_` methods may come at any time."""

    def __init__(
        self,
        claim: Claim,
        *,
        app: RunnerRegistry,
        store: RunStore,
        log: RunLog,
        appender: Appender,
        archiving: Round,
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        limits: ExecutionLimits,
        slot: Slot,
        children: Children,
        artifacts: ArtifactService,
    ) -> None:
        self.outcome = Outcome.BROKEN
        self.due_at: datetime | None = None  # when it is to go on, if that is known
        self._run: Final = claim.run
        self._previous: Final = claim.previous
        self._told: Final = claim.told
        self._app: Final = app
        self._store: Final = store
        self._log: Final = log
        self._appender: Final = appender
        self._archiving: Final = archiving
        self._clock: Final = clock
        self._jitter: Final = jitter
        self._limits: Final = limits
        self._slot: Final = slot
        self._children: Final = children
        self._artifacts: Final = artifacts
        self._writer: RunWriter | None = None
        self._teller: StatusTeller | None = None
        self._journal: RunJournal | None = None
        self._waits: Waits | None = None
        self._task: asyncio.Task[Any] | None = None  # the runner
        self._stop: _Stop | None = None
        self._stopping: Final = asyncio.Event()
        self._parking: _Parking | None = None
        self._is_cancel_requested = claim.run.cancel_requested_at is not None

    @property
    def run_id(self) -> str:
        """The run executed."""
        return self._run.id

    @property
    def attempt(self) -> int:
        """The attempt that this is."""
        return self._run.attempt

    @property
    def error(self) -> RunError | None:
        """Why the run failed, once it has ended."""
        return None if self._teller is None else self._teller.error

    @property
    def claimed(self) -> Run:
        """The run as it was claimed."""
        return self._run

    async def run(self) -> None:
        """Execute the run, and return once all that it said has arrived, or another attempt has it."""
        writer = self._writer = await self._open_writer()
        teller = self._teller = StatusTeller(writer, self._run, clock=self._clock, jitter=self._jitter)
        writer.start()
        try:
            await self._execute(writer, teller)
            if teller.has_ended or self.outcome in {Outcome.RETRYING, Outcome.INTERRUPTED}:
                await writer.flush()
                self.outcome = Outcome.ENDED if teller.has_ended else self.outcome
        except StaleAttemptError:
            if self.outcome is not Outcome.PARKED:
                self.outcome = Outcome.BROKEN
                log.warning("❌ the run is another worker's now", run_id=self._run.id, attempt=self._run.attempt)
        finally:
            await writer.close()

    def cancel(self) -> None:
        """Somebody asked for the run to be canceled: tell watchers and stop the runner."""
        if self._is_cancel_requested or self._stop is not None or self._has_ended:
            return
        if self._writer is not None and self._writer.is_fenced:
            return
        self._is_cancel_requested = True
        if self._teller is not None and self._task is not None and not self._task.done():
            self._teller.tell(RunStatus.CANCELING)
            self._stop_runner(_Stop.CANCEL)

    def give_up(self) -> None:
        """Somebody else has the run: stop at once and write no more."""
        if self._writer is not None:
            self._writer.give_up()

    def park(self) -> None:
        """Leave the run to whoever takes it later, if it only waits."""
        if self._stop is not None or self._waits is None or self._journal is None or self._has_ended:
            return
        if not self._is_log_behind and self._waits.may_park(self._journal.open_steps):
            change = StatusChange(
                status=self._waits.status, at=self._clock(), due_at=self._waits.due_at, is_parked=True
            )
            self._parking = _Parking(change, self._journal.parked_memos, self._journal.waited_requests)
            self._journal.is_closed = True
            self._stop_runner(_Stop.PARK)
        elif self._waits.is_waiting:
            self._waits.park_later()

    def interrupt(self) -> None:
        """The worker stops: leave the run to another."""
        self.park()
        if self._stop is None:
            self.outcome = Outcome.INTERRUPTED
            self._stop_runner(_Stop.INTERRUPT)

    async def receive_answers(self) -> None:
        """Something that the run has asked may have been answered."""
        if self._journal is not None and self._stop is None:
            await self._journal.receive_answers()

    def receive_child_ended(self, run_id: str | None = None) -> None:
        """A run that this one has started, or any, may have ended."""
        if self._journal is not None:
            self._journal.receive_child_ended(run_id)

    @property
    def _has_ended(self) -> bool:
        return self._teller is not None and self._teller.has_ended

    @property
    def _is_log_behind(self) -> bool:
        """Whether parking would have to wait for Redis. Held, the run hears of its answers meanwhile."""
        return self._writer is not None and self._writer.is_log_away

    async def _execute(self, writer: RunWriter, teller: StatusTeller) -> None:
        past = await self._read_past() if self._run.attempt > 1 else Past()
        if self._is_cancel_requested:
            teller.take_back(past.steps)
            teller.end(RunStatus.CANCELED)
        elif self._run.losses >= self._limits.max_attempts:
            teller.take_back(past.steps)
            lost = RunError(code="worker_lost", message=f"its worker was lost {self._run.losses} times")
            teller.end(RunStatus.FAILED, error=lost)
        else:
            if self._told is None:
                teller.announce(self._previous, past.steps)
            if self._stop is None:  # the worker may have been told to stop by now
                await self._execute_runner(writer, teller, past)
            elif self._stop is _Stop.INTERRUPT:
                teller.give_back()

    async def _execute_runner(self, writer: RunWriter, teller: StatusTeller, past: Past) -> None:
        try:
            runner = self._app.get_runner(self._run.runner)
        except RuncastError as error:
            teller.end(RunStatus.FAILED, error=describe_error(error))
            return
        limit = TimeLimit(runner.options.timeout_seconds, lambda: self._stop_runner(_Stop.TIMEOUT))
        self._waits = Waits(slot=self._slot, limit=limit, park_seconds=self._limits.park_seconds, on_park=self.park)
        self._journal = RunJournal(
            writer,
            clock=self._clock,
            store=self._store,
            waits=self._waits,
            children=self._children,
            artifacts=self._artifacts,
            past=past,
        )
        limit.run()
        self._task = asyncio.create_task(self._call_runner(runner, self._journal), name=f"run-{self._run.id}")
        self._task.add_done_callback(_forget_result)  # nobody may be there to hear what it ends with
        try:
            await self._wait_runner(self._task)
        finally:
            self._waits.close()
        if writer.is_fenced:
            raise StaleAttemptError(self._run.id, self._run.attempt)
        if self._stop is _Stop.PARK:
            await self._leave_parked(writer, teller, self._journal)
        else:
            self._conclude(teller, self._journal, self._task, runner)

    async def _call_runner(self, runner: Runner, journal: RunJournal) -> Any:
        run = self._run
        context = RunContext(
            run_id=run.id,
            attempt=run.attempt,
            journal=journal,
            parent_id=run.parent_id,
            delta_seconds=self._limits.delta_seconds,
        )
        if runner.is_async:
            return to_json(await runner(context, run.input))
        return to_json(await call_in_thread(lambda blocking: runner(blocking, run.input), context))

    async def _wait_runner(self, task: asyncio.Task[Any]) -> None:
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if not task.done():
            await asyncio.wait({task}, timeout=self._limits.cancel_seconds)
        if not task.done():
            log.warning("❌ a runner that was told to stop goes on; it is left to itself", run_id=self._run.id)

    def _conclude(self, teller: StatusTeller, journal: RunJournal, task: asyncio.Task[Any], runner: Runner) -> None:
        if self._stop is _Stop.INTERRUPT and not _has_returned(task):
            journal.is_closed = True
            teller.give_back()  # should it have failed by itself, it will again
            return
        journal.cancel_open_steps()
        journal.is_closed = True
        self.outcome = Outcome.BROKEN
        if self._stop is _Stop.TIMEOUT:
            late = RunError(code="timed_out", message=f"it has worked for {runner.options.timeout_seconds:g} s")
            teller.end(RunStatus.TIMED_OUT, error=late)
        elif not task.done() or task.cancelled():
            self._conclude_cancelled(teller)
        elif (failure := task.exception()) is not None:
            self._conclude_failed(teller, failure, runner)
        else:
            try:
                teller.end(RunStatus.DONE, output=task.result())
            except (InvalidInputError, TooLargeError) as error:
                teller.end(RunStatus.FAILED, error=describe_error(error))

    def _conclude_cancelled(self, teller: StatusTeller) -> None:
        if self._is_cancel_requested:
            teller.end(RunStatus.CANCELED)
        else:
            stopped = RunError(code="runner_cancelled", message="the runner cancelled itself")
            teller.end(RunStatus.FAILED, error=stopped)

    def _conclude_failed(self, teller: StatusTeller, failure: BaseException, runner: Runner) -> None:
        if self._is_cancel_requested:  # its way to stop
            teller.end(RunStatus.CANCELED)
            return
        # Our own errors say all there is to say; of others their author has to know the place.
        trace = None if isinstance(failure, RuncastError) else failure
        log.info("run failed", run_id=self._run.id, error=repr(failure), exc_info=trace)
        if self._run.failures < runner.options.retries and may_retry(failure):
            self.due_at = teller.try_later(describe_error(failure))
            self.outcome = Outcome.RETRYING
        else:
            teller.end(RunStatus.FAILED, error=describe_error(failure))

    async def _leave_parked(self, writer: RunWriter, teller: StatusTeller, journal: RunJournal) -> None:
        """Nobody holds the run from here on. What it was told to watchers before has to stand in the archive first."""
        assert self._parking is not None  # noqa: S101 - set with the reason to stop
        change, memos, waited = self._parking
        await journal.settle(waited)
        await writer.flush()
        commit = Commit(run_id=self._run.id, attempt=self._run.attempt, events=(), memos=memos)
        self.due_at = change.due_at
        if change.status is RunStatus.DELAYED:
            await outlast_outages(lambda: self._store.commit(commit))
            self.outcome = Outcome.PARKED
            teller.tell_delayed(change)
            await writer.flush()
        else:
            self.outcome = Outcome.PARKED
            await outlast_outages(lambda: self._store.commit(replace(commit, change=change)))

    def _stop_runner(self, reason: _Stop) -> None:
        if self._stop is None or reason is _Stop.FENCED:
            self._stop = reason
            if self._journal is not None:
                self._journal.is_ending = True
            if self._task is not None:
                self._task.cancel()
            self._stopping.set()

    async def _read_past(self) -> Past:
        run_id = self._run.id
        steps = await outlast_outages(lambda: self._store.list_steps(run_id))
        memos = await outlast_outages(lambda: self._store.read_memos(run_id))
        requests = await outlast_outages(lambda: self._store.list_requests(run_id))
        has_failed = self._run.error is not None  # and not only lost its worker, say
        return Past(tuple(map(reopen, steps)) if has_failed else tuple(steps), memos, tuple(requests))

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
            appender=self._appender,
            archiving=self._archiving,
            clock=self._clock,
            max_event_bytes=self._limits.max_event_bytes,
            on_fenced=lambda: self._stop_runner(_Stop.FENCED),
        )
        if told is not None:
            writer.publish(told)
        return writer


def _has_returned(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _forget_result(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
