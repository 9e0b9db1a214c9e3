"""What the services need from outside, as promises in prose. Every backend of a port passes the port's one suite.

The ports are cut where atomicity is. Keeping an event and publishing it is one step, so log and Pub/Sub are one port;
a run's status, its steps and the events that tell of them change in one transaction, so they are one store.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from runcast.events import Cursor, LoggedEvent
from runcast.records import (
    Answer,
    Attention,
    Claim,
    Commit,
    GatewayReport,
    Head,
    Job,
    LinkState,
    NewRun,
    Request,
    Run,
    RunError,
    RunFilter,
    RunPage,
    Schedule,
    StatusChange,
    Step,
)

EventHandler = Callable[[LoggedEvent], None]
RawHandler = Callable[[bytes], None]
"""Called in the event loop, in the order of the log, for each event that arrives live. Must not raise or block."""

Unsubscribe = Callable[[], Awaitable[None]]
"""Takes back a registration. Calling it again changes nothing."""


@dataclass(frozen=True, slots=True)
class Appended:
    """All the events stand in the log: written now, or by an earlier try of the same append."""

    last: Cursor


@dataclass(frozen=True, slots=True)
class Missing:
    """Nothing was written: the log ends at `last`, so events before the first one given are not there."""

    last: Cursor


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing was written: a later attempt has the log, which ends at `last`."""

    last: Cursor


AppendResult = Appended | Missing | Fenced

AppendHandler = Callable[[int, AppendResult | Exception], None]
"""Called with an append's place among several, and what became of it or what it would have raised. Must not raise."""


class RunLog(Protocol):
    """Keeps the events of runs for a while and tells live whoever listens.

    *Order*: events stand in the log by cursor, seq without gaps; handlers are called in that order. *Atomicity*: an
    append is kept and published whole or not at all. *Repetition*: appending again what is there changes nothing and
    publishes nothing. *Fencing*: once `fence` or an append named an attempt, older attempts are refused. *Failure*:
    live events may be lost (then `on_gap` handlers are called) and the log may forget its end, its start or
    everything; it never invents, alters or reorders. When the log can't be reached every method raises
    `UnavailableError`; whether an append took place is then unknown, and repeating it is safe.
    """

    async def append(self, run_id: str, events: Sequence[LoggedEvent]) -> AppendResult:
        """Keep and publish `events`, which follow each other by seq. The log keeps them for the retention time."""
        ...

    async def append_all(self, appends: Sequence[tuple[str, Sequence[LoggedEvent]]], tell: AppendHandler) -> None:
        """`append` for several runs at once, each for itself: `tell` is called for each as soon as it is known what
        became of it.
        """
        ...

    async def fence(self, run_id: str, attempt: int, *, floor: int) -> Cursor:
        """Refuse older attempts from now on, let this one go on after `floor`, and return the last event kept
        (`START` if there is none).

        What the log lacks up to `floor` stands in the archive, so it may have a hole there. What older attempts have
        written beyond `floor` is no longer part of the run. Once the attempt has written, fencing again at a floor
        below that changes nothing.
        """
        ...

    async def read(self, run_id: str, after: Cursor, *, limit: int) -> Sequence[LoggedEvent]:
        """Up to `limit` events after the cursor, oldest first. May start later than asked, or leave events out: what
        the log has let go or lost.
        """
        ...

    async def read_last(self, run_ids: Sequence[str]) -> Sequence[Cursor]:
        """The last event kept of each run, in one round trip; `START` where there is none."""
        ...

    async def on_run_event(self, run_id: str, handler: RawHandler) -> Unsubscribe:
        """Call `handler` with the bytes of each event of the run that is published from now on.

        It is in force on return; or, while the log can't be reached, once the `on_gap` handlers are called. Whoever has
        access to the log may publish anything: the handler must expect bytes that aren't an event.
        """
        ...

    def on_batch(self, handler: Callable[[], None]) -> Callable[[], None]:
        """Call `handler` whenever all events of runs that have come together were handed to their handlers. Returns its
        undo.
        """
        ...

    async def on_status(self, handler: EventHandler) -> Unsubscribe:
        """Call `handler` for each event of any run that tells a status, from now on."""
        ...

    def on_gap(self, handler: Callable[[], None]) -> Callable[[], None]:
        """Call `handler` after live events may have been lost, once they arrive again. Returns its undo."""
        ...

    async def send_control(self, message: Mapping[str, Any]) -> None:
        """Tell every worker something now. It may get lost: what must not is in the store as well."""
        ...

    async def on_control(self, handler: Callable[[Mapping[str, Any]], None]) -> Unsubscribe:
        """Call `handler` for each control message from now on."""
        ...

    async def ping(self) -> None:
        """Return if the log answers."""
        ...

    def get_stats(self) -> LinkState:
        """The subscriber's state in this process."""
        ...


