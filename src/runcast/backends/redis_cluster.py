"""Redis Cluster: its URL, its client, and which node owns a slot.

redis-py's cluster client finds the nodes, speaks TLS and says who we are. The wire and the subscriber, which every
event of a run passes, have connections of their own to the nodes, and ask here where to.

Never: carries a command of the hot path.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import MovedError, RedisError

CLUSTER_SCHEMES: Final = frozenset({"redis+cluster", "rediss+cluster"})
MIN_REFRESH_SECONDS: Final = 0.25
"""Time between two questions for the slots: reading an answer costs some 10 ms of CPU."""

MAX_CONNECTIONS_PER_NODE: Final = 256
"""redis-py refuses a command above it; few commands pass there."""

_DATABASE: Final = frozenset({"", "/", "/0"})


def is_cluster_url(url: str) -> bool:
    """Whether the URL names a cluster."""
    return urlsplit(url).scheme in CLUSTER_SCHEMES


def open_cluster(url: str, options: dict[str, Any]) -> RedisCluster:
    """A client for `redis+cluster://one:6379,two:6379`, any of whose nodes say where the others are.

    User and password stand before an `@`, options of the connections (`ssl_ca_certs=…`) after a `?`.

    Raises:
        ValueError: the URL isn't such a one.

    """
    parts = urlsplit(url)
    credentials, at, places = parts.netloc.rpartition("@")
    nodes = [_address_of(place) for place in places.split(",")]
    if parts.path not in _DATABASE:
        raise ValueError(f"a cluster has only database 0, so the URL can't end with {parts.path!r}")
    # redis-py reads the rest, as it stands in a URL of one node.
    scheme = parts.scheme.removesuffix("+cluster")
    given: dict[str, Any] = dict(parse_url(urlunsplit((scheme, f"{credentials}{at}node", "", parts.query, ""))))
    is_tls = given.pop("connection_class", None) is not None
    for name in ("host", "port", "db"):
        given.pop(name, None)
    try:
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in nodes],
            require_full_coverage=False,  # the runs of slots that nobody owns can't go on; the others can
            ssl=is_tls,
            **{**options, "max_connections": MAX_CONNECTIONS_PER_NODE, **given},
        )
    except TypeError:  # the names of arguments are those of the URL's options
        named = ", ".join(name for name, _ in parse_qsl(parts.query))  # without the values: one may be a secret
        raise ValueError(f"not all of its options are known: {named}") from None


async def close_cluster(client: RedisCluster) -> None:
    """Let all connections go; the client's own way leaves them open while it looks for its nodes anew."""
    with contextlib.suppress(RedisError, OSError):
        await client.aclose()
    for attribute in ("nodes_cache", "startup_nodes"):
        with contextlib.suppress(RedisError, OSError):
            await client.nodes_manager.aclose(attribute)


def as_cluster(client: Any) -> RedisCluster | None:
    """The client, if it is a cluster's."""
    return client if isinstance(client, RedisCluster) else None


def slot_of(key: str | bytes) -> int:
    """The slot of a key or a sharded channel."""
    return int(key_slot(key if isinstance(key, bytes) else key.encode()))


class NodePool:
    """Makes connections to one node."""

    def __init__(self, node: ClusterNode) -> None:
        self.name: Final = str(node.name)
        self._node: Final = node

    @property
    def connection_pool(self) -> "NodePool":
        """Itself: so whatever is given a client for the sake of its pool can be given this."""
        return self

    def make_connection(self) -> Any:
        """A connection that isn't connected yet, and tries once: whoever can't reach a node asks for the slots anew."""
        return self._node.connection_class(**{**self._node.connection_kwargs, "retry": Retry(NoBackoff(), 0)})


class SlotMap:
    """Which node owns a slot, as far as is known. Whoever finds it wrong says so; then it is asked anew when needed."""

    def __init__(self, client: RedisCluster) -> None:
        self._client: Final = client
        self._is_stale = True
        self._suspect: str | None = None  # a node that didn't answer: it is asked last
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")
        self._turns: Final = itertools.count()

    @property
    def node_names(self) -> Iterable[str]:
        """The nodes that are known."""
        return [str(name) for name in self._client.nodes_manager.nodes_cache]

    def mark_stale(self, *, suspect: str | None = None) -> None:
        """The slots aren't what they are taken for, perhaps because a node, the suspect, is lost."""
        self._is_stale = True
        self._suspect = suspect or self._suspect

    async def node_of(self, slot: int) -> NodePool:
        """The master that owns a slot.

        Raises:
            redis.exceptions.RedisClusterException: no node can be reached, or nobody owns it.

        """
        if self._is_stale:
            await self.refresh()
        return NodePool(self._client.nodes_manager.get_node_from_slot(slot))

    def any_node(self) -> NodePool:
        """The masters in turn; while none is known, those that the URL names."""
        nodes = self._client.get_primaries() or list(self._client.nodes_manager.startup_nodes.values())
        return NodePool(nodes[next(self._turns) % len(nodes)])

    async def refresh(self) -> None:
        """Ask anew, once for all who wait for it.

        Raises:
            redis.exceptions.RedisClusterException: no node can be reached.

        """
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="cluster-slots")
            self._asking.add_done_callback(self._end_asking)
        await asyncio.shield(self._asking)

    async def follow(self, moved: str) -> None:
        """Take a node's word for where a slot is: `<slot> <host>:<port>`."""
        place = MovedError(moved)
        if place.host:
            await self._client.nodes_manager.move_slot(place)
        else:  # the node knows no name for it
            self.mark_stale()

    def node_at(self, place: str) -> NodePool | None:
        """The node at `<host>:<port>`, if it is known."""
        node = self._client.get_node(node_name=place)
        return None if node is None else NodePool(node)

    async def close(self) -> None:
        """Ask no more. The client stays the caller's."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._asked_at + MIN_REFRESH_SECONDS - loop.time())
        self._asked_at = loop.time()
        await self._client.initialize(last_failed_node_name=self._suspect)
        await self._client.nodes_manager.initialize(last_failed_node_name=self._suspect)
        self._is_stale, self._suspect = False, None

    def _end_asking(self, asking: "asyncio.Task[None]") -> None:
        self._asking = None
        if not asking.cancelled():
            asking.exception()  # whoever waits has it; nobody has to


def _address_of(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{place!r} isn't the host:port of a node: give redis+cluster://host:port,host:port")
    return host.strip("[]"), int(port)
