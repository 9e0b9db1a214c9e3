"""What a scenario needs of a server."""

import http.client
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Final

from bench.load import Endpoint, Load, connect_load
from bench.machine import Cores, find_descendants
from bench.processes import find_free_port, is_listening, start_process
from bench.redis_server import RedisServer

_RUN_NUMBERS: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Lab:
    """What a measurement has to itself: a fresh Redis and the cores."""

    redis: RedisServer
    cores: Cores


class RunningServer:
    """A server that was started for one measurement."""

    def __init__(self, lab: Lab, *, pid: int, endpoint: Endpoint) -> None:
        self.lab: Final = lab
        self.pid: Final = pid
        self.endpoint = replace(endpoint, server_pids=self.pids, redis_pids=(lab.redis.pid,))

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return find_descendants(self.pid)

    def create_runs(self, count: int) -> list[str]:
        """The ids of new runs. Peers have no runs: a name is all they need."""
        return [f"r{next(_RUN_NUMBERS):07}" for _ in range(count)]

    def add_known_runs(self, count: int) -> None:
        """Make so many ended runs known, which nobody watches. Only of those that have runs."""
        raise NotImplementedError(count)

    @contextmanager
    def watch(self, run_ids: Sequence[str], *, watchers: int, **options: Any) -> Iterator[Load]:
        """Connect so many clients to each run; see `connect_load`."""
        with connect_load(self.endpoint, run_ids, core=self.lab.cores.load, watchers=watchers, **options) as load:
            yield load

    @contextmanager
    def follow(self, run_ids: Sequence[str]) -> Iterator[None]:
        """Have somebody look at each run as users of this server do, while nothing happens."""
        with self.watch(run_ids, watchers=1):
            yield


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server's process is started and known to be ready."""

    argv: Sequence[object]
    """Its words, as `str` has them."""
    is_ready: Callable[[], bool]
    environ: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


class Server:
    """A server that can be measured; a subclass says how it is had, started and watched."""

    name: ClassVar[str]
    """What it is called on the command line."""
    title: ClassVar[str]
    """What it is called in tables."""
    keeps_history: ClassVar[bool] = False
    """Whether a watcher that was away gets what it missed."""
    is_peer: ClassVar[bool] = True
    """Whether it is somebody else's: not ours, and not the floor."""
    has_runs: ClassVar[bool] = False
    """Whether it keeps runs in a database: ours."""
    only: ClassVar[frozenset[str] | None] = None
    """The scenarios it is measured in, if not in all."""
    running: ClassVar[type[RunningServer]] = RunningServer

    def install(self) -> str:
        """Make it ready to be started; returns its version.

        Raises:
            UnavailableError: it can't be had here.

        """
        raise NotImplementedError

    @contextmanager
    def start(self, lab: Lab) -> Iterator[RunningServer]:
        """Run it on its core until the block ends."""
        port = find_free_port()
        launch = self.launch(lab, port)
        with start_process(
            launch.argv, core=lab.cores.server, is_ready=launch.is_ready, environ=launch.environ, cwd=launch.cwd
        ) as process:
            yield self.running(lab, pid=process.pid, endpoint=self.endpoint(lab, port))

    def launch(self, lab: Lab, port: int) -> Launch:
        """How it is started on a port."""
        raise NotImplementedError

    def endpoint(self, lab: Lab, port: int) -> Endpoint:
        """How it is watched and published to."""
        return Endpoint(port=port, publish_port=lab.redis.port)

    def recovering(self, endpoint: Endpoint) -> Endpoint:
        """How it is watched by clients that may come back."""
        return endpoint

    def on_database(self, url: str) -> "Server":
        """The same on a database of the caller's. Only of those that have runs."""
        raise NotImplementedError(url)


def ready_when_answering(port: int) -> Callable[[], bool]:
    """For servers whose listener is there before the process that serves it."""

    def is_answering() -> bool:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=1)) as connection:
                connection.request("GET", "/")
                return connection.getresponse().status > 0
        except OSError:
            return False

    return is_answering


def ready_when_listening(port: int) -> Callable[[], bool]:
    """For servers that listen when they can serve."""
    return lambda: is_listening(port)
