"""What the REST API takes and gives, as models: they check the input and describe themselves in OpenAPI."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from runcast.events import RequestKind, RunStatus, StepStatus, format_ts
from runcast.records import GatewayReport, LinkState, Request, Run, RunError, Step
from runcast.runners import Limit, Runner
from runcast.services.stats import Survey

_MAX_CHILDREN: Final = 200
Timestamp = Annotated[datetime, PlainSerializer(format_ts, return_type=str)]


class Schema(BaseModel):
    """Camel case on the wire, and no key that isn't known."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", serialize_by_alias=True)


class NewRunOptions(Schema):
    """What can be said of any new run."""

    tags: list[str] = Field(default_factory=list)
    idempotency_key: str | None = Field(default=None, description="The same key gives the same run.")
    priority: int = Field(default=0, ge=0, le=100, description="The higher, the sooner among those that wait.")
    delay_seconds: float | None = Field(default=None, description="Not before then; at most a year.")
    due_at: AwareDatetime | None = Field(default=None, description="Not before then; instead of `delaySeconds`.")
    mode: Literal["auto", "approval", "preview"] | None = Field(default=None, description="Of a prompt's plan.")


class NewRunBody(NewRunOptions):
    """A prompt, or a runner with its input."""

    prompt: str | None = Field(default=None, examples=["Post 'Hello from Quik.day!' on LinkedIn"])
    runner: str | None = Field(default=None, max_length=200)
    input: dict[str, Any] | None = None


class NewRunnerRunBody(NewRunOptions):
    """A runner's input."""

    input: dict[str, Any] = Field(default_factory=dict)


class AnswerBody(Schema):
    """An answer to what a run asks."""

    value: Any = Field(description="It has to fit the request's `schema`.")
    request_id: str | None = Field(default=None, max_length=64, description="The only open request unless told.")
    by: str | None = Field(default=None, min_length=1, max_length=200, description="Who answers.")


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
    priority: int
    due_at: Timestamp | None = Field(description="When a run that waits goes on; null: when somebody says so.")
    parent_id: str | None = Field(description="The run that started it.")
    losses: int = Field(description="How often its worker was lost.")
    failures: int = Field(description="How often it failed and was tried again.")

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
            priority=run.priority,
            due_at=run.due_at,
            parent_id=run.parent_id,
            losses=run.losses,
            failures=run.failures,
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
    parent_id: str | None = Field(description="The step that it is part of.")
    has_undo: bool

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
            parent_id=step.parent_id,
            has_undo=step.undo is not None,
        )


class AnswerView(Schema):
    """What was answered, when and by whom."""

    value: Any
    at: Timestamp
    by: str | None


class RequestView(Schema):
    """What a run asks people."""

    request_id: str
    kind: RequestKind
    prompt: str
    answer_schema: Mapping[str, Any] = Field(alias="schema", description="JSON Schema of the answer.")
    preview: Any
    asked_at: Timestamp
    expires_at: Timestamp | None
    answer: AnswerView | None
    resolved: bool = Field(description="The run knows that it was answered, or has expired.")

    @classmethod
    def of(cls, request: Request) -> Self:
        """The view of a request."""
        answer = request.answer
        return cls(
            request_id=request.id,
            kind=request.kind,
            prompt=request.prompt,
            schema=request.schema,
            preview=request.preview,
            asked_at=request.asked_at,
            expires_at=request.expires_at,
            answer=AnswerView(value=answer.value, at=answer.at, by=answer.by) if answer else None,
            resolved=request.is_resolved,
        )


class ChildView(Schema):
    """A run that another has started."""

    run_id: str
    runner: str
    status: RunStatus


class RunWithSteps(RunView):
    """A run, its steps, what it has asked and the runs that it has started."""

    steps: list[StepView]
    requests: list[RequestView]
    children: list[ChildView] = Field(description="At most 200, the oldest; `GET /runs?parent=` has them all.")

    @classmethod
    def of_all(cls, run: Run, steps: Sequence[Step], requests: Sequence[Request], children: Sequence[Run]) -> Self:
        """The view of a run with all that belongs to it."""
        return cls.of(
            run,
            steps=[StepView.of(step) for step in steps],
            requests=[RequestView.of(request) for request in requests],
            children=[
                ChildView(run_id=child.id, runner=child.runner, status=child.status)
                for child in children[:_MAX_CHILDREN]
            ],
        )


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


class LimitView(Schema):
    """How many runs of a runner may be under way at once, and what becomes of one more."""

    most: int
    key: str | None = Field(description="The input that each value of has a limit of its own; null: one for all.")
    on_full: str


class RunnerView(Schema):
    """A registered runner."""

    name: str
    description: str
    input_schema: dict[str, Any]
    retries: int
    timeout_seconds: float | None
    limit: LimitView | None
    cron: str | None

    @classmethod
    def of(cls, runner: Runner) -> Self:
        """The view of a runner."""
        options = runner.options
        return cls(
            name=runner.name,
            description=runner.description,
            input_schema=runner.input_schema,
            retries=options.retries,
            timeout_seconds=options.timeout_seconds,
            limit=_limit_view(options.limit) if options.limit else None,
            cron=options.cron,
        )


def _limit_view(limit: Limit) -> LimitView:
    # A function of the input has a name at least.
    key = limit.key if limit.key is None or isinstance(limit.key, str) else getattr(limit.key, "__name__", "…")
    return LimitView(most=limit.most, key=key, on_full=limit.on_full)


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
