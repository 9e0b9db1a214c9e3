"""The composition root: makes the parts, puts them together, starts and stops them. Nothing else names a backend."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from runcast.agent.runner import register_prompt_runner
from runcast.backends.artifacts import open_artifacts
from runcast.backends.bullmq_queue import BullMQQueue
from runcast.backends.polling import PollingLog
from runcast.backends.redis_client import close_redis, open_redis
from runcast.backends.redis_cluster_log import open_run_log
from runcast.backends.redis_stats import RedisStatsBoard
from runcast.backends.sql import SqlRunStore, open_store
from runcast.backends.sql import migrate as migrate_database
from runcast.concurrency import end_tasks
from runcast.config import Settings
from runcast.errors import ConfigurationError, UnavailableError
from runcast.gateway.door import Door
from runcast.gateway.edge import Authorize
from runcast.gateway.reports import report_gateway
from runcast.gateway.server import create_app, create_upgrades
from runcast.gateway.socket import GatewaySocket
from runcast.gateway.upgrades import Upgrades
from runcast.gateway.websocket import WebSocketService
from runcast.logs import get_logger
from runcast.ports import JobQueue, RunLog, RunStore, StatsBoard
from runcast.registry import RunnerRegistry
from runcast.runners import PROMPT_RUNNER, UNDO_RUNNER
from runcast.services.artifacts import ArtifactService
from runcast.services.execution import ExecutionLimits
from runcast.services.handover import ChildRuns
from runcast.services.hub import RunHub
from runcast.services.processor import RunProcessor
from runcast.services.runs import RunService
from runcast.services.stats import StatsService
from runcast.services.sweeper import Sweeper
from runcast.services.undoing import register_undo_runner

log = get_logger()

_BACKLOG: Final = 4096
_ACCEPTED_PER_TURN: Final = 4
"""uvloop accepts one connection per listener in a turn of the event loop. More would hold up events longer."""

_CLOSING_SECONDS: Final = 5
_READY_CHECK_SECONDS: Final = 0.05
_REPORTS_PER_HEARTBEAT: Final = 4


def utc_now() -> datetime:
    """The clock that every part is given."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What API and worker have in common, started."""

    app: RunnerRegistry
    store: SqlRunStore
    log: RunLog
    queue: JobQueue
    runs: RunService
    board: StatsBoard
    artifacts: ArtifactService
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """API and gateway as an ASGI app, started."""

    served: ASGIApp
    upgrades: Upgrades  # what serves WebSockets where the server is ours
    sockets: WebSocketService
    parts: Parts


async def migrate(settings: Settings) -> None:
    """Bring the database to the present schema."""
    await migrate_database(settings.database)


@asynccontextmanager
async def open_parts(
    settings: Settings, app: RunnerRegistry, *, clock: Callable[[], datetime] = utc_now
) -> AsyncIterator[Parts]:
    """Make and start the common parts, and let them go in the reverse order."""
    if settings.redis_url is None:
        raise ConfigurationError("REDIS_URL is not set: `runcast up` starts a Redis of its own, its parts alone don't")
    if PROMPT_RUNNER not in app.runners:
        register_prompt_runner(app, settings)
    if UNDO_RUNNER not in app.runners:
        register_undo_runner(app)
    async with AsyncExitStack() as stack:
        store = await open_store(settings.database)
        stack.push_async_callback(store.close)
        client = open_redis(settings.redis_url)
        stack.push_async_callback(close_redis, client)
        run_log = open_run_log(
            client, retention_seconds=settings.log_retention_seconds, max_events=settings.log_max_events
        )
        await run_log.start()
        stack.push_async_callback(run_log.close)
        queue = BullMQQueue(settings.redis_url, lock_seconds=settings.lease_seconds)
        stack.push_async_callback(queue.close)
        runs = RunService(
            app=app,
            store=store,
            log=run_log,
            queue=queue,
            clock=clock,
            max_prompt_chars=settings.max_prompt_chars,
        )
        board = RedisStatsBoard(client, ttl_seconds=settings.heartbeat_seconds)
        artifacts = ArtifactService(
            artifacts=open_artifacts(settings.artifacts),
            store=store,
            make_token=partial(secrets.token_hex, 8),
            max_bytes=settings.max_artifact_bytes,
            max_per_run=settings.max_artifacts,
        )
        yield Parts(
            app=app,
            store=store,
            log=run_log,
            queue=queue,
            runs=runs,
            board=board,
            artifacts=artifacts,
            clock=clock,
        )


async def serve_worker(
    settings: Settings,
    app: RunnerRegistry,
    *,
    on_ready: Callable[[], None] = lambda: None,
    retire: asyncio.Event | None = None,
) -> None:
    """Execute runs until cancelled, or until it is told to retire and has finished what it had begun.

    `on_ready` is called once database and Redis have been reached.
    """
    async with open_parts(settings, app) as parts:
        processor = make_processor(settings, parts)
        async with _sweeping(settings, parts):
            on_ready()
            await processor.run(retire=retire, finish_seconds=settings.reload_grace_seconds)


def make_processor(settings: Settings, parts: Parts, *, store: RunStore | None = None) -> RunProcessor:
    """A worker over started parts, on their store or another."""
    return RunProcessor(
        app=parts.app,
        store=store or parts.store,
        log=parts.log,
        queue=parts.queue,
        runs=parts.runs,
        worker_id=_process_id(),
        clock=parts.clock,
        concurrency=settings.concurrency,
        lease_seconds=settings.lease_seconds,
        shutdown_seconds=settings.shutdown_seconds,
        limits=ExecutionLimits(
            max_attempts=settings.max_attempts,
            max_event_bytes=settings.max_event_bytes,
            park_seconds=settings.park_seconds,
            cancel_seconds=settings.cancel_seconds,
            delta_seconds=settings.delta_ms / 1000,
        ),
        children=ChildRuns(parts.runs),
        artifacts=parts.artifacts,
    )


