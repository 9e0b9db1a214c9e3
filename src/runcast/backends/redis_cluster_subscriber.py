"""The subscriber on Redis Cluster: a connection to each master that owns channels which are listened to.

A sharded channel lives where its slot does: it is subscribed to at the slot's owner, and nobody else is told. A channel
that isn't sharded is broadcast to all nodes, so it is listened to at any of them, by a `RedisSubscriber`.

A channel is *astray* while no node has acknowledged it: its node was lost, or has let it go because the slot has moved.
One task brings them home: it asks for the slots, subscribes to all of them anew and then tells the gap handlers. What
is published after `subscribe` has returned reaches the handler, or the gap handlers are called.

Never: parses a message, calls a handler outside the event loop, loses a gap without saying so.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from runcast.backends.redis_cluster import NodePool, SlotMap, slot_of
from runcast.backends.redis_cluster_link import NodeLink
from runcast.backends.redis_subscriber import (
    PROBE_SECONDS,
    SUBSCRIBE_TIMEOUT_SECONDS,
    MessageHandler,
    RedisSubscriber,
    add_handler,
)
from runcast.concurrency import end_tasks
from runcast.logs import get_logger

log = get_logger()

_MAX_MOVES: Final = 4  # that one subscription follows before it is left to the task that brings channels home
_PLACES_AT_ONCE: Final = 500
_LINK_ERRORS: Final = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)


class _Channel:
    """A sharded channel that is listened to."""

    __slots__ = ("handlers", "link", "slot")

    def __init__(self, slot: int) -> None:
        self.slot: Final = slot
        self.handlers: tuple[MessageHandler, ...] = ()
        self.link: NodeLink | None = None  # where it is acknowledged; None while it is astray


class ClusterSubscriber:
    """Listens. `start` before use, `close` after; the slots stay the caller's."""

    def __init__(
        self, slots: SlotMap, *, is_sharded: Callable[[str], bool], probe_seconds: float = PROBE_SECONDS
    ) -> None:
        self._slots: Final = slots
        self._is_sharded: Final = is_sharded
        self._probe_seconds: Final = probe_seconds
        self._broadcasts: Final = RedisSubscriber(_AnyNode(slots), probe_seconds=probe_seconds)
        self._channels: Final[dict[bytes, _Channel]] = {}
        self._links: Final[dict[str, NodeLink]] = {}  # by node; those that stand
        self._opening: Final[dict[str, asyncio.Task[NodeLink]]] = {}  # by node
        self._attending: Final[set[asyncio.Task[None]]] = set()  # one for each link
        self._is_astray = False  # whether any channel is
        self._astray: Final = asyncio.Event()
        self._gap_handlers: Final[list[Callable[[], None]]] = []
        self._batch_handlers: Final[list[Callable[[], None]]] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether everything that is listened to can be heard now."""
        return self._broadcasts.is_connected and not self._is_astray

    async def start(self) -> None:
        """Connect, and stay connected. Returns with the first link, or soon without it: it comes when Redis does."""
        self._broadcasts.on_gap(self._tell_gap)
        self._task = asyncio.create_task(self._bring_home(), name="cluster-subscriber")
        await self._broadcasts.start()

    async def close(self) -> None:
        """Let the connections go."""
        await end_tasks(self._task, *self._opening.values())
        await end_tasks(*self._attending)
        await self._broadcasts.close()

    def on_gap(self, handler: Callable[[], None]) -> Callable[[], None]:
        """Call `handler` after messages may have been lost. Returns its undo."""
        return add_handler(self._gap_handlers, handler)

    def on_batch(self, handler: Callable[[], None]) -> Callable[[], None]:
        """Call `handler` after the sharded channels' messages of each read of a socket. Returns its undo."""
        return add_handler(self._batch_handlers, handler)

    async def subscribe(self, channel: str, handler: MessageHandler) -> Callable[[], Awaitable[None]]:
        """Call `handler` with each message on the channel from now on. Returns its undo.

        It is in force on return; or, if its node can't be reached, once the gap handlers are called.
        """
        if not self._is_sharded(channel):
            return await self._broadcasts.subscribe(channel, handler)
        name = channel.encode()
        known = self._channels.setdefault(name, _Channel(slot_of(name)))
        known.handlers = (*known.handlers, handler)
        undo = self._undo(name, known, handler)
        if known.link is None:
            try:
                await self._place(name, known)
            except _LINK_ERRORS as error:
                log.warning("❌ a channel's node can't be reached yet", channel=channel, error=repr(error))
                self._lose(known)
            except BaseException:
                await undo()
                raise
        return undo

    def _undo(self, name: bytes, channel: _Channel, handler: MessageHandler) -> Callable[[], Awaitable[None]]:
        async def unsubscribe() -> None:
            handlers = list(channel.handlers)
            if handler not in handlers:
                return
            handlers.remove(handler)
            channel.handlers = tuple(handlers)
            if handlers or self._channels.get(name) is not channel:
                return
            del self._channels[name]
            if channel.link is not None:
                channel.link.unsubscribe(name)

        return unsubscribe

    async def _place(self, name: bytes, channel: _Channel) -> None:
        """Subscribe to a channel at its slot's owner, wherever that has gone."""
        async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS):
            for _ in range(_MAX_MOVES):
                link = await self._link_to(await self._slots.node_of(channel.slot))
                try:
                    await link.subscribe(name)
                except ResponseError as error:
                    word, _, rest = str(error).partition(" ")
                    if word != "MOVED":
                        raise
                    await self._slots.follow(rest)
                else:
                    return
        raise RedisError("the slot keeps moving")

    async def _link_to(self, node: NodePool) -> NodeLink:
        """The link to a node, opened once for all who need it."""
        link = self._links.get(node.name)
        if link is not None:
            return link
        opening = self._opening.get(node.name)
        if opening is None:
            opening = self._opening[node.name] = asyncio.create_task(self._open(node), name="cluster-link")
            opening.add_done_callback(lambda done: self._end_opening(node.name, done))
        return await asyncio.shield(opening)

    def _end_opening(self, name: str, opening: "asyncio.Task[NodeLink]") -> None:
        del self._opening[name]
        if not opening.cancelled():
            opening.exception()  # whoever waits has it; nobody has to

    async def _open(self, node: NodePool) -> NodeLink:
        link = NodeLink(node.name, self)
        await link.open(node)
        log.info("✅ Redis connected", node=node.name)
        self._links[node.name] = link
        attending = asyncio.create_task(self._attend(link), name="cluster-link-attend")
        self._attending.add(attending)
        attending.add_done_callback(self._attending.discard)
        return link

    async def _attend(self, link: NodeLink) -> None:
        """Watch over a link until it is lost."""
        try:
            await link.wait_lost(probe_seconds=self._probe_seconds)
            log.warning("❌ Redis subscriber lost its connection", node=link.name)
            self._slots.mark_stale(suspect=link.name)
        finally:
            if self._links.get(link.name) is link:
                del self._links[link.name]
            for channel in self._channels.values():
                if channel.link is link:
                    self._lose(channel)
            await link.close()

    def _lose(self, channel: _Channel) -> None:
        channel.link = None
        self._is_astray = True
        self._astray.set()

    async def _bring_home(self) -> None:
        backoff = ExponentialWithJitterBackoff(base=0.05, cap=2)
        failures = 0
        while True:
            await self._astray.wait()
            self._astray.clear()
            try:
                await self._place_all()
            except Exception as error:  # noqa: BLE001 - whatever it was, it is tried again
                log.warning("❌ not all channels can be listened to", error=repr(error))
                failures += 1
                self._astray.set()
                await asyncio.sleep(backoff.compute(failures))
                continue
            failures = 0
            self._is_astray = self._astray.is_set()  # another may have gone astray meanwhile

    async def _place_all(self) -> None:
        await self._slots.refresh()
        astray = [(name, channel) for name, channel in self._channels.items() if channel.link is None]
        failures: list[BaseException] = []
        for start in range(0, len(astray), _PLACES_AT_ONCE):
            some = astray[start : start + _PLACES_AT_ONCE]
            placed = await asyncio.gather(*(self._place(*each) for each in some), return_exceptions=True)
            failures += [outcome for outcome in placed if outcome is not None]
        if len(failures) < max(len(astray), 1):
            self._tell_gap()  # also if some are still astray: the others needn't wait for a node that is lost
        if failures:
            raise failures[0]

    def _tell_gap(self) -> None:
        for handler in tuple(self._gap_handlers):
            handler()

    def receive_message(self, channel: bytes, message: bytes) -> None:
        """Take a message from a node."""
        known = self._channels.get(channel)
        for handler in known.handlers if known is not None else ():
            try:
                handler(message)
            except Exception:  # the other handlers, and the link, are not to suffer for it
                log.exception("❌ a handler failed", channel=channel.decode())

    def end_batch(self) -> None:
        """All messages that came together were taken."""
        for handler in self._batch_handlers:
            handler()

    def receive_acknowledgement(self, link: NodeLink, channel: bytes) -> None:
        """A node has begun to send a channel's messages."""
        known = self._channels.get(channel)
        if known is None:  # given up meanwhile
            link.unsubscribe(channel)
            return
        before, known.link = known.link, link
        if before is not None and before is not link:
            before.unsubscribe(channel)

    def receive_end(self, link: NodeLink, channel: bytes) -> None:
        """A node sends a channel's messages no more, without having been told to: its slot has moved."""
        known = self._channels.get(channel)
        if known is not None and known.link is link:
            self._lose(known)


class _AnyNode:
    """Makes connections to the masters in turn: what isn't sharded is heard at each."""

    def __init__(self, slots: SlotMap) -> None:
        self._slots: Final = slots

    @property
    def connection_pool(self) -> "_AnyNode":
        """Itself."""
        return self

    def make_connection(self) -> Any:
        """A connection that isn't connected yet."""
        return self._slots.any_node().make_connection()
