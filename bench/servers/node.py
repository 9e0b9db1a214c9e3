"""Node with `ws` and `ioredis`: the architecture that Runcast began as, and the same with its obvious waste taken out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from bench.load import Endpoint
from bench.peers_folder import PEERS, install_node_packages, node
from bench.processes import find_free_port, is_listening, start_process
from bench.servers.base import Lab, RunningServer, Server


class NodeOriginal(Server):
    """PSUBSCRIBE, parse, stringify per client."""

    name = "node"
    title = "Node `ws` + `ioredis`, original"
    mode: ClassVar[str] = "original"

    def install(self) -> str:
        """From npm."""
        return install_node_packages("node")

    @contextmanager
    def start(self, lab: Lab) -> Iterator[RunningServer]:
        """See `Server.start`."""
        port = find_free_port()
        argv = [node(), PEERS / "node" / "server.js", str(port), str(lab.redis.port), self.mode]
        environ = {"NODE_ENV": "production"}
        with start_process(
            argv, core=lab.cores.server, environ=environ, is_ready=lambda: is_listening(port)
        ) as process:
            endpoint = Endpoint(
                port=port, publish_port=lab.redis.port, server_pids=(process.pid,), redis_pids=(lab.redis.pid,)
            )
            yield RunningServer(lab, pid=process.pid, endpoint=endpoint)


class NodeTuned(NodeOriginal):
    """The published text goes to all clients as it is."""

    name = "node-tuned"
    title = "Node `ws` + `ioredis`, tuned"
    mode = "tuned"
