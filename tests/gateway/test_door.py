"""The door: the short ways into a WebSocket decide as the long ones do."""

from collections.abc import Sequence

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from runcast.core.access import Credentials
from runcast.gateway.door import read_handshake
from runcast.gateway.handshakes import ParsedHandshake
from tests.gateway.raw_socket import ACCEPTED, KEY, encode_request

LINE = b"GET /ws/runs/abc?after=1-2 HTTP/1.1\r\n"
HEADERS = b"Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
KEYED = b"sec-websocket-key:\t" + KEY.encode() + b" \r\n"
WHOLE = LINE + HEADERS + KEYED + b"User-Agent: somebody\r\n\r\n"
HANDSHAKE = (
    ("Host", "localhost"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
)


def test_a_plain_upgrade_is_read() -> None:
    """With what counts of its headers, whatever their case and the blanks around their values."""
    handshake = read_handshake(WHOLE)
    assert handshake is not None
    assert (handshake.target, handshake.key) == ("/ws/runs/abc?after=1-2", KEY)
    assert handshake.credentials == Credentials(host="localhost")


def test_a_plain_upgrade_says_where_it_comes_from_and_who_sends_it() -> None:
    """As a parser would read it."""
    said = {"origin": "http://localhost:8000", "authorization": "Bearer  a b"}
    handshake = read_handshake(encode_request("/ws/runs", **said))
    assert handshake is not None
    assert handshake.credentials == Credentials(host="127.0.0.1", **said)
    parsed = ParsedHandshake(Request("/ws/runs", Headers(host="127.0.0.1", **said)))
    assert (parsed.target, parsed.credentials) == ("/ws/runs", Credentials(host="127.0.0.1", subprotocols=[], **said))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WHOLE[:-1],
        WHOLE[:-2],
        WHOLE + b"x",
        WHOLE + WHOLE,
        WHOLE.replace(b"GET", b"POST"),
        WHOLE.replace(b"/ws/", b"/runs/"),
        WHOLE.replace(b" /ws", b"  /ws"),
        WHOLE.replace(b"/ws", b"http://localhost/ws"),
        WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"),
        WHOLE.replace(b"\r\n", b"\n"),
        WHOLE.replace(b"Host:", b"Host :"),
        WHOLE.replace(b"Host:", b" Host:"),
        WHOLE.replace(b"localhost", b"local\r\n host"),
        WHOLE.replace(b"localhost", b"local\rhost"),
        WHOLE.replace(b"localhost", b"local\0host"),
        WHOLE.replace(b"localhost", "löcalhost".encode()),
        WHOLE.replace(b"User-Agent: somebody", b"Content-Length: 5"),
        WHOLE.replace(b"User-Agent: somebody", b"transfer-encoding: chunked"),
        WHOLE.replace(b"User-Agent: somebody", b"Upgrade: h2c"),
        WHOLE.replace(b"User-Agent: somebody", b"host: elsewhere"),
        WHOLE.replace(b"User-Agent: somebody", b"Sec-WebSocket-Protocol: runcast.v1"),
        WHOLE.replace(b"Upgrade: websocket\r\n", b""),
        WHOLE.replace(b"Connection: Upgrade", b"Connection: keep-alive, Upgrade"),
    ],
)
def test_what_is_not_plain_is_not_read(data: bytes) -> None:
    """A parser that knows all of HTTP has to judge it."""
    assert read_handshake(data) is None


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"Sec-WebSocket-Key": KEY[:-1]},
        {"Sec-WebSocket-Key": KEY[:-4]},
        {"Sec-WebSocket-Key": "AAAA" + KEY},
        {"Sec-WebSocket-Key": "-" + KEY[1:]},
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Version": "12"},
        {"Sec-WebSocket-Version": ""},
        {"Sec-WebSocket-Protocol": "chat, runcast.v1"},
        {"Sec-WebSocket-Protocol": "a b"},
        {"Sec-WebSocket-Extensions": "permessage-deflate"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "close"},
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c"},
        {"Origin": "http://localhost"},
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_handshake_is_judged_as_by_websockets(changed: dict[str, str], times: int) -> None:
    """Also if what is changed is said twice. What is read plainly is answered in the very same words."""
    named = [item for item in HANDSHAKE if item[0] not in changed] + [*changed.items()] * times
    headers = Headers(named)
    for method, protocol in (("GET", "HTTP/1.1"), ("POST", "HTTP/1.1"), ("GET", "HTTP/1.0")):
        request = Request(path="/ws/runs", headers=headers, method=method, protocol=protocol)
        lines = [f"{method} /ws/runs {protocol}", *(f"{name}: {value}" for name, value in named), "", ""]
        plain = read_handshake("\r\n".join(lines).encode())
        answer = ParsedHandshake(request).answer()
        try:
            _, _, chosen = ServerProtocol(select_subprotocol=_select).process_request(request)
        except (InvalidHandshake, ValueError):
            assert plain is None
            assert isinstance(answer, Response)
            assert answer.status_code >= 400
        else:
            assert chosen == ("runcast.v1" if "runcast.v1" in str(changed) else None)
            assert isinstance(answer, bytes)
            assert f"\r\nSec-WebSocket-Accept: {ACCEPTED}\r\n".encode() in answer
            assert (b"Sec-WebSocket-Protocol: runcast.v1\r\n" in answer) == (chosen is not None)
            assert plain is None or plain.answer() == answer


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol("runcast.v1") if "runcast.v1" in offered else None
