"""The handshakes of our WebSockets: what a request to open one says, and what it is answered with. No I/O."""

import logging
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from runcast.core.access import SUBPROTOCOL, Credentials

_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n"
)
_PLAINLY_SWITCHING: Final = _SWITCHING + b"\r\n"


class Handshake(Protocol):
    """A request to open a WebSocket."""

    @property
    def target(self) -> str:
        """Path and query, as they were sent."""
        ...

    @property
    def credentials(self) -> Credentials:
        """Where it comes from and who sends it."""
        ...

    def answer(self) -> bytes | Response:
        """The answer that opens the connection; or one that says why it can't be opened."""
        ...


class PlainHandshake(msgspec.Struct, frozen=True):
    """One that is surely right, by a `key` of sixteen bytes, and asks for no subprotocol: mostly they are."""

    target: str
    credentials: Credentials
    key: str

    def answer(self) -> bytes:
        """See `Handshake.answer`."""
        return _PLAINLY_SWITCHING % accept_key(self.key).encode()


class ParsedHandshake:
    """Any other: websockets judges it."""

    def __init__(self, request: Request) -> None:
        self._request: Final = request

    @property
    def target(self) -> str:
        """See `Handshake.target`."""
        return self._request.path

    @property
    def credentials(self) -> Credentials:
        """See `Handshake.credentials`."""
        headers = self._request.headers
        return Credentials(
            host=_first(headers, "Host"),
            origin=_first(headers, "Origin"),
            authorization=_first(headers, "Authorization"),
            subprotocols=[
                name.strip() for offered in headers.get_all("Sec-WebSocket-Protocol") for name in offered.split(",")
            ],
        )

    def answer(self) -> bytes | Response:
        """See `Handshake.answer`."""
        try:
            key, _, subprotocol = _handshakes.process_request(self._request)
        except (InvalidHandshake, ValueError):
            return _handshakes.accept(self._request)
        chosen = b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode() if subprotocol else b""
        return _SWITCHING % key.encode() + chosen + b"\r\n"


def _first(headers: Headers, name: str) -> str | None:
    return next(iter(headers.get_all(name)), None)


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


_handshakes: Final = ServerProtocol(select_subprotocol=_select, logger=logging.getLogger("runcast.gateway.socket"))
"""Answers all handshakes: what it keeps of one has no part in the next."""
