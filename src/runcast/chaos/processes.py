"""The processes of a drill: Redis, gateways, workers, each with a link of its own to Redis and a log file.

Every process is on a leash, so nothing outlives the drill. One that ends without being told to is noted and started
again, as a supervisor would.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from runcast.backends.embedded import EmbeddedRedis, prepare_redis
from runcast.chaos.link import Link
from runcast.concurrency import end_tasks
from runcast.errors import UnavailableError
from runcast.leash import USES_KERNEL, wrap

READY_SECONDS: Final = 30
STOP_SECONDS: Final = 10
GATEWAYS: Final = 2
WORKERS: Final = 3

_APP: Final = "runcast.chaos.app"
_LOOK_SECONDS: Final = 0.02
_RESTART_SECONDS: Final = 0.5
_LAST_WORDS_BYTES: Final = 4_000
_STARTING_SECONDS: Final = 15
_RUNCAST: Final = (sys.executable, "-P", "-m", "runcast")

_OWN_VARIABLES: Final = ("REDIS_URL", "DATABASE_URL", "RUNCAST_")
"""What a process of a drill must not inherit: the drill says it."""


class DrillProcess:
    """A command that can be killed, paused and started again."""

    def __init__(self, name: str, argv: Sequence[str], *, env: Mapping[str, str], folder: Path) -> None:
        self.name: Final = name
        self.deaths: list[str] = []  # that nobody asked for: how it ended, and the end of what it said
        self._argv: Final = list(argv)
        self._env: Final = dict(env)
        self._log: Final = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None
        self._is_wanted = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int:
        """The process that runs now."""
        if self._process is None:
            raise RuntimeError(f"{self.name} does not run")
        return self._process.pid

    async def start(self) -> None:
        """Start it; it may take a moment until it answers."""
        self._is_wanted = True
        self._process = process = await asyncio.create_subprocess_exec(
            *wrap(self._argv, parent_pid=os.getpid(), python=sys.executable),
            env=self._env,
            stdin=DEVNULL if USES_KERNEL else PIPE,
            stdout=PIPE,  # not the file itself: a full disk is one of the faults
            stderr=STDOUT,
            start_new_session=True,
        )
        task = asyncio.create_task(self._attend(process), name=f"process-{self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def kill(self) -> None:
        """End it without a warning."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Ask it to end; kill it if it doesn't."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            await self._end(signal.SIGKILL)
        await end_tasks(*self._tasks)

    def pause(self) -> None:
        """Take the processor away from it."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Give it back."""
        self._signal(signal.SIGCONT)

    async def _end(self, number: signal.Signals) -> None:
        self._is_wanted = False
        if self._process is not None:
            self._signal(number)
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # The group: where the kernel keeps no leash, the command is the leash's child.
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, number)

    async def _attend(self, process: asyncio.subprocess.Process) -> None:
        """Write its log, and start it again if it ends by itself."""
        assert process.stdout is not None  # noqa: S101  # it was asked for
        began, said = asyncio.get_running_loop().time(), b""
        with self._log.open("ab") as file:
            while chunk := await process.stdout.read(65_536):
                file.write(chunk)
                said = (said + chunk)[-_LAST_WORDS_BYTES:]
        code = await process.wait()
        if self._is_wanted and self._process is process:
            # One that meets a fault while it starts may end and say why: a supervisor starts it again.
            if asyncio.get_running_loop().time() - began > _STARTING_SECONDS:
                self.deaths.append(f"exit code {code}\n{said.decode(errors='replace')}")
            await asyncio.sleep(_RESTART_SECONDS)
            if self._is_wanted:
                await self.start()


