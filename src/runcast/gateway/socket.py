"""A WebSocket of our own, on the server's transport: what comes in goes through websockets' parser, what goes out is
framed once and shared.

The HTTP server hands a connection over with the request it has parsed. websockets answers the handshake once a handler
has said that the peer may come in. From then on an idle connection is a transport, this object and its watcher; a
parser is made when the peer says something.

Invariants: nothing is written before the handshake's answer, or after a close frame. A peer that doesn't read is not
read from either, so it can't make us answer pings into memory. There is a task only while a connection opens and
has to wait for its run, a timer only while it closes.
"""

import asyncio
import logging
import os
import sys
from array import array
from collections.abc import Callable, Coroutine, Mapping, Sequence
from enum import IntEnum
from struct import Struct
from typing import Any, Final, NamedTuple, Protocol, cast

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import SERVER, State
from websockets.protocol import Protocol as Parser

from runcast.gateway.handshakes import Handshake
from runcast.logs import get_logger

log = get_logger()

CLOSE_FINISHED: Final = (1000, "run finished")
CLOSE_FAULT: Final = (1011, "something went wrong inside; come back with your cursor")
CLOSE_RESTART: Final = (1012, "the server is restarting; come back with your cursor")

MAX_MESSAGE_BYTES: Final = 4_096
MAX_WAITING_MESSAGES: Final = 32
"""Messages that nobody has taken yet: while there are as many the peer is not read from."""

CLOSE_SECONDS: Final = 10.0
"""How long the peer may take to answer a close frame."""

LINGER_SECONDS: Final = 60.0
"""How long what was written may then take to leave."""

GOODBYE_SECONDS: Final = 1.0
"""How long a stopping gateway tries to say goodbye to a peer that doesn't read."""

_CAN_WRITE_PAST: Final = sys.platform != "win32"  # where a socket is a file descriptor
_DATA: Final = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_WHOLE_TEXT: Final = 0x81  # a text message in one frame
_HEADER: Final = Struct("!BB").pack
_HEADER_16: Final = Struct("!BBH").pack
_HEADER_64: Final = Struct("!BBQ").pack
_MAX_SHORT: Final = 125
_MAX_16_BITS: Final = 65_535
_logger: Final = logging.getLogger("runcast.gateway.socket")  # for websockets' parsers, which want one
_logger.setLevel(logging.WARNING)


class WebSocketWire:
    """Our WebSockets as a kind of transport: text messages, each in one frame that isn't masked."""

    def encode(self, frames: Sequence[bytes]) -> bytes:
        """See `Wire.encode`."""
        if len(frames) == 1 and _MAX_SHORT < len(frames[0]) <= _MAX_16_BITS:  # fast path: mostly
            return _HEADER_16(_WHOLE_TEXT, 126, len(frames[0])) + frames[0]
        pieces: list[bytes] = []
        for frame in frames:
            length = len(frame)
            if length <= _MAX_SHORT:
                header = _HEADER(_WHOLE_TEXT, length)
            elif length <= _MAX_16_BITS:
                header = _HEADER_16(_WHOLE_TEXT, 126, length)
            else:
                header = _HEADER_64(_WHOLE_TEXT, 127, length)
            pieces += (header, frame)
        return b"".join(pieces)

    def gather(self, outlets: Sequence["GatewaySocket"]) -> "_Gathered":
        """See `Wire.gather`."""
        direct = {socket.fd: socket for socket in outlets if socket.fd >= 0}
        return _Gathered(array("i", direct), direct, tuple(socket for socket in outlets if socket.fd < 0))

    def write_all(self, gathered: "_Gathered", piece: bytes) -> None:
        """See `Wire.write_all`."""
        # Fast path: a delivery is this loop's body, see `python -m bench --only fanout`. A socket that isn't full has
        # nothing waiting in its transport, so the kernel may be given the piece past it; what the kernel doesn't take
        # is the transport's, as is every error. The descriptor is its own: `connection_lost` comes before it is closed.
        # An array, because a thousand objects would be a thousand cache misses: the kernel's part empties the cache.
        length, write = len(piece), os.write
        for fd in gathered.fds:
            try:
                written = write(fd, piece)
            except OSError:
                written = 0
            if written != length:
                gathered.direct[fd].write(piece[written:])
        for socket in gathered.others:
            socket.write(piece)


class _Gathered(NamedTuple):
    fds: "array[int]"
    direct: "Mapping[int, GatewaySocket]"  # by descriptor
    others: "Sequence[GatewaySocket]"  # that may only be written to by their transports


WIRE: Final = WebSocketWire()


