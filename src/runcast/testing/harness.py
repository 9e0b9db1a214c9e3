"""`RunHarness`: an application with a worker, for one test."""

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, cast

from runcast.assembly import Parts, make_processor, make_sweeper, migrate, open_parts
from runcast.backends.redis_client import close_redis, open_redis
from runcast.config import Settings
from runcast.core.lifecycle import is_parked
from runcast.errors import ConfigurationError
from runcast.events import START, EventType, RequestKind, RunEvent, RunStatus, decode_event
from runcast.logs import set_level
from runcast.ports import RunStore
from runcast.records import Job, Request, Run, RunError, Step
from runcast.registry import RunnerRegistry
from runcast.services.answering import is_open
from runcast.services.history import History
from runcast.services.jobs import job_of
from runcast.services.processor import RunProcessor
from runcast.services.runs import RunRequest
from runcast.testing.doubles import Clock, MortalStore
from runcast.testing.redis import TestRedis

_LOOK_SECONDS: Final = 0.003
_LOG_LEVEL: Final = "warning"  # unless told: what a test prints should be what it is about
_ASKING: Final = frozenset({RunStatus.AWAITING_APPROVAL, RunStatus.AWAITING_INPUT})
_SKIPPED: Final = frozenset({RunStatus.DELAYED, RunStatus.RETRYING})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """A run as a test sees it: at its end, or where it waits for an answer that the test has not given."""

    run: Run
    events: Sequence[RunEvent]
    steps: Sequence[Step]
    requests: Sequence[Request]
    children: Sequence[Run] = field(default=())

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def status(self) -> RunStatus:
        """How it ended, or what it waits for."""
        return self.run.status

    @property
    def output(self) -> Any:
        """What the runner returned."""
        return self.run.output

    @property
    def error(self) -> RunError | None:
        """Why it failed."""
        return self.run.error

    @property
    def text(self) -> str:
        """The texts of all completed messages, in order."""
        told = {event.payload["messageId"]: event.payload for event in self.events_of(EventType.MESSAGE_COMPLETED)}
        return "".join(payload.get("text", "") for payload in told.values())

    @property
    def open_requests(self) -> Sequence[Request]:
        """What it asks and nobody has answered yet."""
        return [request for request in self.requests if request.answer is None and not request.is_resolved]

    def events_of(self, event_type: str) -> Sequence[RunEvent]:
        """The events of one type, in order."""
        return [event for event in self.events if event.type == event_type]