class RedisProcess(DrillProcess):
    """The drill's Redis, whose files can be copied, put back and thrown away."""

    def __init__(self, folder: Path, *, env: Mapping[str, str]) -> None:
        self.server: Final[EmbeddedRedis] = prepare_redis(folder, environ=env)
        super().__init__("redis", self.server.argv, env=env, folder=folder)
        self._files: Final = folder / "redis" / "appendonlydir"
        self._copy: Final = folder / "redis-before"

    async def start(self) -> None:
        """Start it, and return once it answers."""
        await super().start()
        await _until(self.server.is_ready, self.name)

    async def keep_copy(self) -> None:
        """Remember its present state, as a backup or a replica that lags does."""
        await asyncio.to_thread(shutil.rmtree, self._copy, ignore_errors=True)
        await asyncio.to_thread(shutil.copytree, self._files, self._copy)

    async def put_back_copy(self) -> None:
        """Replace its files by the copy. Only while it doesn't run."""
        await self.wipe()
        await asyncio.to_thread(shutil.copytree, self._copy, self._files)

    async def wipe(self) -> None:
        """Throw its files away. Only while it doesn't run."""
        await asyncio.to_thread(shutil.rmtree, self._files, ignore_errors=True)


class Cluster:
    """Everything that runs. `start` before use, `stop` after."""

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str,
        lease_seconds: float,
        environ: Mapping[str, str],
        source: random.Random,
        command: Sequence[str] = _RUNCAST,
    ) -> None:
        self.gateways: Final[list[DrillProcess]] = []
        self.workers: Final[list[DrillProcess]] = []
        self.links: Final[list[Link]] = []
        self._ports: Final = [_free_port() for _ in range(GATEWAYS)]
        self._folder: Final = folder
        self._source: Final = source
        self._command: Final = tuple(command)
        self._env: Final = {
            **{name: value for name, value in environ.items() if not name.startswith(_OWN_VARIABLES)},
            "DATABASE_URL": database_url,
            "RUNCAST_DATA_DIR": str(folder),
            "RUNCAST_LEASE_SECONDS": str(lease_seconds),
            "RUNCAST_SHUTDOWN_SECONDS": "1",
            "RUNCAST_WEB_PORT": "0",
            "RUNCAST_LOG_FORMAT": "text",
        }
        self.redis: Final = RedisProcess(folder, env=self._env)

    @property
    def gateway_urls(self) -> list[str]:
        """Where the gateways listen, in their order."""
        return [f"http://127.0.0.1:{port}" for port in self._ports]

    @property
    def processes(self) -> list[DrillProcess]:
        """All but Redis."""
        return [*self.gateways, *self.workers]

    async def start(self) -> None:
        """Start everything, and return once the gateways answer."""
        await self.redis.start()
        for number, port in enumerate(self._ports, 1):
            argv = (*self._command, "api", _APP)
            self.gateways.append(await self._start(f"gateway-{number}", argv, {"RUNCAST_PORT": str(port)}))
        for number in range(1, WORKERS + 1):
            self.workers.append(await self._start(f"worker-{number}", (*self._command, "worker", _APP), {}))
        for url in self.gateway_urls:
            await wait_answers(url)

    async def stop(self) -> None:
        """Stop everything, Redis last."""
        for link in self.links:
            link.release()
        for process in self.processes:
            process.resume()
        await asyncio.gather(*(process.stop() for process in self.processes))
        for link in self.links:
            await link.close()
        await self.redis.stop()

    async def _start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> DrillProcess:
        link = Link(self.redis.server.socket, source=random.Random(self._source.random()))  # noqa: S311  # weather
        await link.start()
        self.links.append(link)
        process = DrillProcess(name, argv, env={**self._env, "REDIS_URL": link.url, **env}, folder=self._folder)
        await process.start()
        return process


async def wait_answers(url: str) -> None:
    """Return once a gateway answers, whatever else may be away."""
    async with httpx.AsyncClient(trust_env=False, timeout=1) as http:

        async def answers() -> bool:
            try:
                return (await http.get(f"{url}/healthz")).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        await _until(answers, url)


async def _until(is_so: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not await is_so():  # noqa: ASYNC110  # another process's state can only be looked at again
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise UnavailableError(f"{what} does not answer after {READY_SECONDS} s; its log may say why") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
