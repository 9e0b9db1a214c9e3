"""Socket.IO with its two Redis adapters; the load publishes what their emitters would."""

from typing import ClassVar

from bench.load import Endpoint
from bench.peers_folder import PEERS, install_node_packages, node
from bench.servers.base import Lab, Launch, Server, ready_when_listening

# MessagePack of [uid, packet, {rooms, except, flags}]; a run's name is 8 letters.
_PACKED = (
    r"\x93\xa5bench"
    r"\x83\xa4type\x02\xa4data\x92\xa5event%m\xa3nsp\xa1/"
    r"\x83\xa5rooms\x91\xa8%r\xa6except\x90\xa5flags\x80"
)
_JSON = r'{"opts":{"rooms":["%r"],"except":[],"flags":{}},"packet":{"type":2,"data":["event",%e],"nsp":"/"}}'


class SocketIO(Server):
    """`@socket.io/redis-adapter`: Pub/Sub."""

    name = "socketio"
    title = "Socket.IO, Redis adapter"
    mode: ClassVar[str] = "pubsub"
    publish: ClassVar[tuple[str, ...]] = ("PUBLISH", "socket.io#/#%r#", _PACKED)

    def install(self) -> str:
        """From npm."""
        return install_node_packages("socketio")

    def launch(self, lab: Lab, port: int) -> Launch:
        """See `Server.launch`."""
        argv = [node(), PEERS / "socketio" / "server.js", str(port), str(lab.redis.port), self.mode]
        return Launch(argv, ready_when_listening(port), {"NODE_ENV": "production"})

    def endpoint(self, lab: Lab, port: int) -> Endpoint:
        """See `Server.endpoint`."""
        return Endpoint(
            port=port,
            publish_port=lab.redis.port,
            publish=self.publish,
            path="/socket.io/?EIO=4&transport=websocket",
            wire="socketio",
        )


class SocketIOStreams(SocketIO):
    """`@socket.io/redis-streams-adapter` with connection state recovery."""

    name = "socketio-streams"
    title = "Socket.IO, Redis Streams adapter"
    keeps_history = True
    mode = "streams"
    publish = (
        "XADD",
        "socket.io",
        "MAXLEN",
        "~",
        "100000",
        "*",
        "uid",
        "bench",
        "nsp",
        "/",
        "type",
        "3",
        "data",
        _JSON,
    )
