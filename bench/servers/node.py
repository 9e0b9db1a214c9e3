"""Node with `ws` and `ioredis`: the architecture that Runcast began as, and the same without its obvious waste."""

from typing import ClassVar

from bench.peers_folder import PEERS, install_node_packages, node
from bench.servers.base import Lab, Launch, Server, ready_when_listening


class NodeOriginal(Server):
    """PSUBSCRIBE, parse, stringify per client."""

    name = "node"
    title = "Node `ws` + `ioredis`, original"
    mode: ClassVar[str] = "original"

    def install(self) -> str:
        """From npm."""
        return install_node_packages("node")

    def launch(self, lab: Lab, port: int) -> Launch:
        """See `Server.launch`."""
        argv = [node(), PEERS / "node" / "server.js", str(port), str(lab.redis.port), self.mode]
        return Launch(argv, ready_when_listening(port), {"NODE_ENV": "production"})


class NodeTuned(NodeOriginal):
    """The published text goes to all clients as it is."""

    name = "node-tuned"
    title = "Node `ws` + `ioredis`, tuned"
    mode = "tuned"
