"""The server: REST, console and WebSocket as one ASGI app.

`create_app` takes parts that are ready and puts the edge around them; who makes, starts and stops the parts is
`assembly`.
"""

from fastapi import FastAPI, Request, WebSocket
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from runcast.config import Settings
from runcast.core.access import AccessPolicy
from runcast.gateway.api import create_api, describe_api
from runcast.gateway.artifacts import ArtifactsAsTheyAre, create_artifact_routes
from runcast.gateway.console import ConsolePages, console_routes
from runcast.gateway.edge import Authorize, Edge
from runcast.gateway.mounting import prefix_of
from runcast.gateway.problems import add_problem_handlers
from runcast.gateway.tags import RunTags
from runcast.gateway.upgrades import Upgrades
from runcast.gateway.websocket import WebSocketService
from runcast.ports import RunLog, RunStore
from runcast.registry import RunnerRegistry
from runcast.services.artifacts import ArtifactService
from runcast.services.history import History
from runcast.services.hub import RunHub
from runcast.services.runs import RunService
from runcast.services.stats import StatsService


def create_app(
    settings: Settings,
    *,
    app: RunnerRegistry,
    runs: RunService,
    store: RunStore,
    log: RunLog,
    hub: RunHub,
    sockets: WebSocketService,
    stats: StatsService,
    artifacts: ArtifactService,
    has_console: bool = True,
    authorize: Authorize | None = None,
) -> ASGIApp:
    """The whole server over started parts; without the console it may be mounted anywhere.

    `authorize` says who asks where it isn't the key that does.
    """
    api = FastAPI(title="Runcast", docs_url=None, redoc_url=None, openapi_url=None)
    add_problem_handlers(api)
    history = History(log=log, store=store)
    # Fast path: a router that is included looks for a request's route twice, and wraps each look (`bench.runs noop`).
    api.router.routes += [
        *create_api(
            app=app, runs=runs, store=store, log=log, history=history, hub=hub, sockets=sockets, stats=stats
        ).routes,
        *create_artifact_routes(artifacts).routes,
    ]
    _add_sockets(api, sockets, RunTags(runs.get))
    description = describe_api(api.routes)

    @api.get("/openapi.json", include_in_schema=False)
    async def get_description(request: Request) -> dict[str, object]:
        prefix = prefix_of(request.scope)
        return description | ({"servers": [{"url": prefix}]} if prefix else {})

    if has_console:
        api.router.routes.extend(console_routes())
    # Event streams are let through as they are: text/event-stream is among the types that this never compresses.
    pages = ConsolePages(api) if has_console else api
    return Edge(
        ArtifactsAsTheyAre(pages, otherwise=GZipMiddleware(pages, minimum_size=1024)),
        policy=_policy_of(settings, is_identified=authorize is not None),
        max_body_bytes=settings.max_body_bytes,
        has_pages=has_console,
        authorize=authorize,
    )


def create_upgrades(settings: Settings, *, runs: RunService, sockets: WebSocketService) -> Upgrades:
    """What serves the WebSockets of a server of our own: the app's routes for them are for other servers."""
    return Upgrades(policy=_policy_of(settings), sockets=sockets, tags=RunTags(runs.get))


def _policy_of(settings: Settings, *, is_identified: bool = False) -> AccessPolicy:
    return AccessPolicy(
        api_key=settings.api_key.get_secret_value() if settings.api_key else None,
        allowed_hosts=(*settings.allowed_hosts, settings.host),
        allowed_origins=settings.allowed_origins,
        is_identified=is_identified,
    )


def _add_sockets(api: FastAPI, sockets: WebSocketService, tags: RunTags) -> None:
    @api.websocket("/ws/runs/{run_id}")
    async def watch_run(socket: WebSocket, run_id: str) -> None:
        await sockets.serve_run(socket, run_id)

    @api.websocket("/ws/runs")
    async def watch_runs(socket: WebSocket) -> None:
        await sockets.serve_runs(socket, tags)
