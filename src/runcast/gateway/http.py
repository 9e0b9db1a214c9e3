"""uvicorn's HTTP protocol, whose upgrades become sockets of our own with the request it has parsed.

uvicorn would write the request out again for its WebSocket protocol to parse a second time: a third of what it costs to
let a watcher in.
"""

from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.datastructures import Headers
from websockets.http11 import Request

from runcast.gateway.socket import GatewaySocket, Handler

_WANTED: Final = frozenset(
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

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over."""
        self.connections.discard(self)
        headers = Headers()
        for name, value in self.scope["headers"]:
            if name in _WANTED:
                headers[name.decode("ascii")] = value.decode("latin-1")
        request = Request(
            path=self.url.decode("ascii", "replace"),
            headers=headers,
            method=self.scope["method"],
            protocol=f"HTTP/{self.scope['http_version']}",
        )
        GatewaySocket(self.transport, connections=self.connections).open(request, self._handler)
