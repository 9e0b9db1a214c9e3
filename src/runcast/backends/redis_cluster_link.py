"""The connection of the cluster's subscriber to one node: what was sent, and what the node says to it.

Replies come in the order of the commands. Between them a node may say that it lets a channel go, because its slot has
moved: that is a reply which no command of ours stands for.

Never: decides where a channel belongs.
"""

import asyncio
from collections import deque
from typing import Any, Final, NamedTuple, Protocol

import hiredis
from redis.exceptions import ResponseError

from runcast.backends.redis_cluster import NodePool, slot_of
from runcast.backends.redis_subscriber import Link


class Receiver(Protocol):
    """Who is told what a node says."""

    def receive_message(self, channel: bytes, message: bytes) -> None:
        """Take a message from a node."""
        ...

    def end_batch(self) -> None:
        """All messages that came together were taken."""
        ...

    def receive_acknowledgement(self, link: "NodeLink", channel: bytes) -> None:
        """A node has begun to send a channel's messages."""
        ...

    def receive_end(self, link: "NodeLink", channel: bytes) -> None:
        """A node sends a channel's messages no more, without having been told to: its slot has moved."""
        ...


class _Sent(NamedTuple):
    """A command without its reply yet."""

    verb: bytes  # of the reply
    channel: bytes
    acknowledged: "asyncio.Future[None] | None"


class NodeLink:
    """The connection to one node."""

    def __init__(self, name: str, subscriber: Receiver) -> None:
        self.name: Final = name
        self._subscriber: Final = subscriber
        self._link: Link | None = None
        self._sent: Final[deque[_Sent]] = deque()  # without replies, in order
        self._heard = False  # whether anything came since the last probe

    async def open(self, node: NodePool) -> None:
        """Connect."""
        self._link = await Link.open(node, self._receive, self._subscriber.end_batch)

    async def subscribe(self, channel: bytes) -> None:
        """Return once the node has acknowledged.

        Raises:
            redis.exceptions.ResponseError: it refuses; `MOVED` says who doesn't.
            OSError: the link was lost.

        """
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._send(b"ssubscribe", channel, acknowledged)
        await acknowledged

    def unsubscribe(self, channel: bytes) -> None:
        """Have the node send a channel's messages no more."""
        self._send(b"sunsubscribe", channel, None)

    async def wait_lost(self, *, probe_seconds: float) -> None:
        """Return once the link is lost, or nothing is heard on it, not even the answer to a PING."""
        lost = self._standing.lost
        while True:
            self._heard = False
            await asyncio.wait({lost}, timeout=probe_seconds)
            if lost.done():
                return
            if self._heard:
                continue
            self._standing.send("PING")
            await asyncio.wait({lost}, timeout=probe_seconds)
            if not self._heard:
                return

    async def close(self) -> None:
        """Let the connection go; whoever waits for a reply is told."""
        await self._standing.close()
        while self._sent:
            self._refuse(self._sent.popleft(), ConnectionResetError("the connection to the node was lost"))

    @property
    def _standing(self) -> Link:
        assert self._link is not None, "it is opened first"  # noqa: S101 - a bug, not input
        return self._link

    def _send(self, verb: bytes, channel: bytes, acknowledged: "asyncio.Future[None] | None") -> None:
        # One channel a command: those of several slots are refused.
        sent = _Sent(verb, channel, acknowledged)
        if self._standing.lost.done():
            self._refuse(sent, ConnectionResetError("the connection to the node was lost"))
            return
        self._sent.append(sent)
        self._standing.send(verb.decode().upper(), channel.decode())

    def _receive(self, reply: Any) -> None:
        # Fast path: all events of all watched runs pass here.
        self._heard = True
        if type(reply) is list and len(reply) == 3:  # noqa: PLR2004 - (kind, channel, message or count)
            kind, channel, message = reply
            if kind == b"smessage":
                self._subscriber.receive_message(channel, message)
            elif kind == b"ssubscribe":
                self._receive_begin(channel)
            elif kind == b"sunsubscribe" and not self._is_head(kind, channel):
                self._subscriber.receive_end(self, channel)
        elif isinstance(reply, hiredis.ReplyError):
            self._receive_error(str(reply))

    def _receive_begin(self, channel: bytes) -> None:
        sent = self._sent.popleft() if self._sent else None
        if sent is None or sent.channel != channel:
            raise hiredis.ProtocolError("the node acknowledges what it wasn't asked")
        # Before anything else that came with it: the node may let the channel go in the same breath.
        self._subscriber.receive_acknowledgement(self, channel)
        if sent.acknowledged is not None and not sent.acknowledged.done():
            sent.acknowledged.set_result(None)

    def _is_head(self, verb: bytes, channel: bytes) -> bool:
        """Whether this is the reply to the oldest command without one, which then has it."""
        if not self._sent or self._sent[0][:2] != (verb, channel):
            return False
        self._sent.popleft()
        return True

    def _receive_error(self, text: str) -> None:
        """The oldest command was refused; of a slot that has moved, unsubscribing is as well, and means nothing."""
        if not self._sent:
            raise hiredis.ProtocolError(f"Redis refuses to let us listen: {text}")
        moved = text.split(" ")
        if moved[0] == "MOVED" and int(moved[1]) != slot_of(self._sent[0].channel):
            return  # that of an unsubscription whose reply the node has given already, as it let the channel go
        self._refuse(self._sent.popleft(), ResponseError(text))

    @staticmethod
    def _refuse(sent: _Sent, error: Exception) -> None:
        if sent.acknowledged is not None and not sent.acknowledged.done():
            sent.acknowledged.set_exception(error)
