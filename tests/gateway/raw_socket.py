"""A WebSocket client that does as it is told: what it sends may be wrong, and it reads when the test says so."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, Self

import msgspec

from tests.support.stack import Stack

CONT: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="  # the RFC's example, and what has to be answered
ACCEPTED: Final = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class Frame(NamedTuple):
    """A frame of the server."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big")


class Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The problem's."""
        assert self.headers["content-type"] == "application/problem+json", self
        code: str = msgspec.json.decode(self.body)["code"]
        return code


def encode_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, reserved: int = 0
) -> bytes:
    """A client's frame; its mask is zero, so it may be read."""
    header = bytearray([(0x80 if fin else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        header.append(mask_bit | len(payload))
    elif len(payload) < 65_536:
        header += bytes([mask_bit | 126]) + len(payload).to_bytes(2, "big")
    else:
        header += bytes([mask_bit | 127]) + len(payload).to_bytes(8, "big")
    return bytes(header) + (bytes(4) if masked else b"") + payload


def encode_close(code: int, reason: str = "") -> bytes:
    return encode_frame(CLOSE, code.to_bytes(2, "big") + reason.encode())


def encode_request(path: str, *, method: str = "GET", protocol: str = "HTTP/1.1", **changed: str | None) -> bytes:
    """A handshake's request; headers may be changed, or left out with None. `_` stands for `-`."""
    headers: dict[str, str | None] = {
        "host": "127.0.0.1",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
    }
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} {path} {protocol}", *lines, "", ""]).encode()


class RawSocket:
    """One TCP connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader: Final = reader
        self.writer: Final = writer

    @classmethod
    async def connect(cls, stack: Stack, *, receive_bytes: int | None = None) -> Self:
        """With as little room for what isn't read as is asked for."""
        connection = socket.socket()
        if receive_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", stack.settings.port))
        return cls(*await asyncio.open_connection(sock=connection, limit=4_096))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def send_text(self, message: object) -> None:
        self.send(encode_frame(TEXT, msgspec.json.encode(message)))

    async def read_answer(self) -> Answer:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Answer(int(first.split()[1]), headers, body)

    async def read_frame(self) -> Frame:
        """The server's next frame, which is whole and not masked."""
        async with asyncio.timeout(20):
            first, length = await self.reader.readexactly(2)
            assert first & 0x70 == 0, "no extension was agreed upon"
            assert first & 0x80, "the server doesn't split messages"
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2), "big")
            elif length == 127:
                length = int.from_bytes(await self.reader.readexactly(8), "big")
            return Frame(first & 0x0F, await self.reader.readexactly(length))

    async def read_frames(self) -> list[Frame]:
        """All frames up to the close frame, after which there is nothing but the end of the connection."""
        frames = [await self.read_frame()]
        while frames[-1].opcode != CLOSE:
            frames.append(await self.read_frame())
        return frames

    async def read_control(self) -> Frame:
        """The next frame that isn't text."""
        while (frame := await self.read_frame()).opcode == TEXT:
            pass
        return frame

    async def read_end(self) -> bytes:
        """What still comes until the server closes the connection."""
        async with asyncio.timeout(10):
            return await self.reader.read(-1)

    async def upgrade(self, path: str, **changed: Any) -> Answer:
        self.send(encode_request(path, **changed))
        return await self.read_answer()

    def abort(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def raw_socket(
    stack: Stack, path: str | None = None, *, receive_bytes: int | None = None
) -> AsyncIterator[RawSocket]:
    """A connection, upgraded if there is a path."""
    connection = await RawSocket.connect(stack, receive_bytes=receive_bytes)
    try:
        if path is not None:
            answer = await connection.upgrade(path)
            assert answer.status == 101, answer
            assert answer.headers["sec-websocket-accept"] == ACCEPTED
        yield connection
    finally:
        connection.abort()


def texts(frames: Sequence[Frame]) -> list[dict[str, object]]:
    return [msgspec.json.decode(frame.payload) for frame in frames if frame.opcode == TEXT]


def seqs(frames: Sequence[Frame]) -> list[object]:
    return [frame["seq"] for frame in texts(frames) if "seq" in frame]


async def nobody_watches(stack: Stack) -> None:
    """Return once no connection is known, and nothing is listened to for one."""
    async with asyncio.timeout(10):
        while True:
            stats = await stack.get("/runs/stats")
            if (stats["activeConnections"], stats["redis"]["channels"]) == (0, 0):
                return
            await asyncio.sleep(0.01)
