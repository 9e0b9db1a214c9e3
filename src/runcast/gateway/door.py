"""The door: what a connection says first decides whether it becomes a WebSocket of ours or HTTP.

A WebSocket's request mostly comes whole, alone and plainly spelled. Then it is read here, and no protocol of uvicorn's
is made for the connection. Everything else is uvicorn's, from the connection's first byte on: other requests, and
upgrades that come in pieces, with something behind, or in words that need a parser.

Never: answers, or refuses. What isn't surely understood here is somebody else's to judge.
"""

import asyncio
import re
from typing import Any, Final

from websockets.datastructures import Headers
from websockets.http11 import Request

from runcast.gateway.http import WANTED_HEADERS, GatewayHttpProtocol
from runcast.gateway.socket import GatewaySocket, Handler

# RFC 9110's tokens and RFC 9112's lines, without what is obsolete in them: folded lines, bytes beyond ASCII.
_REQUEST: Final = re.compile(
    rb"GET (/ws/[!-~]+) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~]*\r\n)+)\r\n",
)
_HEADER: Final = re.compile(rb"([^:\r]+):([^\r]*)\r\n")
_BODIED: Final = frozenset({b"content-length", b"transfer-encoding"})


class Door(asyncio.Protocol):
    """One connection, until it has said something. `options` are what uvicorn makes its protocols with."""

    __slots__ = ("_connections", "_handler", "_options", "_transport")

    def __init__(self, *, handler: Handler, **options: Any) -> None:
        self._handler: Final = handler
        self._options: Final = options
        self._connections: Final[set[Any]] = options["server_state"].connections  # the server lets them go in the end
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = transport
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._connections.discard(self)
        # Fast path: every connection of a storm passes here, see `python -m bench --only storm`.
        request = read_upgrade(data)
        if request is not None:
            GatewaySocket(self._transport, connections=self._connections).open(request, self._handler)
            return
        protocol = GatewayHttpProtocol(handler=self._handler, **self._options)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - it has said nothing
        """See `asyncio.Protocol`."""
        self._connections.discard(self)

    def shutdown(self) -> None:
        """The server stops."""
        self._transport.close()


def read_upgrade(data: bytes) -> Request | None:
    """The request for a WebSocket that the bytes are, wholly and plainly; else None."""
    match = _REQUEST.fullmatch(data)
    if match is None:
        return None
    headers = Headers()
    for name, value in _HEADER.findall(match[2]):
        known = name.lower()
        if known in WANTED_HEADERS:
            headers[known.decode()] = value.strip(b" \t").decode()
        elif known in _BODIED:
            return None
    if headers.get_all("Upgrade") != ["websocket"] or headers.get_all("Connection") != ["Upgrade"]:
        return None
    return Request(path=match[1].decode(), headers=headers)
