"""The handshakes of our WebSockets: what a request to open one is answered with. No I/O."""

import logging
import re
from collections.abc import Sequence
from typing import Final

from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from runcast.core.access import SUBPROTOCOL

_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n"
)
_KEY: Final = re.compile("[A-Za-z0-9+/]{22}==")  # sixteen bytes


def answer_handshake(request: Request) -> bytes:
    """The answer that opens the connection.

    Raises:
        InvalidHandshake, ValueError: it isn't a handshake.

    """
    key, subprotocol = negotiate(request)
    chosen = b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode() if subprotocol else b""
    return _SWITCHING % key.encode() + chosen + b"\r\n"


def refuse_handshake(request: Request) -> Response:
    """The answer to what isn't a handshake, which says why."""
    return _handshakes.accept(request)


def negotiate(request: Request) -> tuple[str, str | None]:
    """The key's answer and the subprotocol.

    Raises:
        InvalidHandshake, ValueError: it isn't a handshake.

    """
    # Fast path: most handshakes say the same in the same words. For these there is nothing to be parsed, which costs
    # as much as all the rest of an answer: `python -m bench --only storm`. Any other is websockets' to judge.
    given = request.headers.get_all
    keys = given("Sec-WebSocket-Key")
    if (
        request.method == "GET"
        and request.protocol == "HTTP/1.1"
        and given("Connection") == ["Upgrade"]
        and given("Upgrade") == ["websocket"]
        and given("Sec-WebSocket-Version") == ["13"]
        and not given("Sec-WebSocket-Protocol")
        and len(given("Origin")) <= 1
        and len(keys) == 1
        and _KEY.fullmatch(keys[0])
    ):
        return accept_key(keys[0]), None
    key, _, subprotocol = _handshakes.process_request(request)
    return key, subprotocol


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


_handshakes: Final = ServerProtocol(select_subprotocol=_select, logger=logging.getLogger("runcast.gateway.socket"))
"""Answers all handshakes: what it keeps of one has no part in the next."""
