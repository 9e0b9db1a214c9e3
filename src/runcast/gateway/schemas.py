"""What the REST API takes and gives, as models: they check the input and describe themselves in OpenAPI."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from runcast.events import RunStatus, StepStatus, format_ts
from runcast.records import GatewayReport, LinkState, Run, RunError, Step
from runcast.services.stats import Survey

Timestamp = Annotated[datetime, PlainSerializer(format_ts, return_type=str)]


class Schema(BaseModel):
    """Camel case on the wire, and no key that isn't known."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", serialize_by_alias=True)


class NewRunBody(Schema):
    """A prompt, or a runner with its input."""

    prompt: str | None = Field(default=None, examples=["Post 'Hello from Quik.day!' on LinkedIn"])
    runner: str | None = Field(default=None, max_length=200)
    input: dict[str, Any] | None = None
    tags: list[str] = Field(default_factory=list)
    idempotency_key: str | None = Field(default=None, description="The same key gives the same run.")


class NewRunnerRunBody(Schema):
    """A runner's input."""

    input: dict[str, Any] = Field(default_factory=dict)
    tags: list[str] = Field(default_factory=list)
    idempotency_key: str | None = None


class Links(Schema):
    """Where the run is found."""

    self: str
    events: str
    cancel: str
    watch: str
    page: str

    @classmethod
    def of(cls, run_id: str, *, prefix: str) -> Self:
        """A run's links, relative to the server; below a prefix if the gateway is mounted there."""
        path = f"{prefix}/runs/{run_id}"
        return cls(
            self=path,
            events=f"{path}/events",
            cancel=f"{path}/cancel",
            watch=f"{prefix}/ws/runs/{run_id}",
            page=path,
        )


class RunReceipt(Schema):
    """A run was stored, or changed."""

    run_id: str
    status: RunStatus
    links: Links


class ErrorView(Schema):
    """Why a run or a step failed."""

    code: str
    message: str

    @classmethod
    def of(cls, error: RunError | None) -> Self | None:
        """The view of an error that may not be there."""
        return cls(code=error.code, message=error.message) if error else None


class RunView(Schema):
    """A run as the database has it."""

    run_id: str
    runner: str
    status: RunStatus
    attempt: int = Field(description="0 before a worker has taken it.")
    prompt: str | None
    input: Mapping[str, Any]
    tags: list[str]
    output: Any
    error: ErrorView | None
    last_seq: int = Field(description="Seq of the last event in the archive.")
    created_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None

    @classmethod
    def of(cls, run: Run, **more: Any) -> Self:
        """The view of a run."""
        return cls(
            run_id=run.id,
            runner=run.runner,
            status=run.status,
            attempt=run.attempt,
            prompt=run.prompt,
            input=run.input,
            tags=list(run.tags),
            output=run.output,
            error=ErrorView.of(run.error),
            last_seq=run.last.seq,
            created_at=run.created_at,
            started_at=run.started_at,
            ended_at=run.ended_at,
            **more,
        )


class StepView(Schema):
    """A step of a run."""

    step_id: str
    name: str
    index: int
    status: StepStatus
    attempt: int
    input: Any
    output: Any
    error: ErrorView | None
    started_at: Timestamp | None
    ended_at: Timestamp | None

    @classmethod
    def of(cls, step: Step) -> Self:
        """The view of a step."""
        return cls(
            step_id=step.id,
            name=step.name,
            index=step.index,
            status=step.status,
            attempt=step.attempt,
            input=step.input,
            output=step.output,
            error=ErrorView.of(step.error),
            started_at=step.started_at,
            ended_at=step.ended_at,
        )


class RunWithSteps(RunView):
    """A run and its steps."""

    steps: list[StepView]


class RunList(Schema):
    """A page of runs, newest first."""

    runs: list[RunView]
    next_before: str | None = Field(description="Give it as `before` for the next page; null on the last one.")


class EventPageView(Schema):
    """Events that follow each other. `rewind` is there if the log went back: forget what you have after it first."""

    events: list[dict[str, Any]]
    cursor: str = Field(description="Give it as `after` for what comes next.")
    final: bool = Field(description="The run has ended and all is given.")
    rewind: str | None = None


class RunnerView(Schema):
    """A registered runner."""

    name: str
    description: str
    input_schema: dict[str, Any]


class RunnerList(Schema):
    """All runners."""

    runners: list[RunnerView]


class ConnectionView(Schema):
    """One watcher. `duration` is in milliseconds."""

    run_id: str
    transport: str = Field(description="`websocket`, `multiplex` (one of several on a socket), `sse` or `long-poll`.")
    duration: int
    last_status: str


class RedisView(Schema):
    """The subscriptions of a gateway, or of all."""

    channels: int
    handlers: int
    connected: bool

    @classmethod
    def of(cls, *links: LinkState) -> Self:
        """The view of one link, or of several added up: connected if all are."""
        return cls(
            channels=sum(link.channels for link in links),
            handlers=sum(link.handlers for link in links),
            connected=all(link.connected for link in links),
        )


class GatewayView(Schema):
    """One gateway process."""

    id: str
    active_connections: int
    redis: RedisView
    degraded: bool

    @classmethod
    def of(cls, report: GatewayReport) -> Self:
        """The view of a report."""
        return cls(
            id=report.gateway_id,
            active_connections=report.connections,
            redis=RedisView.of(report.link),
            degraded=report.is_degraded,
        )


class Stats(Schema):
    """What the gateways do now, added up."""

    active_connections: int
    redis: RedisView
    connections: list[ConnectionView] = Field(description="At most 200 of them, of each gateway in turn.")
    transport: str = Field(description="`redis`, or `polling` where the database is read in its stead by choice.")
    degraded: bool = Field(description="Redis is away for a gateway, and it reads the database until it is back.")
    complete: bool = Field(description="False: the others can't be asked, and this is the gateway that answers alone.")
    gateways: list[GatewayView] = Field(description="The processes; the one that answers is the first.")
    runs: dict[str, int] = Field(description="How many runs there are by status.")

    @classmethod
    def of(cls, survey: Survey, *, max_listed: int, transport: str, runs: Mapping[str, int]) -> Self:
        """The sum of the reports."""
        reports = survey.reports
        return cls(
            active_connections=sum(report.connections for report in reports),
            redis=RedisView.of(*(report.link for report in reports)),
            connections=list(itertools.islice(_list_connections(reports), max_listed)),
            transport=transport,
            degraded=any(report.is_degraded for report in reports),
            complete=survey.is_complete,
            gateways=[GatewayView.of(report) for report in reports],
            runs=dict(runs),
        )


def _list_connections(reports: Sequence[GatewayReport]) -> Iterator[ConnectionView]:
    """The gateways take turns, so that a busy one leaves room for the others."""
    now = reports[0].at
    for row in itertools.zip_longest(*(report.watchers for report in reports)):
        for report, watcher in zip(reports, row, strict=True):
            if watcher is not None:
                age = max(timedelta(), now - report.at)  # clocks of two machines may differ
                yield ConnectionView(
                    run_id=watcher.run_id,
                    transport=watcher.transport,
                    duration=watcher.duration_ms + age // timedelta(milliseconds=1),
                    last_status=watcher.last_status,
                )


class Health(Schema):
    """An answer to a probe."""

    status: str
    checks: dict[str, str] = Field(default_factory=dict)
