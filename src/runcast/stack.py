"""Everything that `runcast up` starts: what is checked first, which processes there are, in which order.

Checked before anything starts: the settings, the ports, the data dir. Then Redis and the migrations, side by side; then
the gateways and the workers. Nothing here serves a request or executes a run: each part is a process of its own.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from runcast.backends.embedded import EmbeddedRedis, prepare_redis
from runcast.config import DATABASE_FILE, LOOPBACK_HOSTS, Settings
from runcast.errors import RuncastError
from runcast.migrated import is_migrated, note_migrated
from runcast.preflight import hold_data_dir, hold_ports, require_redis_url, with_free_port
from runcast.readiness import ReadySignal
from runcast.supervisor import ChildSpec, Supervisor, run_once, together

STOP_MARGIN_SECONDS: Final = 5
"""What a child gets on top of `shutdown_seconds` before it is killed."""

REDIS_STOP_SECONDS: Final = 30
"""Redis writes its append-only file to the disk before it ends; a slow disk may take its time."""

KILLED_BY_USER: Final = 130


class PartFailedError(RuncastError):
    """A part ended before everything was up. It has said why itself."""

    code = "part_failed"
    title = "A part did not start"

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"a part ended with exit code {exit_code}")
        self.exit_code = exit_code


def up(settings: Settings, *, app: str | None, announce: Callable[[Settings], None]) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP; call `announce`, with the ports in use, once all of it
    is ready.

    Raises:
        ConfigurationError: something can't work as it is configured; nothing runs any more.
        PartFailedError: the application or the migrations failed; nothing runs any more.

    """
    settings.require_key_if_exposed()
    require_redis_url(settings)
    settings = with_free_port(settings)
    with hold_ports(settings), hold_data_dir(settings.data_dir) as lock:
        redis = None if settings.redis_url else prepare_redis(settings.data_dir, environ=os.environ)
        asyncio.run(_Stack(settings, app=app, redis=redis, lock=lock).run(announce))


class _Stack:
    def __init__(self, settings: Settings, *, app: str | None, redis: EmbeddedRedis | None, lock: int) -> None:
        self._settings: Final = settings
        self._app: Final = app
        self._redis: Final = redis
        self._lock: Final = lock
        self._supervisor: Final = Supervisor()
        self._stopping: Final = asyncio.Event()
        self._ready: Final = [ReadySignal() for _ in range(settings.gateways)]

    async def run(self, announce: Callable[[Settings], None]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._receive_signal)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                announce(self._settings)
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._supervisor.stop()
            for signal_ in self._ready:
                signal_.close()

    async def _start(self) -> None:
        env = {**os.environ, **child_environment(self._settings, redis=self._redis)}
        prepare = [self._migrate(env)] + ([self._run_part("check", env, self._app)] if self._app else [])
        start = [self._supervisor.start(redis_child(self._redis, lock=self._lock))] if self._redis else []
        await together(*start, *prepare)
        gateways = plan_gateways(self._ready, self._settings, app=self._app, env=env)
        await self._supervisor.start(*gateways, *plan_workers(self._settings, app=self._app, env=env))

    async def _migrate(self, env: Mapping[str, str]) -> None:
        data_dir = self._settings.data_dir.resolve()
        file = None if self._settings.database_url else data_dir / DATABASE_FILE
        if file and is_migrated(data_dir, file):
            return
        await self._run_part("migrate", env)
        if file:
            note_migrated(data_dir, file)

    async def _run_part(self, command: str, env: Mapping[str, str], *arguments: str) -> None:
        code = await run_once(ChildSpec(name=command, argv=runcast_argv(command, *arguments), env=env))
        if code != 0:
            raise PartFailedError(code)

    def _receive_signal(self) -> None:
        if self._stopping.is_set():
            # Somebody is in a hurry: no cleaning up, and the leashes take whatever was just being started.
            self._supervisor.kill()
            os._exit(KILLED_BY_USER)
        self._stopping.set()


def runcast_argv(command: str, *arguments: str) -> tuple[str, ...]:
    """One of our own commands as a process. `-P`: a file in the current folder must not shadow a module of ours."""
    return (sys.executable, "-P", "-m", "runcast", command, *arguments)


def plan_gateways(
    ready: Sequence[ReadySignal], settings: Settings, *, app: str | None, env: Mapping[str, str]
) -> list[ChildSpec]:
    """One `runcast api` for each signal; several share their ports."""
    arguments = (app,) if app else ()
    return [
        ChildSpec(
            name="api" if len(ready) == 1 else f"api-{number}",
            argv=runcast_argv("api", *arguments, "--ready-fd", str(each.fd)),
            env=env,
            is_ready=each.is_given,
            stop_seconds=settings.shutdown_seconds + STOP_MARGIN_SECONDS,
            inherited_fds=(each.fd,),
        )
        for number, each in enumerate(ready, 1)
    ]


def plan_workers(settings: Settings, *, app: str | None, env: Mapping[str, str]) -> list[ChildSpec]:
    """The workers."""
    argv = runcast_argv("worker", *((app,) if app else ()))
    stop_seconds = settings.shutdown_seconds + STOP_MARGIN_SECONDS
    names = (f"worker-{number}" for number in range(1, settings.workers + 1))
    return [ChildSpec(name=name, argv=argv, env=env, stop_seconds=stop_seconds) for name in names]


def redis_child(redis: EmbeddedRedis, *, lock: int) -> ChildSpec:
    """The embedded Redis. It inherits the lock: the data dir is in use until Redis, too, has ended."""
    return ChildSpec(
        name="redis",
        argv=redis.argv,
        is_ready=redis.is_ready,
        stop_seconds=REDIS_STOP_SECONDS,
        is_quiet=True,
        inherited_fds=(lock,),
    )


def child_environment(settings: Settings, *, redis: EmbeddedRedis | None) -> dict[str, str]:
    """What the parts have to know of the options that `up` was given; the rest they read from the environment."""
    return {
        "REDIS_URL": redis.url if redis else settings.redis_url or "",
        "DATABASE_URL": settings.database,
        "RUNCAST_DATA_DIR": str(settings.data_dir.resolve()),
        "RUNCAST_HOST": settings.host,
        "RUNCAST_PORT": str(settings.port),
        "RUNCAST_WEB_PORT": str(settings.web_port),
        "RUNCAST_GATEWAYS": str(settings.gateways),
        "RUNCAST_LOG_FORMAT": settings.log_format,
        "RUNCAST_LOG_LEVEL": settings.log_level,
    }


def api_url(settings: Settings) -> str:
    """The API's address as a browser on this machine says it."""
    return _url(settings.host, settings.port)


def console_url(settings: Settings) -> str:
    """The console's address."""
    return _url(settings.host, settings.web_port or settings.port)


def _url(host: str, port: int) -> str:
    name = "localhost" if host in LOOPBACK_HOSTS or host in {"0.0.0.0", "::"} else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