def make_sweeper(settings: Settings, parts: Parts) -> Sweeper:
    """What looks after runs that nobody looks after."""
    return Sweeper(
        store=parts.store,
        log=parts.log,
        queue=parts.queue,
        clock=parts.clock,
        interval_seconds=settings.lease_seconds / 2,
        max_attempts=settings.max_attempts,
    )


async def serve_api(settings: Settings, app: RunnerRegistry, *, on_ready: Callable[[], None] = lambda: None) -> None:
    """Serve API, gateway and console on the port, and on the web port if there is one, until cancelled.

    `on_ready` is called once this process listens, and database and Redis have answered.
    """
    settings.require_key_if_exposed()
    async with open_gateway(settings, app) as gateway:
        server = _Server(_uvicorn_config(gateway.served, gateway.upgrades))
        telling = asyncio.create_task(_tell_ready(server, gateway.parts, on_ready), name="readiness")
        try:
            await _serve(server, settings, gateway.sockets)
        finally:
            await end_tasks(telling)


@asynccontextmanager
async def open_gateway(
    settings: Settings, app: RunnerRegistry, *, has_console: bool = True, authorize: Authorize | None = None
) -> AsyncIterator[Gateway]:
    """Make and start all that API and gateway need, and let it go in the reverse order."""
    async with open_parts(settings, app) as parts:
        is_polling = settings.transport == "polling"
        run_log = PollingLog(parts.log) if is_polling else parts.log
        hub = RunHub(
            log=run_log,
            store=parts.store,
            clock=utc_now,
            tail_bytes=settings.tail_bytes,
            heartbeat_seconds=settings.heartbeat_seconds,
            poll_seconds=settings.poll_interval_ms / 1000,
            coalesce_seconds=settings.coalesce_ms / 1000,
            is_polling=is_polling,
        )
        sockets = WebSocketService(
            hub=hub,
            log=run_log,
            clock=utc_now,
            max_watchers=settings.max_watchers,
            heartbeat_seconds=settings.heartbeat_seconds,
        )
        report = partial(
            report_gateway, _process_id(), connections=sockets.connections, hub=hub, log=run_log, clock=utc_now
        )
        stats = StatsService(
            board=parts.board, report=report, interval_seconds=settings.heartbeat_seconds / _REPORTS_PER_HEARTBEAT
        )
        served = create_app(
            settings,
            app=app,
            runs=parts.runs,
            store=parts.store,
            log=run_log,
            hub=hub,
            sockets=sockets,
            stats=stats,
            artifacts=parts.artifacts,
            has_console=has_console,
            authorize=authorize,
        )
        upgrades = create_upgrades(settings, runs=parts.runs, sockets=sockets)
        hub.start()
        stats.start()
        try:
            async with _sweeping(settings, parts):
                yield Gateway(served=served, upgrades=upgrades, sockets=sockets, parts=parts)
        finally:
            await stats.close()
            await hub.close()


@asynccontextmanager
async def _sweeping(settings: Settings, parts: Parts) -> AsyncIterator[None]:
    task = asyncio.create_task(make_sweeper(settings, parts).run(), name="sweeper")
    try:
        yield
    finally:
        await end_tasks(task)


def _uvicorn_config(served: object, upgrades: Upgrades) -> uvicorn.Config:
    return uvicorn.Config(
        served,  # type: ignore[arg-type] # uvicorn spells ASGI's types its own way
        log_config=None,
        access_log=False,
        lifespan="off",
        http=partial(Door, handler=upgrades),  # type: ignore[arg-type] # it is called: any maker will do
        ws=GatewaySocket,  # that there is one; the door makes it
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_CLOSING_SECONDS,
    )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: signals are the command's. Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_listening: Final = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(server: uvicorn.Server, settings: Settings, sockets: WebSocketService) -> None:
    """Serve until cancelled, then say goodbye to the watchers and finish what is being answered."""
    ports = [settings.port, settings.web_port] if settings.web_port else [settings.port]
    listeners = [_listen(settings.host, port, is_shared=settings.gateways > 1) for port in ports]
    # Fast path: with one listener a storm costs a turn of the loop per connect, see `python -m bench --only storm`.
    shared = [listener.dup() for listener in listeners for _ in range(_ACCEPTED_PER_TURN - 1)]
    serving = asyncio.create_task(server.serve(sockets=listeners + shared), name="uvicorn")
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        sockets.stop()
        server.should_exit = True
        await serving
        raise


async def _tell_ready(server: _Server, parts: Parts, on_ready: Callable[[], None]) -> None:
    await server.is_listening.wait()
    while True:
        try:
            await asyncio.gather(parts.store.ping(), parts.log.ping())
        except UnavailableError:
            await asyncio.sleep(_READY_CHECK_SECONDS)
        else:
            on_ready()
            return


def _process_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _notice_dead_peers(listener: socket.socket) -> None:
    """Have the kernel end connections whose peer is gone, idle or not; accepted ones inherit it.

    Heartbeats see to it that there is always something to acknowledge.
    """
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 25_000)):
        if hasattr(socket, name):  # not every system has each
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _listen(host: str, port: int, *, is_shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _notice_dead_peers(listener)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"can't listen on {host}:{port} ({error.strerror}): choose another port") from None
    return listener
