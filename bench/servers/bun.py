"""Bun: its own WebSocket server with native topics, and its own Redis client."""

from bench.peers_folder import PEERS, install_node_packages
from bench.servers.base import Lab, Launch, Server, ready_when_listening


class Bun(Server):
    """A topic per run."""

    name = "bun"
    title = "Bun, native publish"

    def install(self) -> str:
        """From npm."""
        return install_node_packages("bun")

    def launch(self, lab: Lab, port: int) -> Launch:
        """See `Server.launch`."""
        folder = PEERS / "bun"
        argv = [folder / "node_modules" / ".bin" / "bun", folder / "server.js", str(port), str(lab.redis.port)]
        return Launch(argv, ready_when_listening(port), {"NODE_ENV": "production"})
