"""RunService: what anybody may ask of runs. Create, find, list, cancel.

A run is acknowledged once the database has it. Telling the log and the queue comes after, and if they can't be reached
the run waits: the sweeper puts it into the queue when they can.
"""

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
import structlog

from runcast.app import PROMPT_RUNNER, Runcast
from runcast.errors import InvalidInputError, RunEndedError, RunNotFoundError, TooLargeError, UnavailableError
from runcast.events import EventType, LoggedEvent, RunEvent, RunStatus, format_ts, log_event
from runcast.ports import JobQueue, Missing, RunLog, RunStore
from runcast.records import Job, NewRun, Run, RunFilter, RunPage, Step, is_run_id

log = structlog.get_logger()

REDIS_PATIENCE_SECONDS: Final = 2.0
"""How long one of Redis' parts in a request may take. It is past what a loaded server needs, and below what a caller
waits for an answer."""

MAX_TAGS: Final = 20
MAX_TAG_CHARS: Final = 64
MAX_KEY_CHARS: Final = 200
_REQUEST_KEYS: Final = {name: name for name in ("prompt", "runner", "input", "tags")} | {
    "idempotency_key": "idempotencyKey"
}
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to be misread


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What somebody asks for: a prompt, or a runner with its input."""

    prompt: str | None = None
    runner: str | None = None
    input: Mapping[str, Any] | None = None
    tags: Sequence[str] = ()
    idempotency_key: str | None = None


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
        app: Runcast,
        store: RunStore,
        log: RunLog,
        queue: JobQueue,
        clock: Callable[[], datetime],
        max_prompt_chars: int,
    ) -> None:
        self._app: Final = app
        self._store: Final = store
        self._log: Final = log
        self._queue: Final = queue
        self._clock: Final = clock
        self._max_prompt_chars: Final = max_prompt_chars

    async def create(self, request: RunRequest) -> tuple[Run, bool]:
        """Store a run and see to it that it is executed. The flag says whether it is new: a known key returns its run.

        Raises:
            InvalidInputError, RunnerNotFoundError, TooLargeError: the request can't be executed.
            UnavailableError: it could not be stored.

        """
        now = self._clock()
        run, created = await self._store_run(request, new_run_id(now), now)
        if created or run.status is RunStatus.QUEUED:
            await self._enqueue(run)
        return run, created

    async def adopt(self, job: Job, run_id: str) -> None:
        """Store the run that a foreign producer has put straight into the queue.

        Raises:
            InvalidInputError, RunnerNotFoundError, TooLargeError: its data don't make a run.

        """
        if (named := job.data.get("runId")) is not None and named != run_id:
            raise InvalidInputError(
                f"{named!r} can't be a run's id: letters, digits, - and _, at most 64", field="runId"
            )
        data = {"runner": job.name, **job.data}
        if "prompt" in data and data["runner"] not in self._app.runners:
            del data["runner"]  # to other producers a job's name is a label of their own
        fields = {name: data[key] for name, key in _REQUEST_KEYS.items() if data.get(key) is not None}
        try:
            request = msgspec.convert(fields, RunRequest)
        except msgspec.ValidationError as error:
            raise InvalidInputError(f"the job's data: {error}") from None
        await self._store_run(request, run_id, self._clock())

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

    async def count(self) -> Mapping[str, int]:
        """How many runs there are by status."""
        return await self._store.count_runs()

    async def cancel(self, run_id: str) -> Run:
        """End a waiting run at once; have a running one stopped by its worker. Canceling twice changes nothing.

        Raises:
            RunNotFoundError: there is no such run.
            RunEndedError: it has ended otherwise.

        """
        if not is_run_id(run_id):
            raise RunNotFoundError(run_id)
        now = self._clock()
        ended: list[LoggedEvent] = []

        def end(run: Run) -> LoggedEvent:
            event = _event(run.id, {"status": RunStatus.CANCELED}, now, seq=run.last.seq + 1, attempt=run.attempt)
            ended[:] = [event]
            return event

        run = await self._store.cancel_unheld(run_id, end, now=now)
        if run is not None:
            await self._tell(run_id, ended)
            return run
        run = await self._store.request_cancel(run_id, now=now)
        if run is not None:
            await self._tell_workers(run_id)
            return run
        run = await self.get(run_id)
        if run.status is not RunStatus.CANCELED:
            raise RunEndedError(run_id, run.status)
        return run

    async def _store_run(self, request: RunRequest, run_id: str, now: datetime) -> tuple[Run, bool]:
        runner, value = self._read(request)
        new = NewRun(
            id=run_id,
            runner=runner,
            input=value,
            created_at=now,
            prompt=request.prompt,
            tags=tuple(request.tags),
            idempotency_key=request.idempotency_key,
        )
        first = _event(run_id, {"status": RunStatus.QUEUED}, now, seq=1, attempt=0)
        run, created = await self._store.create_run(new, first)
        if created:
            await self._tell(run_id, [first])
        return run, created

    def _read(self, request: RunRequest) -> tuple[str, dict[str, Any]]:
        """The runner's name and its input, checked."""
        _check_labels(request)
        value = dict(request.input or {})
        if request.prompt is not None:
            if not request.prompt.strip():
                raise InvalidInputError("the prompt is empty", field="prompt")
            if len(request.prompt) > self._max_prompt_chars:
                raise TooLargeError(f"the prompt has {len(request.prompt)} characters; {self._max_prompt_chars} may be")
            value.setdefault("prompt", request.prompt)
        elif request.runner is None:
            raise InvalidInputError("give a prompt, or a runner and its input", field="prompt")
        runner = self._app.get_runner(request.runner or PROMPT_RUNNER)
        return runner.name, runner.validate(value)

    async def _enqueue(self, run: Run) -> None:
        try:
            async with _within_patience():
                await self._queue.add(Job(id=run.id, name=run.runner, data={"runId": run.id}))
        except UnavailableError as error:
            log.warning("❌ the run is stored but not queued yet", run_id=run.id, error=str(error))

    async def _tell(self, run_id: str, events: Sequence[LoggedEvent]) -> None:
        try:
            async with _within_patience():
                await self._append(run_id, events)
        except UnavailableError as error:
            log.warning("❌ watchers will hear later", run_id=run_id, error=str(error))

    async def _append(self, run_id: str, events: Sequence[LoggedEvent]) -> None:
        if isinstance(await self._log.append(run_id, events), Missing):
            # Redis has lost what came before; the archive has it.
            first = events[0].cursor
            await self._log.fence(run_id, first.attempt, floor=first.seq - 1)
            await self._log.append(run_id, events)

    async def _tell_workers(self, run_id: str) -> None:
        try:
            async with _within_patience():
                await self._log.send_control({"cancel": run_id})
        except UnavailableError as error:
            log.warning("❌ the worker will see the cancel at its next heartbeat", run_id=run_id, error=str(error))


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


def _event(run_id: str, payload: Mapping[str, Any], now: datetime, *, seq: int, attempt: int) -> LoggedEvent:
    return log_event(
        RunEvent(type=EventType.RUN_STATUS, payload=payload, ts=format_ts(now), run_id=run_id, seq=seq, attempt=attempt)
    )


def _check_labels(request: RunRequest) -> None:
    if len(request.tags) > MAX_TAGS or any(not 1 <= len(tag) <= MAX_TAG_CHARS for tag in request.tags):
        raise InvalidInputError(f"at most {MAX_TAGS} tags of 1 to {MAX_TAG_CHARS} characters", field="tags")
    key = request.idempotency_key
    if key is not None and not 1 <= len(key) <= MAX_KEY_CHARS:
        raise InvalidInputError(f"an idempotency key has 1 to {MAX_KEY_CHARS} characters", field="idempotencyKey")
