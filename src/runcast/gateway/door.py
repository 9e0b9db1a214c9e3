"""The door: what a connection says first decides whether it becomes a WebSocket of ours or HTTP.

A WebSocket's request mostly comes whole, alone and plainly spelled. Then it is read here, and no protocol of uvicorn's
is made for the connection. Everything else is uvicorn's, from the connection's first byte on: other requests, and
upgrades that come in pieces, with something behind, or in words that need a parser.

Never: answers, or refuses. What isn't surely understood here is somebody else's to judge.
"""

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from runcast.core.access import Credentials
from runcast.gateway.handshakes import PlainHandshake
from runcast.gateway.http import GatewayHttpProtocol
from runcast.gateway.socket import GatewaySocket

# RFC 9110's tokens and RFC 9112's lines, without what is obsolete in them: folded lines, bytes beyond ASCII.
_REQUEST: Final = re.compile(
    rb"GET (/ws/[!-~]++) HTTP/1\.1\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~]*+\r\n)++)\r\n",
)
_KEY: Final = re.compile("[A-Za-z0-9+/]{22}==")  # sixteen bytes
_ELSEWHERE: Final = frozenset({"content-length", "transfer-encoding", "sec-websocket-protocol"})


class Door(GatewaySocket):
    """One connection, until it has said something; then the socket itself, if it becomes one. `options` are what
    uvicorn makes its protocols with, and the handler.
    """

    __slots__ = ("_options",)

    def __init__(self, **options: Any) -> None:
        self._options: Mapping[str, Any] | None = options  # None once it is a socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        options = cast("Mapping[str, Any]", self._options)
        super().__init__(cast("asyncio.Transport", transport), connections=options["server_state"].connections)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        options, self._options = self._options, None
        if options is None:
            super().data_received(data)
            return
        # Fast path: every connection of a storm passes here, see `python -m bench --only storm`. It goes on with the
        # protocol it has: for another one the loop would begin anew to read from it.
        handshake = read_handshake(data)
        if handshake is not None:
            self.open(handshake, options["handler"])
        else:
            self._leave_to_uvicorn(data, options)

    def _leave_to_uvicorn(self, data: bytes, options: Mapping[str, Any]) -> None:
        protocol = GatewayHttpProtocol(**options)
        self._connections.discard(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)


def read_handshake(data: bytes) -> PlainHandshake | None:
    """The request for a WebSocket that the bytes are, wholly and plainly; else None."""
    # Fast path: with a parser's objects it costs three times as much, see `python -m bench --only storm`.
    match = _REQUEST.fullmatch(data)
    if match is None:
        return None
    lines = match[2].decode().splitlines()
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip(" \t")
    said = headers.get
    key = said("sec-websocket-key", "")
    if (
        said("upgrade") != "websocket"
        or said("connection") != "Upgrade"
        or said("sec-websocket-version") != "13"
        or not _KEY.fullmatch(key)
        or len(headers) != len(lines)  # something is said twice
        or not _ELSEWHERE.isdisjoint(headers)
    ):
        return None
    credentials = Credentials(host=said("host"), origin=said("origin"), authorization=said("authorization"))
    return PlainHandshake(match[1].decode(), credentials, key)