class RunStore(Protocol):
    """Holds runs, steps and the archive of events: what is a fact is here.

    *Atomicity*: every method is one transaction. *Fencing*: a write names its attempt and is refused with
    `StaleAttemptError` unless the run is still at that attempt and has not ended. *Repetition*: archiving an event
    that is there changes nothing. *Order*: the archive of a run has no gaps below its `last`. *Failure*: when the
    database can't be reached every method raises `UnavailableError`; whether a write took place is then unknown.
    """

    async def create_run(self, run: NewRun, first: LoggedEvent) -> tuple[Run, bool]:
        """Store a run as `queued`, or as `delayed` if it is due later than it is created, with its first event. With
        an idempotency key or id that is there already, the run that is there. The flag says whether it was created now.

        Raises:
            LimitReachedError: the run isn't to wait, and as many of its limit's key as may be have not ended.

        """
        ...

    async def get_run(self, run_id: str) -> Run | None:
        """One run, without its steps."""
        ...

    async def list_runs(self, where: RunFilter, *, limit: int, before: str | None = None) -> RunPage:
        """Newest first (created_at, then id). `before` is the id of the last run of the page before."""
        ...

    async def count_runs(self) -> Mapping[str, int]:
        """How many runs there are by status; a status without runs may be absent."""
        ...

    async def list_steps(self, run_id: str) -> Sequence[Step]:
        """A run's steps by index."""
        ...

    async def claim_run(
        self, run_id: str, worker_id: str, *, now: datetime, tell: Callable[[Run], LoggedEvent] | None = None
    ) -> Claim | None:
        """Take the run for this worker and set it `running`, if nobody living holds it.

        A run that was never held (attempt 0) takes the event that `tell` makes of it into the archive in the
        same transaction: the run as it stands then, with the event's own place as its `last`.

        From `queued`, `delayed`, or parked in `awaiting_approval` or `awaiting_input`, the attempt goes up by one;
        from `retrying` it stays (it was raised with the status). From a status that a worker holds it is taken, as the
        next attempt and, unless it waited there, with one loss more, only if that worker's lease has run out or that
        worker is the one who asks (who has lost it, then). None: there is no such run, it has ended, it isn't due yet
        (a parked one without `due_at` never is), another living worker has it, or, before its first start, as many runs
        of its limit's key as may be are under way. A requested cancel stays requested. The claim clears `due_at`.
        """
        ...

    async def commit(self, commit: Commit) -> None:
        """Write one attempt's events, status, steps, memos and requests.

        A change that parks takes the run from its worker; if a request was answered meanwhile and isn't resolved, or
        the cancel was requested, the run is due at once. `retrying` takes it, too, and raises the attempt. A request
        that is written again keeps the answer that the store has.

        Raises:
            StaleAttemptError: the run is at another attempt, parked or has ended; nothing was written.

        """
        ...

    async def take_from_dead(
        self, run_id: str, decide: Callable[[Run], tuple[StatusChange, LoggedEvent | None]], *, now: datetime
    ) -> Run | None:
        """Take a run away from a worker whose lease has run out, with the status and event that `decide` makes from
        the run as it stands (its number is `run.last.seq + 1`, its attempt at least the run's). From `retrying` any
        worker may claim it, and one loss is counted. A change that parks changes nothing but that nobody holds the
        run: it is due at once if a request was answered and isn't resolved, else at the first of: when it was to go on
        as the run or the change says, and when an open request expires. None if its worker lives, or nobody holds it.
        """
        ...

    async def check_attempt(self, run_id: str, attempt: int) -> None:
        """Return if the run is at this attempt.

        Raises:
            StaleAttemptError: it isn't, or the run is parked.

        """
        ...

    async def read_heads(self, run_ids: Sequence[str]) -> Mapping[str, Head]:
        """How far each run has got, by id; unknown ids are absent. One query, however many."""
        ...

    async def cancel_unheld(self, run_id: str, event: Callable[[Run], LoggedEvent], *, now: datetime) -> Run | None:
        """End a run that no worker holds (`CANCELED_AT_ONCE`, or parked) as `canceled`, with the event that `event`
        makes from the run as it stands (its number is `run.last.seq + 1`, its attempt the run's). None if a worker
        holds it or it has ended.
        """
        ...

    async def request_cancel(self, run_id: str, *, now: datetime) -> Run | None:
        """Note that a held run shall be canceled, and return it. None if it is not held."""
        ...

    async def list_unattended(self, *, now: datetime, queued_before: datetime, limit: int) -> Sequence[Run]:
        """Runs that the queue should know of: those that wait, are due, may start as far as their limit goes, and have
        been so since before `queued_before`; and those held by a worker whose lease has run out by `now`. The oldest
        first.
        """
        ...

    async def find_next(self, limit_key: str, *, now: datetime | None = None) -> Run | None:
        """The run of a limit's key that is to start next: of those that are queued, and with `now` also of those that
        were delayed and are due, the one with the highest priority, then the oldest. None if there is none, or as many
        as may be are under way.
        """
        ...

    async def list_under_way(self, limit_key: str) -> Sequence[str]:
        """Ids of the runs of a limit's key that have not ended, the oldest first."""
        ...

    async def list_children(self, run_id: str) -> Sequence[Run]:
        """The runs that a run has started, the oldest first."""
        ...

    async def read_memos(self, run_id: str) -> Mapping[str, Any]:
        """A run's memos by key."""
        ...

    async def list_requests(self, run_id: str) -> Sequence[Request]:
        """What a run has asked people, in the order of asking."""
        ...

    async def answer_request(self, run_id: str, request_id: str, answer: Answer) -> Run:
        """Keep the answer to an open request, once. A parked run is due from now on. Returns the run.

        Raises:
            RunNotFoundError, RequestNotFoundError: there is no such run, or it hasn't asked that.
            RequestClosedError: it was answered before, it has expired, or the run has ended.

        """
        ...

    async def read_events(self, run_id: str, after: Cursor, *, limit: int) -> Sequence[LoggedEvent]:
        """Archived events after the cursor as the log orders them, (attempt, seq); by seq alone for a plain seq."""
        ...

    async def renew_lease(self, worker_id: str, *, until: datetime) -> Attention:
        """Say that the worker lives until then, and return which of its runs were canceled or answered meanwhile."""
        ...

    async def end_lease(self, worker_id: str) -> None:
        """The worker has stopped: its runs may be taken at once."""
        ...

    async def ping(self) -> None:
        """Return if the database answers."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let the database go."""
        ...


