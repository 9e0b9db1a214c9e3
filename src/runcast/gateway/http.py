"""uvicorn's HTTP protocol, whose upgrades become sockets of our own with the request it has parsed.

uvicorn would write the request out again for its WebSocket protocol to parse a second time: a third of what it costs to
let a watcher in.
"""

import sys
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request

from runcast.gateway.handshakes import ParsedHandshake
from runcast.gateway.socket import GatewaySocket, Handler

_WANTED_HEADERS: Final = frozenset(
    {
        b"authorization",
        b"connection",
        b"host",
        b"origin",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
        b"upgrade",
    }
)
"""Headers that say something of a handshake or of who sends it; a browser sends twice as many."""


class GatewayHttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    def __init__(self, *arguments: Any, handler: Handler, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._handler: Final = handler
        self._received = b""  # what is being parsed

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._received = data
        super().data_received(data)
        self._received = b""

    def _should_upgrade(self) -> bool:
        # Behind a request that isn't answered yet its answer would go between the frames: then it is one more request.
        cycle: Any = self.cycle  # None before the first request, whatever its annotation says
        is_answered = cycle is None or cycle.response_complete
        return is_answered and super()._should_upgrade()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        self.connections.discard(self)
        headers = Headers()
        for name, value in self.scope["headers"]:
            if name in _WANTED_HEADERS:
                headers[name.decode("ascii")] = value.decode("latin-1")
        request = Request(
            path=self.url.decode("ascii", "replace"),
            headers=headers,
            method=self.scope["method"],
            protocol=f"HTTP/{self.scope['http_version']}",
        )
        socket = GatewaySocket(self.transport, connections=self.connections)
        self.transport.set_protocol(socket)
        socket.open(ParsedHandshake(request), self._handler, early=self._received[_end_of_request() :])


def _end_of_request() -> int:
    """Where in what was received frames begin. httptools says it by the exception that tells of the upgrade."""
    error = sys.exc_info()[1]
    return int(error.args[0]) if isinstance(error, httptools.HttpParserUpgrade) else sys.maxsize
