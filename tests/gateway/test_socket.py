"""Our WebSockets as their peers see them: RFC 6455, byte by byte, against the whole server."""

import asyncio
import base64
from pathlib import Path

import pytest

from runcast import Runcast
from tests.gateway.conftest import Gates
from tests.gateway.raw_socket import (
    BINARY,
    CLOSE,
    CONT,
    PING,
    PONG,
    TEXT,
    Frame,
    encode_close,
    encode_frame,
    encode_request,
    nobody_watches,
    raw_socket,
    texts,
)
from tests.support.stack import Stack, start_stack

every_loop = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

SUBSCRIBE = b'{"type":"subscribe","tag":"a"}'
BROKEN = {
    "text that isn't UTF-8": (encode_frame(TEXT, b"\xff"), 1007),
    "text whose second half isn't UTF-8": (
        encode_frame(TEXT, b"\xc3", fin=False) + encode_frame(CONT, b"\x28"),
        1007,
    ),
    "a message that is too large": (encode_frame(TEXT, b"a" * 4_097), 1009),
    "fragments that are too large together": (
        encode_frame(TEXT, b"a" * 4_000, fin=False) + encode_frame(CONT, b"a" * 97),
        1009,
    ),
    "a frame without a mask": (encode_frame(TEXT, SUBSCRIBE, masked=False), 1002),
    "a reserved bit": (encode_frame(TEXT, SUBSCRIBE, reserved=4), 1002),
    "an opcode that is none": (encode_frame(0x3), 1002),
    "a control opcode that is none": (encode_frame(0xB), 1002),
    "a ping in fragments": (encode_frame(PING, fin=False), 1002),
    "a ping that is too long": (encode_frame(PING, bytes(126)), 1002),
    "a continuation of nothing": (encode_frame(CONT, SUBSCRIBE), 1002),
    "a message within a message": (encode_frame(TEXT, fin=False) + encode_frame(TEXT), 1002),
    "half a close code": (encode_frame(CLOSE, b"\x03"), 1002),
    "a close code that nobody may send": (encode_close(1005), 1002),
    "a close reason that isn't UTF-8": (encode_frame(CLOSE, b"\x03\xe8\xff"), 1007),
}


@every_loop
async def test_a_peer_that_breaks_the_protocol_is_told_how(stack: Stack) -> None:
    """The close code names the fault, and the connection ends without waiting for an answer."""
    codes = {}
    for fault, (sent, _) in BROKEN.items():
        async with raw_socket(stack, "/ws/runs") as socket:
            socket.send(sent)
            codes[fault] = (await socket.read_control()).close_code
            assert await socket.read_end() == b""
    assert codes == {fault: code for fault, (_, code) in BROKEN.items()}


@every_loop
async def test_a_message_may_come_in_fragments_with_pings_between(stack: Stack) -> None:
    """Split anywhere, even within a character, and into empty ones; each ping is answered with its payload."""
    word = '{"type":"subscribe","tag":"ä"}'.encode()
    at = word.index(b"\xa4")
    async with raw_socket(stack, "/ws/runs") as socket:
        assert texts([await socket.read_frame()])[0]["payload"] == {"status": "connected"}
        socket.send(encode_frame(TEXT, fin=False) + encode_frame(CONT, word[:at], fin=False))
        socket.send(encode_frame(PING, b"still there?") + encode_frame(CONT, fin=False))
        assert await socket.read_frame() == Frame(PONG, b"still there?")
        socket.send(encode_frame(PING) + encode_frame(CONT, word[at:]))
        assert await socket.read_frame() == Frame(PONG, b"")
        assert texts([await socket.read_frame()])[0]["payload"] == {"status": "connected", "tag": "ä"}


async def test_a_frame_may_come_byte_by_byte(stack: Stack) -> None:
    """Where a frame ends is the frame's to say, not the network's."""
    async with raw_socket(stack, "/ws/runs") as socket:
        await socket.read_frame()
        for byte in encode_frame(PING, b"a" * 125) + encode_frame(TEXT, SUBSCRIBE):
            socket.send(bytes([byte]))
            await socket.writer.drain()
            await asyncio.sleep(0)
        assert await socket.read_frame() == Frame(PONG, b"a" * 125)
        assert texts([await socket.read_frame()])[0]["payload"] == {"status": "connected", "tag": "a"}


async def test_a_binary_message_is_a_mistake_like_any_other(stack: Stack) -> None:
    """It is answered; the socket stays."""
    async with raw_socket(stack, "/ws/runs") as socket:
        await socket.read_frame()
        socket.send(encode_frame(BINARY, SUBSCRIBE))
        assert texts([await socket.read_frame()])[0]["type"] == "error"
        socket.send(encode_frame(TEXT, SUBSCRIBE))
        assert texts([await socket.read_frame()])[0]["type"] == "run_status"


@every_loop
async def test_a_close_frame_is_echoed(stack: Stack, gates: Gates) -> None:
    """With its code; then the server closes the connection, and nothing else is written."""
    run_id = await stack.create("hold", gate="a")
    for close in (b"", *(code.to_bytes(2, "big") + b"bye" for code in (1000, 1001, 3000, 4999))):
        async with raw_socket(stack, f"/ws/runs/{run_id}") as socket:
            await socket.read_frame()
            socket.send(encode_frame(CLOSE, close) + encode_frame(PING))
            assert await socket.read_control() == Frame(CLOSE, close)
            assert await socket.read_end() == b""
    await nobody_watches(stack)
    gates["a"].set()