class StatsBoard(Protocol):
    """Where the gateway processes of one installation tell each other how they are doing.

    *Repetition*: a later report of a process takes the place of its earlier one. *Expiry*: a report that isn't renewed
    disappears after the board's time to live, so a process that died is soon gone. *Order*: none. *Failure*: reports
    may be lost, a read is never of one moment, and what can't be read is left out. When the board can't be reached
    every method raises `UnavailableError`.
    """

    async def post(self, report: GatewayReport) -> None:
        """Put up the report of a process, in one round trip."""
        ...

    async def withdraw(self, gateway_id: str) -> None:
        """Take down the report of a process that stops."""
        ...

    async def read(self) -> Sequence[GatewayReport]:
        """The reports of the living processes."""
        ...


class ArtifactStore(Protocol):
    """Keeps bytes that runs have made, each under a place of its own: `<run id>/<something>`.

    *Atomicity*: what was put can be read whole or not at all; a `put` that fails, is cancelled or dies with its process
    leaves nothing that can be read. *Repetition*: putting again to a place replaces what is there. *Memory*: of what is
    put in chunks it holds a few at a time, and of what is read no more than was asked for. *Failure*: when the store
    can't be reached, or refuses, every method raises `UnavailableError`. Nothing blocks the event loop.
    """

    async def put(self, place: str, data: bytes | Iterator[bytes]) -> None:
        """Keep the bytes, or the chunks one after the other. Chunks are read in a thread; what they raise comes out
        here.
        """
        ...

    async def read(self, place: str, start: int, end: int) -> bytes | None:
        """The bytes from `start` up to but not including `end`, all within what was put. None: nothing is there."""
        ...

    async def delete_run(self, run_id: str) -> None:
        """Let go of all that was put for a run, whether somebody still knows of it or not."""
        ...


class ActiveJob(Protocol):
    """A job that this worker has in hand. The queue keeps it from others for as long as the worker lives."""

    @property
    def job(self) -> Job:
        """What the producer wrote."""
        ...

    async def finish(self, error: RunError | None = None, *, take_next: bool = False) -> "ActiveJob | None":
        """The job is over: it leaves the queue, as failed if there is an error. Never raises `UnavailableError`.

        With `take_next` the next job comes back in the same round trip, if there is one: it takes this one's place.
        """
        ...

    async def release(self, *, delay_seconds: float = 0) -> None:
        """Give the job back for another worker, after the delay."""
        ...

    async def discard(self) -> None:
        """The job leaves the queue without a trace: the same may be added again. Never raises `UnavailableError`."""
        ...


class JobQueue(Protocol):
    """Hands jobs to workers. The store is the truth: a job that comes twice or late is recognised there.

    *Delivery*: at least once, oldest first. *Repetition*: adding a job whose id is in the queue changes nothing.
    *Failure*: jobs of a dead worker come back by themselves; when the queue can't be reached, `add` raises
    `UnavailableError` and `take` waits until it can be reached again.
    """

    async def add(self, job: Job, *, delay_seconds: float = 0, priority: int = 0) -> None:
        """Put a job into the queue. Among those that wait the higher priority goes first."""
        ...

    async def set_schedules(self, schedules: Mapping[str, Schedule]) -> None:
        """Have exactly these schedules, by name: at each of a schedule's times its job is added, once for all
        processes. The names are this application's own: what else schedules jobs in the queue is left alone.
        """
        ...

    async def take(self) -> ActiveJob:
        """The next job, as soon as there is one. For one caller at a time."""
        ...

    async def close(self) -> None:
        """Take no more, and let the connections go. Jobs still in hand come back after their lock has run out."""
        ...