class RunHarness:
    """An application with a worker, for one test."""

    def __init__(
        self, app: RunnerRegistry, *, redis_url: str | None = None, data_dir: Path | None = None, **settings: Any
    ) -> None:
        self._app: Final = app
        self._redis_url: Final = redis_url
        self._data_dir: Final = data_dir
        self._options: Final = settings
        self._stack: Final = AsyncExitStack()
        self._clock: Final = Clock()
        self._mortal: MortalStore | None = None
        self._parts: Parts | None = None
        self._settings: Settings | None = None
        self._processor: RunProcessor | None = None
        self._working: asyncio.Task[None] | None = None
        self._nudged: Final[set[str]] = set()  # ids of jobs

    async def __aenter__(self) -> Self:
        data_dir = self._data_dir or Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rc-")))
        redis_url = self._redis_url or TestRedis.shared().url
        client = open_redis(redis_url)
        await client.flushall()
        await close_redis(client)
        defaults = {"park_seconds": 0, "shutdown_seconds": 0, "database_url": None}
        settings = self._settings = Settings.load(
            **{**defaults, **self._options, "redis_url": redis_url, "data_dir": data_dir}
        )
        set_level(settings.log_level if "log_level" in settings.model_fields_set else _LOG_LEVEL)
        await migrate(settings)
        self._parts = await self._stack.enter_async_context(open_parts(settings, self._app, clock=self._clock.now))
        self._mortal = MortalStore(self._parts.store)
        self._start_worker()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_worker()
        await self._stack.aclose()

    async def start(self, runner: str | Callable[..., Any], /, **value: Any) -> str:
        """Create a run and return its id at once. `input` as a mapping stands for arguments with unusual names.

        Raises:
            InvalidInputError, RunnerNotFoundError: the request can't be executed.

        """
        name = runner if isinstance(runner, str) else runner.__name__
        run, _ = await self._open.runs.create(RunRequest(runner=name, input=value))
        return run.id

    async def run(
        self,
        runner: str | Callable[..., Any],
        /,
        *,
        answers: Iterable[Any] = (),
        crash_after: Iterable[str] = (),
        timeout_seconds: float = 30,
        **value: Any,
    ) -> RunResult:
        """Execute a run: to its end, or until it asks more than there are answers.

        An answer is True or False for an approval, and the value for other requests. `crash_after` names steps: once
        each is committed the worker dies, and another goes on.

        Raises:
            TimeoutError: it has neither ended nor asked within `timeout_seconds`.
            AssertionError: it has ended, and answers or steps of `crash_after` are left over.

        """
        return await self.settle(
            await self.start(runner, **value), answers=answers, crash_after=crash_after, timeout_seconds=timeout_seconds
        )

    async def settle(
        self,
        run_id: str,
        *,
        answers: Iterable[Any] = (),
        crash_after: Iterable[str] = (),
        timeout_seconds: float = 30,
    ) -> RunResult:
        """Let a run that was started go on; see `run`."""
        self._store.doomed = list(crash_after)
        left = list(answers)
        async with asyncio.timeout(timeout_seconds):
            while not await self._is_settled(run_id, left):  # noqa: ASYNC110  # a worker of its own changes it
                await asyncio.sleep(_LOOK_SECONDS)
        result = await self.look(run_id)
        if result.status.is_final:
            # A test that was written for another runner would pass and try nothing.
            assert not left, f"the run has ended as {result.status} and has not asked for the answers {left}"  # noqa: S101
            doomed = ", ".join(map(repr, self._store.doomed))
            assert not doomed, f"the run has ended as {result.status}, and no step {doomed} was committed"  # noqa: S101
        return result

    async def answer(
        self, run_id: str, value: Any, *, request_id: str | None = None, by: str | None = None
    ) -> RunResult:
        """Answer what a run asks, and let it go on.

        Raises:
            InvalidInputError: the answer doesn't fit the request.
            RequestClosedError: it asks nothing.

        """
        await self._answer(run_id, value, request_id=request_id, by=by)
        return await self.settle(run_id)

    async def cancel(self, run_id: str) -> RunResult:
        """Cancel a run and see it end."""
        await self._open.runs.cancel(run_id)
        return await self.settle(run_id)

    async def undo(self, run_id: str) -> RunResult:
        """Undo an ended run; gives the run that undoes it."""
        run, _ = await self._open.runs.undo(run_id)
        return await self.settle(run.id)

    async def advance(self, seconds: float) -> None:
        """Let time pass, as for a request that nobody answers in time."""
        self._clock.advance(seconds)
        await self._sweep()

    async def crash(self) -> None:
        """Have the worker die, as by kill -9, and another take over what it had."""
        processor, working = self._processor, self._working
        assert processor is not None, "the harness is entered first"  # noqa: S101
        processor.give_up()
        if working is not None:
            working.cancel()
            await asyncio.wait([working])
        await self._sweep()
        self._start_worker()

    async def wait_for(self, run_id: str, event_type: str, *, timeout_seconds: float = 30) -> RunEvent:
        """The first event of a type in a run, once it has happened."""
        async with asyncio.timeout(timeout_seconds):
            while True:
                for event in await self._read_events(run_id):
                    if event.type == event_type:
                        return event
                await asyncio.sleep(_LOOK_SECONDS)

    async def look(self, run_id: str) -> RunResult:
        """A run as it is now."""
        runs = self._open.runs
        return RunResult(
            run=await runs.get(run_id),
            events=await self._read_events(run_id),
            steps=await runs.list_steps(run_id),
            requests=await runs.list_requests(run_id),
            children=await runs.list_children(run_id),
        )

    @property
    def _open(self) -> Parts:
        if self._parts is None:
            raise ConfigurationError("the harness is not started: `async with RunHarness(app) as harness:`")
        return self._parts

    @property
    def _store(self) -> MortalStore:
        assert self._mortal is not None, "the harness is entered first"  # noqa: S101
        return self._mortal

    async def _is_settled(self, run_id: str, answers: list[Any]) -> bool:
        if self._working is not None and self._working.done():
            self._working.result()
        if self._store.is_dead.is_set():
            self._store.revive()
            await self.crash()
        family = await self._family(run_id)
        if family[0].status.is_final:
            return True
        for run in family:
            if await self._move(run, answers):
                return True
        return False

    async def _move(self, run: Run, answers: list[Any]) -> bool:
        """Give a run that waits what it waits for. True if the test has to."""
        if run.status in _ASKING and (asked := await self._list_open(run.id)):
            if not answers:
                return is_parked(run.status, run.worker_id)
            await self._answer(run.id, answers.pop(0), request_id=asked[0].id)
        elif run.worker_id is None and run.due_at is not None:
            if run.status in _SKIPPED:
                self._clock.reach(run.due_at)
            if run.due_at <= self._clock.now():
                await self._nudge(run)
        return False

    async def _list_open(self, run_id: str) -> list[Request]:
        now = self._clock.now()
        return [each for each in await self._open.runs.list_requests(run_id) if is_open(each, now=now)]

    async def _answer(self, run_id: str, value: Any, *, request_id: str | None, by: str | None = None) -> None:
        if isinstance(value, bool):
            # What decides an approval is an object; a test says yes or no.
            asked = [each for each in await self._list_open(run_id) if request_id in {None, each.id}]
            if asked and asked[0].kind is RequestKind.APPROVAL:
                value = {"approved": value}
        await self._open.runs.answer(run_id, request_id, value, by)

    async def _nudge(self, run: Run) -> None:
        """Its own job is put off by the queue's clock, which doesn't jump: another one brings it now, once."""
        job = Job(id=f"{job_of(run).id}-now", name=run.runner, data={"runId": run.id})
        if job.id not in self._nudged:
            self._nudged.add(job.id)
            await self._open.queue.add(job)

    async def _family(self, run_id: str) -> list[Run]:
        """A run and those that it has started, and so on."""
        family = [await self._open.runs.get(run_id)]
        for run in family:
            family += await self._open.runs.list_children(run.id)
        return family

    async def _read_events(self, run_id: str) -> list[RunEvent]:
        history = History(log=self._open.log, store=self._open.store)
        found: list[RunEvent] = []
        cursor = START
        while page := await history.read(run_id, cursor):
            found += [decode_event(event.raw) for event in page]
            cursor = page[-1].cursor
        return found

    def _start_worker(self) -> None:
        assert self._settings is not None, "the harness is entered first"  # noqa: S101
        self._processor = make_processor(self._settings, self._open, store=cast("RunStore", self._store))
        self._working = asyncio.create_task(self._processor.run(), name="harness-worker")

    async def _stop_worker(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])

    async def _sweep(self) -> None:
        assert self._settings is not None, "the harness is entered first"  # noqa: S101
        await make_sweeper(self._settings, self._open).sweep()
