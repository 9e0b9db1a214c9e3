"""The bound: a C program that does nothing but what must be done."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from bench.load import Endpoint, build
from bench.processes import find_free_port, is_listening, start_process
from bench.servers.base import Lab, RunningServer, Server


class Floor(Server):
    """One send per event and client."""

    name = "floor"
    title = "C floor, one send per event"
    is_peer = False
    options: ClassVar[tuple[str, ...]] = ()

    def install(self) -> str:
        """Compile it."""
        build("floor")
        return "bench/load/floor.c"

    @contextmanager
    def start(self, lab: Lab) -> Iterator[RunningServer]:
        """See `Server.start`."""
        port = find_free_port()
        argv = [build("floor"), str(port), str(lab.redis.port), *self.options]
        with start_process(argv, core=lab.cores.server, is_ready=lambda: is_listening(port)) as process:
            endpoint = Endpoint(
                port=port, publish_port=lab.redis.port, server_pids=(process.pid,), redis_pids=(lab.redis.pid,)
            )
            yield RunningServer(lab, pid=process.pid, endpoint=endpoint)


class JoiningFloor(Floor):
    """One send per chunk read from Redis and client."""

    name = "floor-join"
    title = "C floor, joining sends"
    options = ("--join",)
