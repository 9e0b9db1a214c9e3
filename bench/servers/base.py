"""What a scenario needs of a server."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from bench.load import Endpoint, Load, connect_load
from bench.machine import Cores, find_descendants
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
        self.endpoint: Final = endpoint

    @property
    def pids(self) -> list[int]:
        """Its processes."""
        return find_descendants(self.pid)

    def create_runs(self, count: int) -> list[str]:
        """The ids of new runs. Peers have no runs: a name is all they need."""
        return [f"r{next(_RUN_NUMBERS):07}" for _ in range(count)]

    @contextmanager
    def watch(self, run_ids: Sequence[str], *, watchers: int, **options: Any) -> Iterator[Load]:
        """Connect so many clients to each run; see `connect_load`."""
        with connect_load(self.endpoint, run_ids, core=self.lab.cores.load, watchers=watchers, **options) as load:
            yield load


class Server:
    """A server that can be measured; a subclass says how it is had and started."""

    name: ClassVar[str]
    """What it is called on the command line."""
    title: ClassVar[str]
    """What it is called in tables."""
    keeps_history: ClassVar[bool] = False
    """Whether it numbers and keeps events, so that a watcher that was away gets what it missed."""
    is_peer: ClassVar[bool] = True

    def install(self) -> str:
        """Make it ready to be started; returns its version.

        Raises:
            UnavailableError: it can't be had here.

        """
        raise NotImplementedError

    @contextmanager
    def start(self, lab: Lab) -> Iterator[RunningServer]:
        """Run it on its core until the block ends."""
        raise NotImplementedError
        yield
