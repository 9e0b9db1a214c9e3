"""The bound: a C program that does nothing but what must be done."""

from typing import ClassVar

from bench.load import build
from bench.servers.base import Lab, Launch, Server, ready_when_listening


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

    def launch(self, lab: Lab, port: int) -> Launch:
        """See `Server.launch`."""
        return Launch([build("floor"), str(port), str(lab.redis.port), *self.options], ready_when_listening(port))


class JoiningFloor(Floor):
    """One send per chunk read from Redis and client."""

    name = "floor-join"
    title = "C floor, joining sends"
    options = ("--join",)