class Pushed(Protocol):
    """Who writes to a socket by itself."""

    def wake(self) -> None:
        """The socket takes more."""
        ...

    def receive_full(self) -> None:
        """The socket takes no more just now."""
        ...


Handler = Callable[["GatewaySocket", Handshake], Coroutine[Any, Any, None] | None]
"""Called with a connection's handshake: accepts or rejects it at once, then serves it or has it served. What it returns
is left to be awaited, in a task."""


class Stage(IntEnum):
    """Where a connection is in its life. It never goes back."""

    OPENING = 0  # the handshake isn't answered
    OPEN = 1
    CLOSING = 2  # nothing more is written
    LOST = 3


class GatewaySocket(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_connections",
        "_drained",
        "_early",
        "_head",
        "_is_text",
        "_message",
        "_messages",
        "_on_gone",
        "_parser",
        "_pushed",
        "_stage",
        "_task",
        "_timer",
        "_transport",
        "fd",
        "is_full",
    )

    wire: Final = WIRE  # our kind of transport

    def __init__(self, transport: asyncio.Transport, *, connections: set[Any]) -> None:
        self.is_full = False  # whether the transport has more than enough to send
        self.fd = -1  # what the transport writes to, if that may be done past it
        self._transport: Final = transport
        self._connections: Final = connections  # the server's: it waits for them when it stops
        self._stage = Stage.OPENING
        self._head = b""  # the handshake's answer, to be written with what comes first
        self._early = b""  # came before the handshake was answered
        self._task: asyncio.Task[None] | None = None  # the handler's
        self._parser: Parser | None = None  # None while the peer has said nothing
        self._message: bytearray | None = None  # that is coming, as far as it is here
        self._is_text = False  # that message
        self._messages: asyncio.Queue[str | None] | None = None  # not taken yet, if anybody listens; None: it has left
        self._pushed: Pushed | None = None
        self._on_gone: Callable[[], None] | None = None
        self._drained: asyncio.Event | None = None  # None until somebody waits for it
        self._timer: asyncio.TimerHandle | None = None
        connections.add(self)

    def write(self, piece: bytes) -> None:
        """Give a piece to the transport, unless nothing may be said any more."""
        if self._stage is not Stage.OPEN:
            return
        if self._head:
            piece, self._head = self._head + piece, b""
        self._transport.write(piece)

    def open(self, handshake: Handshake, handler: Handler, *, early: bytes = b"") -> None:
        """Begin, with what has come behind the handshake, and ask the handler. The transport's protocol is this."""
        transport = self._transport
        # Whatever waits makes us full: then a socket that isn't has nothing waiting. An answer to a request before this
        # one may wait already, and who was told of it is the HTTP protocol.
        transport.set_write_buffer_limits(high=0)
        self.is_full = transport.get_write_buffer_size() > 0
        if _CAN_WRITE_PAST and transport.get_extra_info("sslcontext") is None:
            self.fd = transport.get_extra_info("socket").fileno()
        if early:
            self._receive_early(early)
        try:
            left = handler(self, handshake)
        except Exception as error:  # noqa: BLE001 - whatever it was, the peer is told
            self._fail(error)
            return
        if left is not None:
            self._task = asyncio.create_task(left, name="websocket")
            self._task.add_done_callback(self._end_task)
        self._begin()

    def accept(self, handshake: Handshake) -> Response | None:
        """Answer the handshake: the connection stands. Or why it can't: the caller is to reject it."""
        answer = handshake.answer()
        if isinstance(answer, Response):
            return answer
        self._head = answer
        self._stage = Stage.OPEN
        return None

    def reject(self, response: Response) -> None:
        """Answer the handshake with a refusal, and end."""
        self._transport.write(response.serialize())
        self._advance(Stage.CLOSING)
        self._hang_up()

    def push(self, pushed: Pushed, *, on_gone: Callable[[], None]) -> None:
        """Have somebody write. `on_gone` is called once, when nothing more can be written."""
        if self._stage is not Stage.OPEN:
            on_gone()
            return
        self._pushed = pushed
        self._on_gone = on_gone

    def listen(self) -> None:
        """Keep the peer's messages for `receive`; without this they are let go."""
        self._messages = asyncio.Queue()

    async def receive(self) -> str | None:
        """The peer's next message; None once it has left. Only after `listen`."""
        messages = cast("asyncio.Queue[str | None]", self._messages)
        message = await messages.get()
        self._regulate_reading()
        return message

    async def send(self, frames: Sequence[bytes]) -> None:
        """Write frames as soon as the transport takes more.

        Raises:
            ConnectionResetError: the connection is over.

        """
        while self.is_full and self._stage is Stage.OPEN:
            if self._drained is None:
                self._drained = asyncio.Event()
            self._drained.clear()
            await self._drained.wait()
        if self._stage is not Stage.OPEN:
            raise ConnectionResetError("the connection is over")
        self.write(WIRE.encode(frames))

    def close(self, code: int, reason: str) -> None:
        """Send a close frame behind what was written; the connection ends once the peer has answered it."""
        if self._stage is not Stage.OPEN:
            return
        parser = self._parser = self._parser or _new_parser()
        parser.send_close(code, reason)
        self._send_parsed(parser)
        self._advance(Stage.CLOSING)
        self._regulate_reading()
        self._wait_at_most(CLOSE_SECONDS, self._hang_up)

    def receive_end(self) -> None:
        """The run has ended, and everything was written."""
        self.close(*CLOSE_FINISHED)

    def shutdown(self) -> None:
        """The server stops: the peer is to come back later, and isn't waited for long."""
        self.close(*CLOSE_RESTART)
        if self._stage is Stage.OPENING:
            self._transport.close()
        self._wait_at_most(GOODBYE_SECONDS, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._stage is Stage.OPENING:
            self._receive_early(data)
            return
        if self._early:
            data, self._early = self._early + data, b""
        parser = self._parser = self._parser or _new_parser()
        parser.receive_data(data)
        for event in parser.events_received():
            if isinstance(event, Frame):
                self._receive_frame(event, parser)
        self._send_parsed(parser)
        self._regulate_reading()

    def eof_received(self) -> None:
        """See `asyncio.Protocol`. A peer that says nothing any more can't answer a close frame either."""
        self._advance(Stage.CLOSING)
        self._hang_up()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why doesn't matter
        """See `asyncio.Protocol`."""
        self.fd = -1  # soon it is another connection's
        self._connections.discard(self)
        self._advance(Stage.LOST)
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.is_full = True
        if self._pushed is not None:
            self._pushed.receive_full()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.is_full = False
        if self._drained is not None:
            self._drained.set()
        self._regulate_reading()
        if self._pushed is not None:
            self._pushed.wake()

    def _advance(self, stage: Stage) -> None:
        """Nothing more can be written: whoever serves the connection is told, once."""
        was, self._stage = self._stage, max(self._stage, stage)
        if was >= Stage.CLOSING:
            return
        self._pushed = None
        on_gone, self._on_gone = self._on_gone, None  # it knows the watcher, which knows us: no cycle is left behind
        if on_gone is not None:
            on_gone()
        if self._messages is not None:
            self._messages.put_nowait(None)
        if self._drained is not None:
            self._drained.set()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _receive_early(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > MAX_MESSAGE_BYTES:
            self._transport.abort()

    def _begin(self) -> None:
        """Write the handshake's answer if nothing has taken it along, and hear what came before it.

        Not in the handler: what was said may end the connection, and then the handler has to be told.
        """
        if self._transport.is_closing():
            return
        if self._head:
            self.write(b"")
        if self._early:
            self.data_received(b"")

    def _receive_frame(self, frame: Frame, parser: Parser) -> None:
        if frame.opcode not in _DATA:
            return  # pings and closes are answered by the parser
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
        # Put together as they come: there may be any number of empty ones.
        message = self._message = self._message or bytearray()
        message += frame.data
        if frame.fin:
            self._message = None
            self._receive_message(message, parser)

    def _receive_message(self, message: bytearray, parser: Parser) -> None:
        try:
            text = message.decode() if self._is_text else ""
        except UnicodeDecodeError:
            parser.fail(CloseCode.INVALID_DATA, "a text message is UTF-8")
        else:
            if self._messages is not None and self._stage is Stage.OPEN:
                self._messages.put_nowait(text)

    def _send_parsed(self, parser: Parser) -> None:
        for data in parser.data_to_send():
            if data:
                self.write(data)
            else:  # the end of what is to be said
                self._advance(Stage.CLOSING)
                self._hang_up()

    def _regulate_reading(self) -> None:
        if self._transport.is_closing():
            return
        has_enough = self._messages is not None and self._messages.qsize() >= MAX_WAITING_MESSAGES
        if self.is_full or (has_enough and self._stage is Stage.OPEN):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _hang_up(self) -> None:
        # Not cut: a slow peer may still be reading what was written before the close frame.
        self._transport.close()
        self._wait_at_most(LINGER_SECONDS, self._transport.abort)

    def _wait_at_most(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._stage is not Stage.LOST:
            self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _end_task(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        log.error("❌ a WebSocket's handler failed", exc_info=error)
        self.close(*CLOSE_FAULT)
        self._hang_up()


def _new_parser() -> Parser:
    return Parser(SERVER, state=State.OPEN, max_size=MAX_MESSAGE_BYTES, logger=_logger)
