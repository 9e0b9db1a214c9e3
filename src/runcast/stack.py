"""Everything that `runcast up` starts: what is checked first, which processes there are, in which order.

Checked before anything starts: the settings, the ports, the data dir. Then Redis and the migrations, side by side; then
the gateways and the workers. Nothing here serves a request or executes a run: each part is a process of its own.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from runcast.backends.embedded import EmbeddedRedis, prepare_redis
from runcast.config import DATABASE_FILE, LOOPBACK_HOSTS, Settings
from runcast.errors import RuncastError
from runcast.loading import folder_of
from runcast.migrated import is_migrated, note_migrated
from runcast.preflight import hold_data_dir, hold_ports, require_redis_url, with_free_port
from runcast.readiness import ReadySignal
from runcast.reload import Generations, Plan, watch_code
from runcast.supervisor import ChildSpec, Supervisor, describe_exit, run_once, run_quietly, together

STOP_MARGIN_SECONDS: Final = 5
"""What a child gets on top of `shutdown_seconds` before it is killed."""

REDIS_STOP_SECONDS: Final = 30
"""Redis writes its append-only file to the disk before it ends; a slow disk may take its time."""

CHECK_SECONDS: Final = 60
"""How long changed code may take to load."""

KILLED_BY_USER: Final = 130


class PartFailedError(RuncastError):
    """A part ended before everything was up. It has said why itself."""

    code = "part_failed"
    title = "A part did not start"

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"a part ended with exit code {exit_code}")
        self.exit_code = exit_code


def up(settings: Settings, *, app: str | None, announce: Callable[[Settings], None], is_reloaded: bool = False) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP; call `announce`, with the ports in use, once all of it
    is ready. With `is_reloaded` the application's code is watched, and replaced when it changes.

    Raises:
        ConfigurationError: something can't work as it is configured; nothing runs any more.
        PartFailedError: the application or the migrations failed; nothing runs any more.

    """
    settings.require_key_if_exposed()
    require_redis_url(settings)
    settings = with_free_port(settings)
    is_shared = settings.gateways > 1 or (is_reloaded and hasattr(socket, "SO_REUSEPORT"))
    with hold_ports(settings, is_shared=is_shared), hold_data_dir(settings.data_dir) as lock:
        redis = None if settings.redis_url else prepare_redis(settings.data_dir, environ=os.environ)
        stack = _Stack(settings, app=app, redis=redis, lock=lock, is_reloaded=is_reloaded, is_shared=is_shared)
        asyncio.run(stack.run(announce))


class _Stack:
    def __init__(
        self,
        settings: Settings,
        *,
        app: str | None,
        redis: EmbeddedRedis | None,
        lock: int,
        is_reloaded: bool,
        is_shared: bool,
    ) -> None:
        self._settings: Final = settings
        self._app: Final = app
        self._redis: Final = redis
        self._lock: Final = lock
        self._is_reloaded: Final = is_reloaded and app is not None
        self._env: Final = {**os.environ, **child_environment(settings, redis=redis, is_shared=is_shared)}
        self._supervisor: Final = Supervisor()
        self._stopping: Final = asyncio.Event()
        self._generations: Final = Generations(
            self._supervisor,
            make_plan=lambda: make_plan(settings, app=app, env=self._env),
            check=self._check,
            finish_seconds=settings.reload_grace_seconds,
            shares_ports=is_shared,
        )

    async def run(self, announce: Callable[[Settings], None]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self._receive_signal)
        working = asyncio.create_task(self._work(announce))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                await stopping
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)
            await self._supervisor.stop()
            await self._generations.close()

    async def _work(self, announce: Callable[[Settings], None]) -> None:
        # What is saved while the processes start has to count: they may have loaded it by then, or not.
        changes = self._watch_code()
        prepare = [self._migrate(self._env)] + ([self._run_part("check", self._env, self._app)] if self._app else [])
        start = [self._start_redis(self._redis)] if self._redis else []
        await together(*start, *prepare)
        await self._generations.start()
        announce(self._settings)
        if changes is not None:
            await self._generations.follow(changes)

    def _watch_code(self) -> AsyncIterator[set[Path]] | None:
        if not self._is_reloaded or self._app is None:
            return None
        return watch_code(folder_of(self._app), ignored=self._settings.data_dir.resolve())

    async def _start_redis(self, redis: EmbeddedRedis) -> None:
        await self._supervisor.start(redis_child(redis, lock=self._lock))

    async def _check(self) -> str | None:
        """Why the application's code doesn't load, in one line, or None."""
        spec = ChildSpec(name="check", argv=runcast_argv("check", self._app or ""), env=self._env)
        code, last_line = await run_quietly(spec, timeout_seconds=CHECK_SECONDS)
        if code is None:
            return f"it took longer than {CHECK_SECONDS} s to load"
        return None if code == 0 else last_line.removeprefix("runcast: ") or describe_exit(code)

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


def make_plan(settings: Settings, *, app: str | None, env: Mapping[str, str]) -> Plan:
    """Gateways and workers, with a signal of its own for each."""
    gateways = [ReadySignal() for _ in range(settings.gateways)]
    workers = [ReadySignal() for _ in range(settings.workers)]

    def close() -> None:
        for each in (*gateways, *workers):
            each.close()

    return Plan(
        workers=plan_workers(workers, settings, app=app, env=env),
        gateways=plan_gateways(gateways, settings, app=app, env=env),
        close=close,
    )


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


def plan_workers(
    ready: Sequence[ReadySignal], settings: Settings, *, app: str | None, env: Mapping[str, str]
) -> list[ChildSpec]:
    """One `runcast worker` for each signal."""
    arguments = (app,) if app else ()
    return [
        ChildSpec(
            name=f"worker-{number}",
            argv=runcast_argv("worker", *arguments, "--ready-fd", str(each.fd)),
            env=env,
            is_ready=each.is_given,
            stop_seconds=settings.shutdown_seconds + STOP_MARGIN_SECONDS,
            inherited_fds=(each.fd,),
        )
        for number, each in enumerate(ready, 1)
    ]


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


def child_environment(settings: Settings, *, redis: EmbeddedRedis | None, is_shared: bool) -> dict[str, str]:
    """What the parts have to know of the options that `up` was given; the rest they read from the environment."""
    # A gateway that is to be replaced shares its port, as one of several does, with the one that comes after it.
    gateways = max(settings.gateways, 2 if is_shared else 1)
    return {
        "REDIS_URL": redis.url if redis else settings.redis_url or "",
        "DATABASE_URL": settings.database,
        "RUNCAST_DATA_DIR": str(settings.data_dir.resolve()),
        "RUNCAST_HOST": settings.host,
        "RUNCAST_PORT": str(settings.port),
        "RUNCAST_WEB_PORT": str(settings.web_port),
        "RUNCAST_GATEWAYS": str(gateways),
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
