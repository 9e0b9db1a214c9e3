"""The REST API: what `RunService` offers, over HTTP. Never decides anything about runs itself."""

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse

from runcast.core.access import KEY_HOLDER, LOCAL_USER
from runcast.errors import RuncastError
from runcast.events import START, RunStatus
from runcast.gateway import sse
from runcast.gateway.connections import Connections
from runcast.gateway.frames import read_start
from runcast.gateway.longpoll import MAX_WAIT_SECONDS, EventPage, LongPoll
from runcast.gateway.mounting import prefix_of
from runcast.gateway.reports import MAX_LISTED_CONNECTIONS
from runcast.gateway.schemas import (
    AnswerBody,
    EventPageView,
    Health,
    Links,
    NewRunBody,
    NewRunnerRunBody,
    RunList,
    RunnerList,
    RunnerView,
    RunReceipt,
    RunView,
    RunWithSteps,
    Stats,
)
from runcast.gateway.websocket import WebSocketService
from runcast.ports import RunLog, RunStore
from runcast.records import Run, RunFilter
from runcast.registry import RunnerRegistry
from runcast.services.history import MAX_EVENTS_PER_READ, History
from runcast.services.hub import RunHub
from runcast.services.runs import RunRequest, RunService
from runcast.services.stats import StatsService

RunId = Annotated[str, Path(max_length=64, examples=["0123456789abcdefghjkmnpqrs"])]
CursorText = Annotated[str | None, Query(max_length=40, description="`<attempt>-<seq>` or a plain seq; 0 unless told.")]
PROBE_TIMEOUT_SECONDS: Final = 2.0

_Responses = dict[int | str, dict[str, Any]]
_STREAM: Final[dict[str, Any]] = {sse.MEDIA_TYPE: {"schema": {"type": "string"}}}
_CREATED: Final[_Responses] = {
    200: {"model": RunReceipt, "description": "The idempotency key is known: its run", "content": _STREAM},
    201: {"description": "The run, or its event stream", "content": _STREAM},
}
_UNDOING: Final[_Responses] = {200: {"model": RunReceipt, "description": "The run that undoes it is there already"}}
_EVENTS: Final[_Responses] = {
    200: {
        "model": EventPageView,
        "description": "A page of events, or the run's event stream",
        "content": _STREAM,
    },
    204: {"description": "To an event stream that comes back after the end: there is nothing more"},
}


def create_api(
    *,
    app: RunnerRegistry,
    runs: RunService,
    store: RunStore,
    log: RunLog,
    history: History,
    hub: RunHub,
    sockets: WebSocketService,
    stats: StatsService,
) -> APIRouter:
    """The routes."""
    router = APIRouter()
    # Routes are tried in this order, and runs are created more often than anything else is asked for.
    _add_runner_routes(router, app, runs, sockets.connections)
    # Before those of runs: /runs/{run_id} would take "stats" for an id.
    _add_state_routes(router, runs=runs, store=store, log=log, hub=hub, stats=stats)
    _add_run_routes(router, runs, sockets.connections)
    _add_event_routes(router, runs, history, sockets.connections)
    return router


def describe_api(routes: Any) -> dict[str, Any]:
    """The OpenAPI 3.1 document, in which every error is a problem."""
    document = get_openapi(
        title="Runcast",
        version="1",
        openapi_version="3.1.0",
        routes=routes,
        description="Runs executed by workers and shown live. Errors are `application/problem+json` (RFC 9457).",
    )
    document["components"]["schemas"].pop("HTTPValidationError", None)
    document["components"]["schemas"].pop("ValidationError", None)
    document["components"]["schemas"]["Problem"] = {
        "type": "object",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string"},
            "field": {"type": "string"},
        },
    }
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for methods in document["paths"].values():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "A problem", "content": content}
    return document


