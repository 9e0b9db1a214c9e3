"""The drill: starts the processes, creates runs, has them watched, lets faults happen, and has the result checked."""

import asyncio
import contextlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from runcast.backends.sql import SqlRunStore, migrate, open_store
from runcast.chaos.app import RUNNER
from runcast.chaos.checker import Breach, Violation, check
from runcast.chaos.faults import Saboteur, is_possible
from runcast.chaos.plan import LOSING_KINDS, FaultKind, Habit, Round, plan_round
from runcast.chaos.processes import Cluster
from runcast.chaos.record import ArchivedEvent, ArchivedRun, WatcherRecord, digest_of
from runcast.chaos.report import Injection, Report, summarize
from runcast.chaos.watchers import DrillWatcher
from runcast.concurrency import end_tasks
from runcast.errors import ConfigurationError, UnavailableError
from runcast.events import START, Cursor, LoggedEvent

_CREATE_SECONDS: Final = 60
_PAGE_EVENTS: Final = 1_000
_TELL_SECONDS: Final = 10
_READERS: Final = 20  # at once, when a round is read again


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillOptions:
    """What a drill is to be. Without `minutes` it is one round."""

    seed: int
    minutes: float | None = None
    runs: int = 200  # of one round
    lines: int = 200  # of one run's script
    watchers: int = 400  # of one round
    pause_ms: int = 60  # of a runner, between two lines
    lease_seconds: float = 6
    pace: float = 1.0
    settle_seconds: float = 120  # after the last fault; whoever isn't told the end by then never will be
    database_url: str | None = None
    kinds: Sequence[FaultKind] = tuple(FaultKind)
    command: Sequence[str] | None = None  # what runs as `runcast`; None: this one


@dataclass(slots=True)
class _Notes:
    """What a drill has seen so far."""

    watchers: list[DrillWatcher] = field(default_factory=list)
    transports: Counter[str] = field(default_factory=Counter)
    injections: list[Injection] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)  # run ids
    found: list[Violation] = field(default_factory=list)  # what only could be seen while everything ran
    settled_seconds: float = 0.0
    rounds: int = 0

    @property
    def told(self) -> int:
        return sum(watcher.is_told for watcher in self.watchers)

    @property
    def records(self) -> list[WatcherRecord]:
        return [watcher.record for watcher in self.watchers]


async def run_drill(options: DrillOptions, *, environ: Mapping[str, str], say: Callable[[str], None]) -> Report:
    """Run a drill in a temporary folder, which stays if a promise was broken.

    Raises:
        ConfigurationError: the database holds runs already: a drill locks tables and needs one of its own.
        UnavailableError: a part did not start.

    """
    folder = Path(tempfile.mkdtemp(prefix="runcast-drill-"))
    is_clean = False
    try:
        report = await _run_in(folder, options, environ=environ, say=say)
        is_clean = report.is_clean
    finally:
        if is_clean:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            say(f"the processes' logs and the database are in {folder}")
    return report


async def _run_in(
    folder: Path, options: DrillOptions, *, environ: Mapping[str, str], say: Callable[[str], None]
) -> Report:
    url = options.database_url or f"sqlite:///{folder / 'runcast.db'}"
    await migrate(url)
    store = await open_store(url)
    try:
        if sum((await store.count_runs()).values()):
            raise ConfigurationError("the database holds runs: a drill locks its tables, so give it an empty one")
        return await _Drill(options, folder=folder, url=url, store=store, environ=environ, say=say).run()
    finally:
        await store.close()


