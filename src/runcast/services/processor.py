"""RunProcessor: takes runs from the queue and executes them, one `Execution` each.

The database decides who holds a run; the queue only says that there may be work. A job that comes twice, late or for a
run that has ended is recognised by the claim and dropped. Failure of a run never kills the worker; a worker that is
told to stop lets its runs finish for a while and then gives them back.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from runcast.concurrency import end_tasks
from runcast.core.lifecycle import is_held
from runcast.errors import (
    InvalidInputError,
    LimitReachedError,
    RuncastError,
    RunnerNotFoundError,
    StaleAttemptError,
    TooLargeError,
    UnavailableError,
)
from runcast.events import LoggedEvent
from runcast.logs import get_logger
from runcast.ports import ActiveJob, JobQueue, RunLog, RunStore
from runcast.records import Claim, Job, Run, RunError, Schedule
from runcast.registry import RunnerRegistry
from runcast.services.appender import Appender, Round
from runcast.services.artifacts import ArtifactService
from runcast.services.execution import Execution, ExecutionLimits, Outcome
from runcast.services.handover import Handover
from runcast.services.journal import Children
from runcast.services.lease import Lease
from runcast.services.outages import outlast_outages
from runcast.services.runs import RunService, run_id_of
from runcast.services.takeover import complete_log
from runcast.services.telling import tell_running
from runcast.services.waiting import Slot, Slots
from runcast.services.writer import ARCHIVE_DELAY_SECONDS

log = get_logger()

_GIVING_BACK_SECONDS: Final = 2.0
_AGAIN_SECONDS: Final = 1.0
_SCHEDULE_SECONDS: Final = 60.0


class RunProcessor:
    """One worker. `run` works until it is cancelled."""

    def __init__(
        self,
        *,
        app: RunnerRegistry,
        store: RunStore,
        log: RunLog,
        queue: JobQueue,
        runs: RunService,
        worker_id: str,
        clock: Callable[[], datetime],
        concurrency: int,
        lease_seconds: float,
        shutdown_seconds: float,
        limits: ExecutionLimits,
        children: Children,
        artifacts: ArtifactService,
    ) -> None:
        self._app: Final = app
        self._store: Final = store
        self._log: Final = log
        self._queue: Final = queue
        self._runs: Final = runs
        self._worker_id: Final = worker_id
        self._clock: Final = clock
        self._slots: Final = Slots(concurrency)
        self._lease_seconds: Final = lease_seconds
        self._shutdown_seconds: Final = shutdown_seconds
        self._limits: Final = limits
        self._handover: Final = Handover(store=store, log=log, queue=queue, clock=clock)
        self._children: Final = children
        self._artifacts: Final = artifacts
        self._lease: Final = Lease(seconds=lease_seconds, now=time.monotonic)
        self._appender: Final = Appender(log=log, lease=self._lease)
        self._archiving: Final = Round(seconds=ARCHIVE_DELAY_SECONDS)
        self._is_taking = True  # whether new jobs are welcome
        self._has_given_up = False
        self._executions: dict[str, Execution] = {}  # by run id
        self._held: dict[str, asyncio.Event] = {}  # runs whose jobs are in hand, by id: set once they are not
        self._jobs: set[asyncio.Task[None]] = set()
        self._errands: set[asyncio.Task[None]] = set()  # what control messages have set going

    async def run(self, *, retire: asyncio.Event | None = None, finish_seconds: float = 0) -> None:
        """Take and execute runs. Cancelled, it lets runs finish for `shutdown_seconds` and gives back the rest.

        Once `retire` is set it takes no more, lets those it has finish for `finish_seconds`, and returns.
        """
        await self._renew_lease()
        unsubscribe = taking = None
        heartbeat = asyncio.create_task(self._heartbeat(), name="heartbeat")
        schedules = asyncio.create_task(self._set_schedules(), name="schedules")
        try:
            unsubscribe = await self._log.on_control(self._receive_control)
            log.info("worker is ready", worker_id=self._worker_id, runners=sorted(self._app.runners))
            taking = asyncio.create_task(self._take_jobs(), name="take-jobs")
            await self._work_until(retire, taking)
            await self._finish_runs(taking, finish_seconds)
        finally:
            self._is_taking = False
            await end_tasks(taking, schedules)
            await self._shut_down()
            await self._appender.close()
            await end_tasks(heartbeat)
            if unsubscribe is not None:
                await unsubscribe()
            with contextlib.suppress(UnavailableError):
                await self._store.end_lease(self._worker_id)

    def give_up(self) -> None:
        """Write no more of any run, as a process that has died. Its runs are another worker's when it is cancelled."""
        self._has_given_up = True
        for execution in tuple(self._executions.values()):
            execution.give_up()

    async def _work_until(self, retire: asyncio.Event | None, taking: asyncio.Task[None]) -> None:
        retiring = asyncio.create_task((retire or asyncio.Event()).wait(), name="retirement")
        try:
            await asyncio.wait([taking, retiring], return_when=asyncio.FIRST_COMPLETED)
            if taking.done():
                taking.result()
        finally:
            await end_tasks(retiring)

    async def _finish_runs(self, taking: asyncio.Task[None], seconds: float) -> None:
        self._is_taking = False
        await end_tasks(taking)
        for execution in tuple(self._executions.values()):
            execution.park()  # what waits goes on elsewhere
        if self._jobs:
            log.info("worker takes no more runs; those it has may finish", runs=len(self._jobs), seconds=seconds)
            await asyncio.wait(self._jobs, timeout=seconds)

    async def _set_schedules(self) -> None:
        """Now and then again: a Redis that has lost everything has lost them, too."""
        while True:
            try:
                await outlast_outages(lambda: self._queue.set_schedules(_schedules_of(self._app)))
            except Exception:
                log.exception("❌ the schedules could not be set")
            await asyncio.sleep(_SCHEDULE_SECONDS)

    async def _take_jobs(self) -> None:
        while True:
            await self._slots.wait_free()
            active = await self._queue.take()
            slot = self._slots.take()
            task = asyncio.create_task(self._work(active, slot), name=f"job-{active.job.id}")
            self._jobs.add(task)
            task.add_done_callback(self._jobs.discard)

    async def _work(self, active: ActiveJob | None, slot: Slot) -> None:
        """One slot: a job, and those that come with the end of the one before."""
        try:
            while active is not None:
                slot.take()
                active = await self._handle(active, slot)
        finally:
            slot.release()

    async def _handle(self, active: ActiveJob, slot: Slot) -> ActiveJob | None:
        """One job, from the queue until it is finished or given back. Returns the next if it came with the end."""
        run_id = run_id_of(active.job)
        if not await self._wait_let_go(run_id):
            # The queue took us for dead and gave the job out again, to ourselves.
            await active.release(delay_seconds=self._lease_seconds)
            return None
        let_go = self._held[run_id] = asyncio.Event()
        try:
            return await self._handle_run(active, run_id, slot)
        except (InvalidInputError, LimitReachedError, RunnerNotFoundError, TooLargeError) as error:
            log.warning("❌ a job that can't become a run is dropped", job_id=active.job.id, error=str(error))
            return await active.finish(RunError(code=error.code, message=str(error)), take_next=self._is_taking)
        except Exception:
            log.exception("❌ a job could not be handled; it is given back", job_id=active.job.id)
            await active.release(delay_seconds=self._lease_seconds)
            return None
        finally:
            del self._held[run_id]
            let_go.set()

    async def _wait_let_go(self, run_id: str) -> bool:
        """Whether no other job for the run is in hand. A run may be woken while the one that parked it is put away."""
        if (let_go := self._held.get(run_id)) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_SECONDS):
                    await let_go.wait()
        return run_id not in self._held

    async def _handle_run(self, active: ActiveJob, run_id: str, slot: Slot) -> ActiveJob | None:
        while (claim := await self._claim(active.job, run_id)) is not None:
            execution = await self._execute(claim, slot)
            match execution.outcome:
                case Outcome.ENDED:
                    following = await active.finish(execution.error, take_next=self._is_taking)
                    await self._handover.tell_ended(execution.claimed)
                    return following
                case Outcome.PARKED | Outcome.RETRYING:
                    await self._handover.wake(await outlast_outages(lambda: self._runs.get(run_id)))
                    return await active.finish(take_next=self._is_taking)
                case Outcome.INTERRUPTED:
                    await active.release()
                    return None
            if self._has_given_up:
                return None
            # It broke, or it was taken away. If the run is still ours nobody else will look after it: try again.
            await asyncio.sleep(_AGAIN_SECONDS)
        return await self._leave_alone(active, await self._runs.get(run_id))

    async def _leave_alone(self, active: ActiveJob, run: Run) -> ActiveJob | None:
        """A job for a run that can't be claimed now."""
        if run.status.is_final:
            await complete_log(run, store=self._store, log=self._log)
            return await active.finish(run.error, take_next=self._is_taking)
        if is_held(run.status, run.worker_id):
            # By somebody living. Should they die, this job finds it again.
            await active.release(delay_seconds=self._lease_seconds)
        elif run.due_at is not None and run.due_at > (now := self._clock()):
            await active.release(delay_seconds=(run.due_at - now).total_seconds())
        else:
            # Nobody has answered, or as many as may be are under way: whoever changes that puts the run back.
            await active.discard()
        return None

    async def _claim(self, job: Job, run_id: str) -> Claim | None:
        return await outlast_outages(lambda: self._try_claim(job, run_id))

    async def _try_claim(self, job: Job, run_id: str) -> Claim | None:
        now = self._clock()

        def tell(run: Run) -> LoggedEvent:
            return tell_running(run, now)

        claim = await self._store.claim_run(run_id, self._worker_id, now=now, tell=tell)
        if claim is None and await self._store.get_run(run_id) is None:
            await self._runs.adopt(job, run_id)
            claim = await self._store.claim_run(run_id, self._worker_id, now=now, tell=tell)
        return claim

    async def _execute(self, claim: Claim, slot: Slot) -> Execution:
        run_id = claim.run.id
        slot.take()  # an attempt that broke while it waited has left it given back
        execution = self._executions[run_id] = Execution(
            claim,
            app=self._app,
            store=self._store,
            log=self._log,
            appender=self._appender,
            archiving=self._archiving,
            clock=self._clock,
            jitter=random.random,
            limits=self._limits,
            slot=slot,
            children=self._children,
            artifacts=self._artifacts,
        )
        try:
            await execution.run()
        except Exception:
            log.exception("❌ an attempt broke", run_id=run_id, attempt=claim.run.attempt)
        finally:
            del self._executions[run_id]
        return execution

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            try:
                await self._renew_lease()
            except RuncastError as error:
                log.warning("❌ the lease could not be renewed", error=str(error))
            except Exception:
                log.exception("❌ the lease could not be renewed")

    async def _renew_lease(self) -> None:
        had_run_out = not self._lease.is_held
        asked_at = time.monotonic()
        until = self._clock() + timedelta(seconds=self._lease_seconds)
        attention = await self._store.renew_lease(self._worker_id, until=until)
        if had_run_out or not self._lease.is_held:
            await self._check_executions()
        self._lease.renew(asked_at=asked_at)
        for run_id in attention.canceled:
            self._cancel(run_id)
        for run_id in attention.answered:
            self._receive_answers(run_id)
        for execution in self._executions.values():
            execution.receive_child_ended()  # which of them have, if any, is looked up there

    async def _check_executions(self) -> None:
        """The lease had run out, as after the process was stopped for a while: see which runs are still ours."""
        for execution in tuple(self._executions.values()):
            try:
                await self._store.check_attempt(execution.run_id, execution.attempt)
            except StaleAttemptError:
                execution.give_up()

    def _receive_control(self, message: Mapping[str, Any]) -> None:
        """What others say. All of it may get lost: the next heartbeat finds it in the store."""
        match message:
            case {"cancel": str(run_id)}:
                self._cancel(run_id)
            case {"answered": str(run_id)}:
                self._receive_answers(run_id)
            case {"ended": str(run_id)}:
                for execution in self._executions.values():
                    execution.receive_child_ended(run_id)

    def _cancel(self, run_id: str) -> None:
        if execution := self._executions.get(run_id):
            execution.cancel()

    def _receive_answers(self, run_id: str) -> None:
        if execution := self._executions.get(run_id):
            errand = asyncio.create_task(execution.receive_answers(), name=f"answers-{run_id}")
            self._errands.add(errand)
            errand.add_done_callback(self._errands.discard)

    async def _shut_down(self) -> None:
        for execution in tuple(self._executions.values()):
            execution.park()
        if self._jobs:
            log.info("worker is stopping; runs may finish", runs=len(self._jobs), seconds=self._shutdown_seconds)
            await asyncio.wait(self._jobs, timeout=self._shutdown_seconds)
        for execution in tuple(self._executions.values()):
            execution.interrupt()
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=_GIVING_BACK_SECONDS)
            await end_tasks(*self._jobs)
        await end_tasks(*self._errands)


def _schedules_of(app: RunnerRegistry) -> dict[str, Schedule]:
    return {
        runner.name: Schedule(
            cron=runner.options.cron,
            timezone=runner.options.timezone,
            job_name=runner.name,
            data={"runner": runner.name, "tags": ["schedule"]},
        )
        for runner in app.runners.values()
        if runner.options.cron is not None
    }
