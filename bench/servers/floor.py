"""The bound: a C program that does nothing but what must be done."""

from typing import ClassVar

from bench.appends import FIRST_SEQ, append_first_events, publish_words
from bench.load import Endpoint, build
from bench.servers.base import Lab, Launch, RunningServer, Server, ready_when_listening


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


class RunningLoggedFloor(RunningServer):
    """Its runs have logs, which nobody reads."""

    def create_runs(self, count: int) -> list[str]:
        """See `RunningServer.create_runs`."""
        run_ids = super().create_runs(count)
        append_first_events(self.lab.redis.client, dict.fromkeys(run_ids, b"{}"))
        return run_ids


class LoggedFloor(Floor):
    """Events are appended to logs as ours are: what is between it and us is the gateway alone."""

    name = "floor-log"
    title = "C floor, events appended to logs as Runcast's are"
    only = frozenset({"latency", "tokens"})
    running = RunningLoggedFloor

    def endpoint(self, lab: Lab, port: int) -> Endpoint:
        """See `Server.endpoint`."""
        publish = publish_words(lab.redis.client)
        return Endpoint(port=port, publish_port=lab.redis.port, publish=publish, first_seq=FIRST_SEQ)
