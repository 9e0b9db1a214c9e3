"""RunService: what anybody may ask of runs. Create, find, list, cancel, answer, undo.

A run is acknowledged once the database has it. Telling the log and the queue comes after, and if they can't be reached
the run waits: the sweeper puts it into the queue when they can.
"""

import contextlib
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from runcast.core.lifecycle import CANCELED_AT_ONCE, is_parked
from runcast.errors import (
    IdempotencyConflictError,
    InvalidInputError,
    RunEndedError,
    RunNotEndedError,
    RunNotFoundError,
)
from runcast.events import EventType, LoggedEvent, RunEvent, RunStatus, StepStatus, format_ts, log_event
from runcast.ports import JobQueue, RunLog, RunStore
from runcast.records import Answer, Job, NewRun, Request, Run, RunFilter, RunPage, Step, is_run_id
from runcast.registry import RunnerRegistry
from runcast.runners import UNDO_RUNNER
from runcast.services.announcer import Announcer
from runcast.services.answering import check_answer, check_name, find_request
from runcast.services.intake import RunRequest, has_input, read_request, request_of

__all__ = ["RunRequest", "RunService", "new_run_id", "run_id_of"]

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to be misread


def new_run_id(now: datetime) -> str:
    """An id that sorts by time: 48 bits of milliseconds, then 80 random ones, as 26 letters and digits."""
    number = (int(now.timestamp() * 1000) << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def run_id_of(job: Job) -> str:
    """The run that a job is about: the one it names, or one of its own, the same whenever the job comes."""
    named = job.data.get("runId")
    if isinstance(named, str) and is_run_id(named):
        return named
    own = f"job-{job.id}-{job.added_ms}"
    return own if is_run_id(own) else f"job-{hashlib.sha256(own.encode()).hexdigest()[:40]}"


class RunService:
    """Stateless; one per process."""

    def __init__(
        self,
        *,
        app: RunnerRegistry,
        store: RunStore,
        log: RunLog,
        queue: JobQueue,
        clock: Callable[[], datetime],
        max_prompt_chars: int,
    ) -> None:
        self._app: Final = app
        self._store: Final = store
        self._announcer: Final = Announcer(log=log, queue=queue, clock=clock)
        self._clock: Final = clock
        self._max_prompt_chars: Final = max_prompt_chars

    async def create(self, request: RunRequest) -> tuple[Run, bool]:
        """Store a run and see to it that it is executed. The flag says whether it is new: a known key returns its run.

        Raises:
            InvalidInputError, RunnerNotFoundError, TooLargeError: the request can't be executed.
            IdempotencyConflictError: the key's run is of another runner, or has another input.
            LimitReachedError: as many such runs as may be are under way, and the runner turns further ones down.
            UnavailableError: it could not be stored.

        """
        new = self._read(request, new_run_id(self._clock()))
        run, created = await self._store_run(new)
        if not created:
            self._check_same(new, run)
        if created or run.status in CANCELED_AT_ONCE or is_parked(run.status, run.worker_id):
            await self._announcer.enqueue(run)
        return run, created

    async def adopt(self, job: Job, run_id: str) -> None:
        """Store the run that a foreign producer, or a schedule, has put straight into the queue.

        Raises:
            InvalidInputError, RunnerNotFoundError, TooLargeError: its data don't make a run.
            LimitReachedError: see `create`.

        """
        if (named := job.data.get("runId")) is not None and named != run_id:
            raise InvalidInputError(
                f"{named!r} can't be a run's id: letters, digits, - and _, at most 64", field="runId"
            )
        await self._store_run(self._read(request_of(job, self._app), run_id))

    async def get(self, run_id: str) -> Run:
        """One run.

        Raises:
            RunNotFoundError: there is none.

        """
        run = await self._store.get_run(run_id) if is_run_id(run_id) else None
        if run is None:
            raise RunNotFoundError(run_id)
        return run

    async def list(self, where: RunFilter, *, limit: int, before: str | None) -> RunPage:
        """Runs, newest first."""
        return await self._store.list_runs(where, limit=limit, before=before)

    async def list_steps(self, run_id: str) -> Sequence[Step]:
        """A run's steps by index."""
        return await self._store.list_steps(run_id)

    async def list_requests(self, run_id: str) -> Sequence[Request]:
        """What a run has asked people, in the order of asking."""
        return await self._store.list_requests(run_id)

    async def list_children(self, run_id: str) -> Sequence[Run]:
        """The runs that a run has started, the oldest first."""
        return await self._store.list_children(run_id)

    async def count(self) -> Mapping[str, int]:
        """How many runs there are by status."""
        return await self._store.count_runs()

    async def cancel(self, run_id: str) -> Run:
        """End a run that nobody holds at once; have a held one stopped by its worker. The runs that it has started are
        canceled with it. Canceling twice changes nothing.

        Raises:
            RunNotFoundError: there is no such run.
            RunEndedError: it has ended otherwise.

        """
        if not is_run_id(run_id):
            raise RunNotFoundError(run_id)
        while (run := await self._try_cancel(run_id)) is None:
            ended = await self.get(run_id)
            if ended.status is RunStatus.CANCELED:
                return ended
            if ended.status.is_final:
                raise RunEndedError(run_id, ended.status)
            # It has passed from a worker's hand, or into one, between two looks.
        await self._cancel_all(child.id for child in await self._store.list_children(run_id) if _is_open(child))
        return run

    async def answer(self, run_id: str, request_id: str | None, value: Any, by: str | None = None) -> Run:
        """Answer what a run asks, once. Without a request's id the only open one is meant.

        Raises:
            RunNotFoundError, RequestNotFoundError: there is no such run, or it hasn't asked that.
            RequestClosedError: it was answered before, it has expired, or the run has ended.
            InvalidInputError: the value doesn't fit the request's schema, or several requests are open.

        """
        check_name(by)
        run, now = await self.get(run_id), self._clock()
        request = find_request(await self._store.list_requests(run.id), run_id, request_id, now=now)
        if request.answer is None:  # else the store says that it is closed, which comes first
            check_answer(request.schema, value)
        run = await self._store.answer_request(run_id, request.id, Answer(value, now, by))
        if is_parked(run.status, run.worker_id):
            await self._announcer.enqueue(run)
        else:
            await self._announcer.tell_workers({"answered": run_id})
        return run

    async def undo(self, run_id: str) -> tuple[Run, bool]:
        """Create the run that undoes an ended one. The flag says whether it is new: a run is undone once. If the
        undo run itself has failed, or was canceled, another one goes on where it ended.

        Raises:
            RunNotFoundError: there is no such run.
            RunNotEndedError: it hasn't ended.
            InvalidInputError: none of its steps can be undone.

        """
        run = await self.get(run_id)
        if not run.status.is_final:
            raise RunNotEndedError(run_id, run.status)
        steps = await self._store.list_steps(run_id)
        if not any(step.undo is not None and step.status is StepStatus.SUCCEEDED for step in steps):
            raise InvalidInputError(f"no step of run {run_id} can be undone")
        children = await self._store.list_children(run_id)
        failed = sum(child.runner == UNDO_RUNNER and _has_failed(child) for child in children)
        key = f"undo:{run_id}:{failed + 1}" if failed else f"undo:{run_id}"
        request = RunRequest(runner=UNDO_RUNNER, input={"runId": run_id}, parent_id=run_id, idempotency_key=key)
        return await self.create(request)

    def _read(self, request: RunRequest, run_id: str) -> NewRun:
        now = self._clock()
        return read_request(request, run_id, app=self._app, now=now, max_prompt_chars=self._max_prompt_chars)

    def _check_same(self, new: NewRun, known: Run) -> None:
        """Refuse to pass one run off as another that was asked for under the same key."""
        # The keys of children and of undo are ours: whatever a runner says in another attempt, its child is its child.
        if new.idempotency_key is None or new.parent_id is not None:
            return
        if new.runner != known.runner:
            raise IdempotencyConflictError(new.idempotency_key, known.id, "runner")
        if not has_input(self._app.get_runner(known.runner), known.input, new.input):
            raise IdempotencyConflictError(new.idempotency_key, known.id, "input")

    async def _store_run(self, new: NewRun) -> tuple[Run, bool]:
        now, run_id = new.created_at, new.id
        payload: dict[str, Any] = {"status": RunStatus.QUEUED}
        if new.due_at is not None and new.due_at > now:
            payload = {"status": RunStatus.DELAYED, "dueAt": format_ts(new.due_at)}
        first = _event(run_id, payload, now, seq=1, attempt=0)
        run, created = await self._store.create_run(new, first)
        if created:
            await self._announcer.tell(run_id, [first])
            if run.limit is not None and self._app.get_runner(run.runner).on_full == "cancel_older":
                under_way = list(await self._store.list_under_way(run.limit.key))
                # Of two that come at once each finds the other: only what is older gives way.
                older = under_way[: under_way.index(run.id)] if run.id in under_way else []
                await self._cancel_all(older[: max(0, len(older) - run.limit.most + 1)])
        return run, created

    async def _cancel_all(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            with contextlib.suppress(RunEndedError, RunNotFoundError):  # it has just ended by itself
                await self.cancel(run_id)

    async def _try_cancel(self, run_id: str) -> Run | None:
        """End a run that nobody holds, or ask its holder to; None if it was neither when it was looked at."""
        run = await self._cancel_unheld(run_id)
        if run is None and (run := await self._store.request_cancel(run_id, now=self._clock())) is not None:
            await self._announcer.tell_workers({"cancel": run_id})
        return run

    async def _cancel_unheld(self, run_id: str) -> Run | None:
        now = self._clock()
        ended: list[LoggedEvent] = []

        def end(run: Run) -> LoggedEvent:
            event = _event(run.id, {"status": RunStatus.CANCELED}, now, seq=run.last.seq + 1, attempt=run.attempt)
            ended[:] = [event]
            return event

        run = await self._store.cancel_unheld(run_id, end, now=now)
        if run is not None:
            await self._announcer.tell(run_id, ended)
            await self._follow_end(run)
        return run

    async def _follow_end(self, run: Run) -> None:
        """Let the run's parent know, and the next of its limit begin."""
        if run.parent_id is not None:
            await self._announcer.tell_workers({"ended": run.id})
        if run.limit is not None and run.attempt > 0:
            following = await self._store.find_next(run.limit.key, now=self._clock())
            if following is not None:
                await self._announcer.enqueue(following)


def _is_open(run: Run) -> bool:
    return not run.status.is_final


def _has_failed(run: Run) -> bool:
    return run.status.is_final and run.status is not RunStatus.DONE


def _event(run_id: str, payload: Mapping[str, Any], now: datetime, *, seq: int, attempt: int) -> LoggedEvent:
    return log_event(
        RunEvent(type=EventType.RUN_STATUS, payload=payload, ts=format_ts(now), run_id=run_id, seq=seq, attempt=attempt)
    )