class _Drill:
    def __init__(
        self,
        options: DrillOptions,
        *,
        folder: Path,
        url: str,
        store: SqlRunStore,
        environ: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._options: Final = options
        self._store: Final = store
        self._tell: Final = say
        self._source: Final = random.Random(options.seed)  # noqa: S311  # repeatable on purpose
        self._kinds: Final = [kind for kind in options.kinds if is_possible(kind, database_url=url)]
        self._cluster: Final = Cluster(
            folder,
            database_url=url,
            lease_seconds=options.lease_seconds,
            environ=environ,
            source=self._source,
            command=options.command or (sys.executable, "-P", "-m", "runcast"),
        )
        self._saboteur: Final = Saboteur(self._cluster, database_url=url)
        self._notes: Final = _Notes()
        self._began: Final = asyncio.get_running_loop().time()

    async def run(self) -> Report:
        self._say(f"seed {self._options.seed}; starting Redis, 2 gateways, 3 workers")
        telling = None
        try:
            await self._cluster.start()
            telling = asyncio.create_task(self._tell_progress(), name="progress")
            async with self._open_http() as http:
                while self._notes.rounds == 0 or self._now() < (self._options.minutes or 0) * 60:
                    first = len(self._notes.acknowledged)
                    await self._run_round(http)
                    await self._read_again(http, self._notes.acknowledged[first:])
                    await self._look_at_gateways(http)
        finally:
            await end_tasks(telling)
            await self._cluster.stop()
        return await self._judge()

    async def _run_round(self, http: httpx.AsyncClient) -> None:
        plan = plan_round(
            self._source,
            kinds=self._kinds,
            runs=self._options.runs,
            watchers=self._options.watchers,
            lease_seconds=self._options.lease_seconds,
            pace=self._options.pace,
        )
        self._notes.rounds += 1
        began = self._now()
        watching: list[asyncio.Task[None]] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._do_faults(plan, began))
                for number, at in enumerate(plan.arrivals):
                    group.create_task(self._begin_run(http, plan, number, began + at, watching))
            healed = self._now()
            self._say(f"round {self._notes.rounds}: all faults are over; waiting for the last runs and watchers")
            await asyncio.wait(watching, timeout=self._options.settle_seconds)
        finally:
            await end_tasks(*watching)
        self._notes.settled_seconds = max(self._notes.settled_seconds, self._now() - healed)

    async def _do_faults(self, plan: Round, began: float) -> None:
        for fault in plan.faults:
            await self._sleep_until(began + fault.at_seconds)
            at = self._now()
            self._say(f"fault: {fault.kind} for {fault.hold_seconds:.1f} s")
            target = await self._saboteur.do(fault)
            self._notes.injections.append(Injection(fault.kind, at, self._now(), target))
            self._say(f"       {fault.kind} is over ({target})")

    async def _begin_run(
        self, http: httpx.AsyncClient, plan: Round, number: int, at: float, watching: list[asyncio.Task[None]]
    ) -> None:
        await self._sleep_until(at)
        run_id = await self._create_run(http, f"{self._options.seed}/{self._notes.rounds}/{number}")
        self._notes.acknowledged.append(run_id)
        habits = (habit for habit in plan.habits if habit.run == number)
        watching.extend(asyncio.create_task(self._watch(http, run_id, habit)) for habit in habits)

    async def _watch(self, http: httpx.AsyncClient, run_id: str, habit: Habit) -> None:
        number = len(self._notes.watchers) + 1
        watcher = DrillWatcher(
            f"watcher {number} ({habit.transport})",
            run_id,
            habit,
            gateways=self._cluster.gateway_urls,
            http=http,
            clock=self._now,
            source=random.Random(number),  # noqa: S311  # a rhythm
        )
        self._notes.watchers.append(watcher)
        self._notes.transports[habit.transport] += 1
        await watcher.watch()

    async def _create_run(self, http: httpx.AsyncClient, key: str) -> str:
        """Ask until a gateway has acknowledged; the key makes asking again the same run."""
        body = {
            "input": {"lines": self._options.lines, "pause_ms": self._options.pause_ms},
            "idempotencyKey": key,
        }
        give_up_at = self._now() + _CREATE_SECONDS
        while self._now() < give_up_at:
            url = self._source.choice(self._cluster.gateway_urls)
            with contextlib.suppress(httpx.TransportError):
                answer = await http.post(f"{url}/runners/{RUNNER}/runs", json=body)
                if answer.is_success:
                    run_id: str = answer.json()["runId"]
                    return run_id
                if answer.is_client_error:
                    raise UnavailableError(f"a run was refused: {answer.text[:200]}")
            await asyncio.sleep(0.2)
        raise UnavailableError(f"no gateway took a run within {_CREATE_SECONDS} s")

    async def _read_again(self, http: httpx.AsyncClient, run_ids: Sequence[str]) -> None:
        """When a round is over, one more reader for each run, who comes with nothing and must get everything."""
        self._say("every run of the round is read once more, from its start")
        slots = asyncio.Semaphore(_READERS)

        async def read(number: int, run_id: str) -> None:
            async with slots:
                await self._watch(http, run_id, Habit.of_late_reader(number))

        reading = [asyncio.create_task(read(number, run_id)) for number, run_id in enumerate(run_ids)]
        try:
            await asyncio.wait(reading, timeout=self._options.settle_seconds)
        finally:
            await end_tasks(*reading)

    async def _look_at_gateways(self, http: httpx.AsyncClient) -> None:
        """By now each must be back on Redis: one that polls on brings everything too, but late and at a price."""
        for number, url in enumerate(self._cluster.gateway_urls, 1):
            stats = (await http.get(f"{url}/runs/stats")).json()["gateways"][0]  # the one that answers
            if not stats["redis"]["connected"] or stats["degraded"]:
                message = f"round {self._notes.rounds} is over, and it is still without Redis: {stats['redis']}"
                found = Violation(breach=Breach.NOT_RECOVERED, run_id="", watcher=f"gateway-{number}", message=message)
                self._notes.found.append(found)

    async def _judge(self) -> Report:
        notes = self._notes
        runs = {}
        for run_id in notes.acknowledged:
            run = await _read_run(self._store, run_id, lines=self._options.lines)
            if run is not None:
                runs[run_id] = run
        losses = [(each.at, each.healed_at) for each in notes.injections if each.kind in LOSING_KINDS]
        checked = check(notes.records, runs, acknowledged=notes.acknowledged, losses=losses)
        violations = [*notes.found, *self._find_deaths(), *checked]
        return summarize(
            notes.records,
            violations,
            notes.injections,
            transports=notes.transports,
            statuses=Counter(run.status.value for run in runs.values()),
            seed=self._options.seed,
            rounds=notes.rounds,
            runs=len(notes.acknowledged),
            watchers=len(notes.watchers),
            settled_seconds=notes.settled_seconds,
            seconds=self._now(),
        )

    def _find_deaths(self) -> list[Violation]:
        return [
            Violation(
                breach=Breach.DIED,
                run_id="",
                watcher=process.name,
                message="ended though nobody killed it",
                evidence=tuple(death.splitlines()),
            )
            for process in (self._cluster.redis, *self._cluster.processes)
            for death in process.deaths
        ]

    async def _tell_progress(self) -> None:
        while True:
            await asyncio.sleep(_TELL_SECONDS)
            notes = self._notes
            self._say(
                f"{len(notes.acknowledged)} runs, {len(notes.watchers)} watchers, {notes.told} of them told the end"
            )

    def _say(self, text: str) -> None:
        self._tell(f"{self._now():6.1f} s  {text}")

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(at - self._now(), 0))

    def _open_http(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        return httpx.AsyncClient(trust_env=False, limits=limits, timeout=10)


async def _read_run(store: SqlRunStore, run_id: str, *, lines: int) -> ArchivedRun | None:
    run = await store.get_run(run_id)
    if run is None:
        return None
    events: list[ArchivedEvent] = []
    cursor: Cursor = START
    while page := await store.read_events(run_id, cursor, limit=_PAGE_EVENTS):
        events += map(_archived, page)
        cursor = page[-1].cursor
    return ArchivedRun(run_id=run_id, status=run.status, lines=lines, events=tuple(events))


def _archived(event: LoggedEvent) -> ArchivedEvent:
    content: dict[str, Any] = msgspec.json.decode(event.raw)
    return ArchivedEvent(event.cursor, digest_of(event.raw), content["type"], content["payload"], event.status)