@every_loop
async def test_a_peer_that_closes_its_half_is_let_go(stack: Stack, gates: Gates) -> None:
    """It can't answer a close frame any more, so none is sent."""
    run_id = await stack.create("hold", gate="a")
    async with raw_socket(stack, f"/ws/runs/{run_id}") as socket:
        await socket.read_frame()
        socket.writer.write_eof()
        assert not any(frame for frame in [await socket.read_end()] if CLOSE in frame[-4:-3])
    await nobody_watches(stack)
    gates["a"].set()


HANDSHAKES: dict[str, tuple[dict[str, str | None], int]] = {
    "no key": ({"sec_websocket_key": None}, 400),
    "a key that is too short": ({"sec_websocket_key": "YQ=="}, 400),
    "a key that isn't base64": ({"sec_websocket_key": "?"}, 400),
    "no version": ({"sec_websocket_version": None}, 400),
    "a version that isn't spoken": ({"sec_websocket_version": "8"}, 400),
    "another method": ({"method": "POST"}, 405),
    "a name that isn't served": ({"host": "evil.example"}, 403),
    "another site's page": ({"origin": "https://evil.example"}, 403),
}


async def test_a_bad_handshake_is_answered_with_a_problem(stack: Stack) -> None:
    """As any other request is; then the connection is closed."""
    statuses = {}
    for fault, (changed, _) in HANDSHAKES.items():
        async with raw_socket(stack) as socket:
            answer = await socket.upgrade("/ws/runs/x", **changed)
            assert answer.code
            assert answer.headers["connection"] == "close"
            assert await socket.read_end() == b""
            statuses[fault] = answer.status
    assert statuses == {fault: status for fault, (_, status) in HANDSHAKES.items()}


async def test_there_is_no_socket_but_those_of_runs(stack: Stack) -> None:
    """Another path is not found, be it the API's."""
    for path in ("/", "/ws", "/ws/runs/", "/ws/runs/a/b", "/runs", "/ws/runs/%2F", "/x/ws/runs/a"):
        async with raw_socket(stack) as socket:
            answer = await socket.upgrade(path)
            assert (answer.status, answer.code) == (404, "not_found")


async def test_the_subprotocol_is_ours_or_none(stack: Stack) -> None:
    """Whatever else is offered."""
    chosen = {}
    for offered in (None, "chat", "runcast.v1", "chat, runcast.v1, runcast.bearer.a"):
        async with raw_socket(stack) as socket:
            answer = await socket.upgrade("/ws/runs", sec_websocket_protocol=offered)
            chosen[offered] = answer.headers.get("sec-websocket-protocol")
    assert chosen == {None: None, "chat": None, "runcast.v1": "runcast.v1"} | {
        "chat, runcast.v1, runcast.bearer.a": "runcast.v1"
    }


@every_loop
async def test_a_request_may_come_before_the_upgrade(stack: Stack) -> None:
    """On the same connection, once it is answered."""
    async with raw_socket(stack) as socket:
        socket.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await socket.read_answer()).status == 200
        assert (await socket.upgrade("/ws/runs")).status == 101
        assert texts([await socket.read_frame()])[0]["payload"] == {"status": "connected"}


@every_loop
async def test_an_upgrade_right_behind_a_request_is_not_mixed_with_its_answer(stack: Stack) -> None:
    """A connection whose last request isn't answered can't be a WebSocket: the second is answered as plain HTTP."""
    async with raw_socket(stack) as socket:
        socket.send(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + encode_request("/ws/runs"))
        assert (await socket.read_answer()).status == 200
        assert (await socket.read_answer()).status == 404


@every_loop
async def test_what_comes_with_the_request_is_heard(stack: Stack, gates: Gates) -> None:
    """A peer that doesn't wait for the answer loses nothing, in the same packet or the next."""
    run_id = await stack.create("hold", gate="a")
    for pieces in (
        [encode_request(f"/ws/runs/{run_id}") + encode_frame(PING, b"early")],
        [encode_request(f"/ws/runs/{run_id}"), encode_frame(PING, b"early")],
    ):
        async with raw_socket(stack) as socket:
            for piece in pieces:
                socket.send(piece)
            assert (await socket.read_answer()).status == 101
            assert await socket.read_control() == Frame(PONG, b"early")
    gates["a"].set()


@every_loop
async def test_a_peer_that_leaves_with_its_request_leaves_nothing_behind(stack: Stack, gates: Gates) -> None:
    """A close frame may be there before the handler is."""
    run_id = await stack.create("hold", gate="a")
    for path in ("/ws/runs", f"/ws/runs/{run_id}"):
        async with raw_socket(stack) as socket:
            socket.send(encode_request(path) + encode_close(1000))
            assert (await socket.read_answer()).status == 101
            assert (await socket.read_control()).close_code == 1000
            assert await socket.read_end() == b""
    await nobody_watches(stack)
    gates["a"].set()


@every_loop
async def test_a_page_that_gives_its_key_as_a_subprotocol_comes_in(
    app: Runcast, redis_url: str, tmp_path: Path
) -> None:
    """A browser can't set headers; without the key nobody gets as far as the handshake."""
    key = "a-key-that-is-long-enough-for-anybody"
    bearer = "runcast.bearer." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    statuses = {}
    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path, api_key=key) as stack:
        for offered in (None, "runcast.v1", "runcast.v1, runcast.bearer.YQ", f"runcast.v1, {bearer}"):
            async with raw_socket(stack) as socket:
                statuses[offered] = (await socket.upgrade("/ws/runs", sec_websocket_protocol=offered)).status
    assert list(statuses.values()) == [401, 401, 401, 101]
