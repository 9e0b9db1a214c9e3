"""Our WebSockets as their peers see them: RFC 6455, byte by byte, against the whole server."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

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
    raw_socket,
)
from tests.support.stack import Stack

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


def texts(frames: Sequence[Frame]) -> list[dict[str, object]]:
    return [msgspec.json.decode(frame.payload) for frame in frames if frame.opcode == TEXT]


def seqs(frames: Sequence[Frame]) -> list[object]:
    return [frame["seq"] for frame in texts(frames) if "seq" in frame]


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
