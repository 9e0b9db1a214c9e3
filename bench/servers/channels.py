"""Django Channels on uvicorn, with the channel layer that uses Redis' Pub/Sub."""

from bench.load import Endpoint
from bench.peers_folder import PEERS, install_python_packages
from bench.servers.base import Lab, Launch, Server, ready_when_listening

_RUN_EVENT = r"\x82\xa4type\xa9run.event\xa4text%t"


class Channels(Server):
    """A consumer per socket, a group per run."""

    name = "channels"
    title = "Django Channels"

    def install(self) -> str:
        """From PyPI."""
        return install_python_packages("channels", ("channels", "channels_redis", "Django", "uvicorn"))

    def launch(self, lab: Lab, port: int) -> Launch:
        """See `Server.launch`."""
        folder = PEERS / "channels"
        options = [
            "--port",
            str(port),
            "--log-level",
            "warning",
            "--backlog",
            "4096",
            "--ws-per-message-deflate",
            "false",
        ]
        argv = [folder / "venv" / "bin" / "python", "-m", "uvicorn", "live.asgi:application", *options]
        return Launch(argv, ready_when_listening(port), {"REDIS_PORT": str(lab.redis.port)}, folder)

    def endpoint(self, lab: Lab, port: int) -> Endpoint:
        """See `Server.endpoint`."""
        return Endpoint(port=port, publish_port=lab.redis.port, publish=("PUBLISH", "asgi__group__%r", _RUN_EVENT))
