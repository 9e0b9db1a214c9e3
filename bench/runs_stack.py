"""A real `runcast api`, a real `runcast worker`, a Redis and a database of their own, for `bench.runs` to load.

Everything lies in a temporary folder and listens on loopback or a unix socket. Each process is kept on a core that is
said; its CPU time is what the kernel has counted for it, threads included.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import psutil
import redis.asyncio as redis

from runcast.assembly import migrate
from runcast.backends.embedded import prepare_redis
from runcast.backends.redis_client import close_redis, open_redis
from runcast.config import Settings
from runcast.events import FINAL_STATUSES, RunStatus, read_event
from tests.support.postgres import create_database, start_postgres

Database = Literal["sqlite", "postgresql"]
Part = Literal["api", "worker", "redis"]

STARTING_SECONDS: Final = 30
_RUNNERS: Final = Path(__file__).with_name("runners.py")
_ALL_RUNS_CHANNEL: Final = "runs"


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Which core each part is kept on. Redis shares the API's, the load takes the rest of what the machine has."""

    api: int
    worker: int
    load: int

    @classmethod
    def of_machine(cls) -> "Cores":
        """The worker alone on the second core; API, Redis and load share the first unless there are more."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(api=cores[0], worker=cores[1 % len(cores)], load=cores[2 % len(cores)])

    def __str__(self) -> str:
        return f"worker on core {self.worker}, API and Redis on core {self.api}, load on core {self.load}"


class Caller:
    """One kept-alive HTTP connection, with nothing that a load doesn't need."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader: Final = reader
        self._writer: Final = writer

    @classmethod
    async def open(cls, port: int) -> "Caller":
        """A connection to the API."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def create(self, runner: str, value: Mapping[str, Any]) -> str:
        """Create a run and return its id."""
        body = msgspec.json.encode({"input": value})
        answer = await self._call(f"POST /runners/{runner}/runs", body)
        run_id: str = answer["runId"]
        return run_id

    async def get(self, path: str) -> Any:
        """What a path answers."""
        return await self._call(f"GET {path}", b"")

    def close(self) -> None:
        """Let the connection go."""
        self._writer.close()

    async def _call(self, request: str, body: bytes) -> Any:
        head = f"{request} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        content = await self._reader.readexactly(length)
        if answer.split(b" ", 2)[1] not in {b"200", b"201"}:
            raise AssertionError(content.decode())
        return msgspec.json.decode(content)


class Endings:
    """Hears the runs end, straight from Redis: neither API nor database is asked for it."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.count = 0
        self._wanted = 0
        self._reached = asyncio.Event()

    def receive(self, raw: bytes) -> None:
        """An event that tells a status."""
        status = read_event(raw).status
        if status in FINAL_STATUSES:
            self.count += 1
            if status is not RunStatus.DONE:
                self.failed.append(raw.decode())
            if self.count >= self._wanted:
                self._reached.set()

    async def wait(self, count: int, *, timeout_seconds: float) -> None:
        """Until so many runs have ended since the beginning."""
        self._wanted = count
        self._reached.clear()
        if self.count < count:
            async with asyncio.timeout(timeout_seconds):
                await self._reached.wait()


class Stack:
    """The running server, and what the load asks of it."""

    def __init__(self, *, port: int, client: "redis.Redis", processes: Mapping[Part, psutil.Process]) -> None:
        self.port: Final = port
        self.redis: Final = client
        self.endings: Final = Endings()
        self._processes: Final = processes

    def cpu_seconds(self) -> dict[Part, float]:
        """What each part has used so far."""
        times = {part: process.cpu_times() for part, process in self._processes.items()}
        return {part: used.user + used.system for part, used in times.items()}

    def pid_of(self, part: Part) -> int:
        """For a profiler."""
        return self._processes[part].pid

    async def listen(self) -> None:
        """Hear endings until cancelled."""
        async with self.redis.pubsub() as pubsub:
            await pubsub.subscribe(_ALL_RUNS_CHANNEL)
            async for message in pubsub.listen():
                if message["type"] == "message":
                    self.endings.receive(message["data"])


@asynccontextmanager
async def start_stack(
    *, database: Database, cores: Cores, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Stack]:
    """Start it all, and end it all."""
    os.sched_setaffinity(0, {cores.load})
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rc-bench-")))
        embedded = prepare_redis(home, environ=os.environ)
        server = stack.enter_context(_start(embedded.argv, core=cores.api, home=home, name="redis"))
        await _until(embedded.is_ready, server)
        settings = Settings.load(redis_url=embedded.url, data_dir=home, port=_free_port())
        variables = {
            "REDIS_URL": embedded.url,
            "DATABASE_URL": await stack.enter_async_context(_open_database(database, settings)),
            "RUNCAST_DATA_DIR": str(home),
            "RUNCAST_PORT": str(settings.port),
            "RUNCAST_WEB_PORT": "0",
            **(environment or {}),
        }
        await migrate(Settings.load(data_dir=home, database_url=variables["DATABASE_URL"]))
        client = open_redis(embedded.url)
        stack.push_async_callback(close_redis, client)
        command = (sys.executable, "-m", "runcast")
        api = stack.enter_context(
            _start((*command, "api", str(_RUNNERS)), core=cores.api, home=home, name="api", variables=variables)
        )
        worker = stack.enter_context(
            _start(
                (*command, "worker", str(_RUNNERS)), core=cores.worker, home=home, name="worker", variables=variables
            )
        )
        running = Stack(port=settings.port, client=client, processes={"api": api, "worker": worker, "redis": server})
        listening = asyncio.create_task(running.listen())
        stack.callback(listening.cancel)
        await _until(lambda: _has_executed(running), api, worker)
        yield running


async def _has_executed(stack: Stack) -> bool:
    """Whether a first run has gone all the way."""
    try:
        caller = await Caller.open(stack.port)
    except OSError:
        return False
    before = stack.endings.count
    await caller.create("noop", {})
    await stack.endings.wait(before + 1, timeout_seconds=STARTING_SECONDS)
    caller.close()
    return True


@asynccontextmanager
async def _open_database(database: Database, settings: Settings) -> AsyncIterator[str]:
    if database == "sqlite":
        yield settings.database
        return
    with start_postgres() as url:
        async with create_database(url) as created:
            yield created


@contextmanager
def _start(
    argv: Sequence[str], *, core: int, home: Path, name: str, variables: Mapping[str, str] | None = None
) -> Iterator[psutil.Process]:
    with (home / f"{name}.log").open("wb") as output:
        process = psutil.Popen(
            argv,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # threads inherit it only from here
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except psutil.TimeoutExpired:
            process.kill()


async def _until(is_ready: Any, *processes: psutil.Process) -> None:
    deadline = time.monotonic() + STARTING_SECONDS
    while not await is_ready():
        dead = [process for process in processes if not process.is_running()]
        if dead or time.monotonic() > deadline:
            raise AssertionError(f"the server doesn't start: {dead or 'no answer'}")
        await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
