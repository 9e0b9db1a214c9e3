"""What the store keeps of a run, a step and a worker: plain values that every layer may hold.

Times are aware datetimes in UTC; payloads, inputs and outputs are JSON values.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from runcast.events import Cursor, LoggedEvent, RequestKind, RunStatus, StepStatus

_RUN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_run_id(text: str) -> bool:
    """Whether a run may have this id: nothing in it can mean something to Redis, a URL or a file name."""
    return _RUN_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunError:
    """Why a run or a step failed: a stable code for programs, a sentence for people."""

    code: str
    message: str


class RunLimit(NamedTuple):
    """How many runs with the same key may be under way at once: from their first start to their end, waits included."""

    key: str
    most: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that somebody asks for."""

    id: str
    runner: str
    input: Mapping[str, Any]
    created_at: datetime
    prompt: str | None = None
    tags: tuple[str, ...] = ()
    idempotency_key: str | None = None
    priority: int = 0  # the higher the sooner
    due_at: datetime | None = None  # not before then
    parent_id: str | None = None  # the run that started it
    limit: RunLimit | None = None
    is_rejected_when_full: bool = False  # it isn't to wait for its limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as the database has it. `last` is the last event in the archive: deltas may reach it a little late."""

    id: str
    runner: str
    status: RunStatus
    attempt: int
    last: Cursor
    input: Mapping[str, Any]
    created_at: datetime
    prompt: str | None = None
    tags: tuple[str, ...] = ()
    output: Any = None
    error: RunError | None = None
    worker_id: str | None = None
    cancel_requested_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    priority: int = 0
    due_at: datetime | None = None  # when a run that waits is to go on; None: when somebody says so
    parent_id: str | None = None
    losses: int = 0  # how often its worker was lost
    failures: int = 0  # how often it failed and was tried again
    limit: RunLimit | None = None


class Undo(NamedTuple):
    """How a step is undone: a function that the application has registered, and what it is called with."""

    function: str  # `module:qualified name`
    args: Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A named part of a run. Kept under (run_id, id): writing it again replaces it."""

    run_id: str
    id: str
    name: str
    index: int
    status: StepStatus
    attempt: int
    input: Any = None
    output: Any = None
    error: RunError | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    parent_id: str | None = None  # the step that it is part of
    undo: Undo | None = None


class Memo(NamedTuple):
    """A fact that a later attempt has to know, under a key of the run: a text that was said, the end of a sleep."""

    key: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something that a run has made: bytes that are kept, or a link to what is elsewhere."""

    id: str
    name: str  # for people; never part of a path
    content_type: str
    url: str  # a path of the API, or the address of what is only linked
    size: int | None = None  # in bytes; None for a link, as the next two
    sha256: str | None = None  # of the bytes, in hex
    place: str | None = None  # where the artifact store has them


class Answer(NamedTuple):
    """What somebody answered, and who: the name of the principal, or the one given with it."""

    value: Any
    at: datetime
    by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question that a run asks people. Kept under (run_id, id). It is open until it is resolved: told as answered or
    expired by whoever holds the run.
    """

    run_id: str
    id: str
    kind: RequestKind
    prompt: str
    schema: Mapping[str, Any]  # JSON Schema of the answer
    asked_at: datetime
    preview: Any = None
    expires_at: datetime | None = None
    answer: Answer | None = None
    is_resolved: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A run's new status, with what comes with it."""

    status: RunStatus
    at: datetime
    output: Any = None
    error: RunError | None = None
    due_at: datetime | None = None  # when a run that nobody holds is to go on
    is_parked: bool = False  # nobody holds the run from here on, though its status alone wouldn't say so
    is_failure: bool = False  # it counts as a failure that is tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What one attempt writes in one transaction: events for the archive, the status, steps. All of it or nothing."""

    run_id: str
    attempt: int
    events: Sequence[LoggedEvent]
    change: StatusChange | None = None
    steps: Sequence[Step] = ()
    memos: Sequence[Memo] = ()
    requests: Sequence[Request] = ()


class Attention(NamedTuple):
    """Runs of a worker that something has happened to: their cancel was requested, or a request was answered."""

    canceled: Sequence[str]
    answered: Sequence[str]


class Claim(NamedTuple):
    """The right to execute a run, as its `run.attempt`. `previous` is the status the run was found in; `told` the event
    that was archived with the claim, if one was.
    """

    run: Run
    previous: RunStatus
    told: LoggedEvent | None = None


class Head(NamedTuple):
    """How far a run has got in the database: its last archived event and its status."""

    last: Cursor
    status: RunStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs a list shows. `text` is looked for in id, prompt and runner name, without case."""

    status: RunStatus | None = None
    tag: str | None = None
    text: str | None = None
    runner: str | None = None
    parent_id: str | None = None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs, newest first. `next_before` is the id to ask for the next page with, None on the last page."""

    runs: Sequence[Run]
    next_before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """The subscriber's connection to Redis, for stats."""

    channels: int
    handlers: int
    connected: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherReport:
    """One watcher, for stats."""

    run_id: str
    transport: str
    duration_ms: int
    last_status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReport:
    """What one gateway process says of itself, for stats. `watchers` is bounded; `connections` counts all."""

    gateway_id: str
    at: datetime
    connections: int
    link: LinkState
    is_degraded: bool  # Redis is away, and the database is read in its stead
    watchers: tuple[WatcherReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An entry of the queue. `data` is what the producer wrote: ours says `runId`, a foreign one may say `prompt`."""

    id: str
    name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    added_ms: int = 0  # when it was added, by the producer's clock, in milliseconds of Unix time


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a job is added again and again: a cron expression (five fields, or six with seconds) in a time zone."""

    cron: str
    job_name: str
    data: Mapping[str, Any] = field(default_factory=dict)
    timezone: str = "UTC"
