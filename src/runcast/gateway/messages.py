"""Sockets of messages, as a coroutine sees them: what `GatewaySocket` is, and what any ASGI server's WebSocket can be.

Mounted in somebody else's application the gateway runs on that server's own WebSockets, at their speed.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect


class MessageSocket(Protocol):
    """Text messages in and out."""

    async def receive(self) -> str | None:
        """The peer's next message; None once it has left."""
        ...

    async def send(self, frames: Sequence[bytes]) -> None:
        """Send each frame as a message, as soon as the transport takes more.

        Raises:
            ConnectionError: the connection is over.

        """
        ...


class AsgiSocket:
    """A `MessageSocket` on an accepted ASGI WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket: Final = socket

    async def receive(self) -> str | None:
        """See `MessageSocket.receive`."""
        message = await self._socket.receive()
        return None if message["type"] == "websocket.disconnect" else message.get("text") or ""

    async def send(self, frames: Sequence[bytes]) -> None:
        """See `MessageSocket.send`."""
        try:
            for frame in frames:
                await self._socket.send_text(frame.decode())
        except (WebSocketDisconnect, RuntimeError) as error:  # the latter is Starlette's word for a closed socket
            raise ConnectionResetError("the connection is over") from error