def _add_run_routes(router: APIRouter, runs: RunService, connections: Connections) -> None:
    @router.post("/runs", status_code=201, tags=["runs"], response_model=RunReceipt, responses=_CREATED)
    async def create_run(body: NewRunBody, request: Request) -> Response:
        """Create a run from a prompt, or from a runner's name and input. 200 if the idempotency key is known.

        With `Accept: text/event-stream` the answer is the run's event stream, from its first event on.
        """
        asked = RunRequest(**dict(body))
        return await _create(runs, asked, connections, request)

    @router.get("/runs", tags=["runs"])
    async def list_runs(  # noqa: PLR0917 - query parameters, given by name
        status: RunStatus | None = None,
        tag: Annotated[str | None, Query(max_length=64)] = None,
        q: Annotated[str | None, Query(max_length=200, description="Text in id, prompt or runner.")] = None,
        runner: Annotated[str | None, Query(max_length=200)] = None,
        parent: Annotated[str | None, Query(max_length=64, description="The run that started them.")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        before: Annotated[str | None, Query(max_length=64)] = None,
    ) -> RunList:
        """Runs, newest first."""
        where = RunFilter(status=status, tag=tag, text=q or None, runner=runner, parent_id=parent)
        page = await runs.list(where, limit=limit, before=before)
        return RunList(runs=[RunView.of(run) for run in page.runs], next_before=page.next_before)

    @router.get("/runs/{run_id}", tags=["runs"])
    async def get_run(run_id: RunId) -> RunWithSteps:
        """One run with its steps, what it has asked people, and the runs that it has started."""
        run = await runs.get(run_id)
        steps, requests, children = await asyncio.gather(
            runs.list_steps(run_id), runs.list_requests(run_id), runs.list_children(run_id)
        )
        return RunWithSteps.of_all(run, steps, requests, children)

    @router.post("/runs/{run_id}/cancel", status_code=202, tags=["runs"])
    async def cancel_run(run_id: RunId, request: Request) -> RunReceipt:
        """End a waiting run at once; have a running one stopped. Watchers see it as it happens.

        The runs that it has started are canceled with it.
        """
        return _receipt(await runs.cancel(run_id), request)

    @router.post("/runs/{run_id}/input", status_code=202, tags=["runs"])
    async def answer_run(run_id: RunId, body: AnswerBody, request: Request) -> RunReceipt:
        """Answer what the run asks, once. Without `requestId` its only open request is meant."""
        return _receipt(await runs.answer(run_id, body.request_id, body.value, _answered_by(request, body.by)), request)

    @router.post("/runs/{run_id}/undo", status_code=201, tags=["runs"], response_model=RunReceipt, responses=_UNDOING)
    async def undo_run(run_id: RunId, request: Request) -> Response:
        """Undo the steps of an ended run, the last first, in a run of its own. 200 if there is one already."""
        return _answer_created(*await runs.undo(run_id), request)


def _answered_by(request: Request, said: str | None) -> str | None:
    """Who answers: whom the application around us knows; else, as keys have no names, who they say they are."""
    principal = request.scope.get("principal", LOCAL_USER)
    return said if principal is LOCAL_USER or principal is KEY_HOLDER else principal.name


def _add_event_routes(router: APIRouter, runs: RunService, history: History, connections: Connections) -> None:
    @router.get("/runs/{run_id}/events", tags=["runs"], response_model=None, responses=_EVENTS)
    async def list_events(  # noqa: PLR0917 - parameters of the request, given by name
        run_id: RunId,
        request: Request,
        after: CursorText = None,
        starting_after: CursorText = None,
        last_event_id: Annotated[str | None, Header(max_length=40, description="As `after`, and wins over it.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS_PER_READ)] = MAX_EVENTS_PER_READ,
        wait: Annotated[
            float, Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for the next event if there is none.")
        ] = 0,
        snapshot: Annotated[  # noqa: FBT002 - a query parameter
            bool, Query(description="Event stream: begin with a snapshot, if no cursor is given.")
        ] = False,
    ) -> Response:
        """Events after a cursor. `cursor` is where to go on; `final` says that the run has ended and all is given.

        With `Accept: text/event-stream` they come as a stream, which ends with the run.
        """
        start = read_start(after, starting_after, last_event_id=last_event_id)
        if sse.is_wanted(request.headers.get("accept")):
            return sse.EventStream(connections, run_id, start=start, snapshot=snapshot)
        if wait:
            return LongPoll(connections, run_id, after=start or START, limit=limit, wait_seconds=wait)
        run = await runs.get(run_id)
        events = await history.read(run_id, start or START, limit=limit)
        page = EventPage.of(start or START, events, limit=limit)
        has_all = len(page.events) == len(events) and page.cursor.seq >= run.last.seq
        is_final = run.status.is_final and has_all
        return Response(page.encode(is_final=is_final), media_type="application/json", headers={"vary": "accept"})


def _add_runner_routes(router: APIRouter, app: RunnerRegistry, runs: RunService, connections: Connections) -> None:
    @router.get("/runners", tags=["runners"])
    async def list_runners() -> RunnerList:
        """Every runner, with the JSON Schema of its input."""
        return RunnerList(runners=[RunnerView.of(runner) for runner in app.runners.values()])

    @router.post(
        "/runners/{name}/runs", status_code=201, tags=["runners"], response_model=RunReceipt, responses=_CREATED
    )
    async def create_runner_run(
        name: Annotated[str, Path(max_length=200)], body: NewRunnerRunBody, request: Request
    ) -> Response:
        """Create a run of this runner; with `Accept: text/event-stream`, and follow it."""
        asked = RunRequest(runner=name, **dict(body))
        return await _create(runs, asked, connections, request)


def _add_state_routes(
    router: APIRouter, *, runs: RunService, store: RunStore, log: RunLog, hub: RunHub, stats: StatsService
) -> None:
    @router.get("/runs/stats", tags=["state"])
    async def get_stats() -> Stats:
        """Connections and subscriptions of all gateways, and how many runs there are."""
        survey = await stats.survey()
        runs_by_status = await runs.count()
        return Stats.of(survey, max_listed=MAX_LISTED_CONNECTIONS, transport=hub.transport, runs=runs_by_status)

    @router.get("/healthz", tags=["state"])
    async def get_health() -> Health:
        """The process lives."""
        return Health(status="ok")

    @router.get("/readyz", tags=["state"])
    async def get_readiness() -> JSONResponse:
        """The process can serve: database and Redis answer. 503 otherwise, naming the part that doesn't."""
        database, redis = await asyncio.gather(_check(store.ping()), _check(log.ping()))
        is_ready = database == redis == "ok"
        health = Health(status="ok" if is_ready else "unavailable", checks={"database": database, "redis": redis})
        return JSONResponse(health.model_dump(), status_code=200 if is_ready else 503)


async def _create(runs: RunService, asked: RunRequest, connections: Connections, request: Request) -> Response:
    is_followed = sse.is_wanted(request.headers.get("accept"))
    if is_followed:
        connections.check_capacity()  # before there is a run that nobody is told of
    run, created = await runs.create(asked)
    answer = _answer_created(run, created, request)
    answer.headers["vary"] = "accept"
    if is_followed:
        headers = {name: answer.headers[name] for name in ("location", "vary")}
        return sse.EventStream(connections, run.id, status_code=answer.status_code, headers=headers)
    return answer


def _answer_created(run: Run, created: bool, request: Request) -> Response:  # noqa: FBT001 - what the service says
    receipt = _receipt(run, request)
    return Response(
        receipt.model_dump_json(),
        status_code=201 if created else 200,
        headers={"location": receipt.links.self},
        media_type="application/json",
    )


def _receipt(run: Run, request: Request) -> RunReceipt:
    return RunReceipt(run_id=run.id, status=run.status, links=Links.of(run.id, prefix=prefix_of(request.scope)))


async def _check(probe: Awaitable[None]) -> str:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
            await probe
    except (RuncastError, TimeoutError) as error:
        return str(error) or "did not answer in time"
    return "ok"
