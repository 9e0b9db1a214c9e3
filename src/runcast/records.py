"""What the store keeps of a run, a step and a worker: plain values that every layer may hold.

Times are aware datetimes in UTC; payloads, inputs and outputs are JSON values.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from runcast.events import Cursor, LoggedEvent, RunStatus, StepStatus

_RUN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_run_id(text: str) -> bool:
    """Whether a run may have this id: nothing in it can mean something to Redis, a URL or a file name."""
    return _RUN_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunError:
    """Why a run or a step failed: a stable code for programs, a sentence for people."""

    code: str
    message: str


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A run's new status, with what comes with it."""

    status: RunStatus
    at: datetime
    output: Any = None
    error: RunError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What one attempt writes in one transaction: events for the archive, the status, steps. All of it or nothing."""

    run_id: str
    attempt: int
    events: Sequence[LoggedEvent]
    change: StatusChange | None = None
    steps: Sequence[Step] = ()


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


class Unattended(NamedTuple):
    """A run that the queue should know of: what a sweep needs of it, without the input, which may be large."""

    id: str
    runner: str
    status: RunStatus
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs a list shows. `text` is looked for in id, prompt and runner name, without case."""

    status: RunStatus | None = None
    tag: str | None = None
    text: str | None = None
    runner: str | None = None


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
