"""The wire on Redis Cluster: one `RedisWire` per node that is called, and the way from a key to its node.

*Order*: as on `RedisWire`, for the keys of one slot while it stays where it is. *Moving*: a node that says `MOVED` or
`ASK` has carried nothing out, so the command goes on to where the slot is. *Failure*: when a node is lost its callers
are told, as on `RedisWire`, and the slots are asked for before the next call.

Never: blocking commands, or commands with keys of several slots.
"""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from runcast.backends.redis_cluster import NodePool, SlotMap, as_cluster, slot_of
from runcast.backends.redis_wire import Argument, RedisWire, ScriptCall, WireScript, is_unknown_script

MAX_REDIRECTIONS: Final = 8
"""After so many the cluster isn't of one mind; the caller tries later."""

_TRY_AGAIN_SECONDS: Final = 0.05  # while the keys of a command lie on both sides of a slot that moves
_STALE: Final = ("CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY")


class ClusterWire:
    """Calls the nodes of a cluster. `close` it after use; the client, which knows the nodes, stays the caller's."""

    def __init__(self, slots: SlotMap, *, timeout_seconds: float, decode: bool = False) -> None:
        self._slots: Final = slots
        self._timeout_seconds: Final = timeout_seconds
        self._decode: Final = decode
        self._wires: Final[dict[str, RedisWire]] = {}  # by node
        self._closing: Final[set[asyncio.Task[None]]] = set()  # those of nodes that have gone

    async def call(self, key: str, *command: Argument) -> Any:
        """What the node of the key answers.

        Raises:
            redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError: it can't be reached, or
                refuses.

        """
        slot = slot_of(key)
        asked: NodePool | None = None  # where a slot that moves has this key already
        for _ in range(MAX_REDIRECTIONS):
            node = asked or await self._slots.node_of(slot)
            wire = self._wire_to(node)
            try:
                return await (wire.call(*command) if asked is None else _ask(wire, command))
            except ResponseError as error:
                asked = await self._redirect(error)
            except (RedisError, OSError):
                self._slots.mark_stale(suspect=node.name)
                raise
        self._slots.mark_stale()
        raise RedisConnectionError(f"the nodes send slot {slot} to each other")

    async def call_all(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """What each key's node answers; one round trip to each node, all at once.

        Raises:
            redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError: as `call`, of the first that
                failed.

        """
        return await asyncio.gather(*[self.call(str(command[1]), *command) for command in commands])

    async def close(self) -> None:
        """Let the connections go."""
        for wire in self._wires.values():
            await wire.close()
        if self._closing:
            await asyncio.wait(self._closing)
        await self._slots.close()

    async def _redirect(self, error: ResponseError) -> NodePool | None:
        """Heed what a node says instead of an answer: a node to ask just this once, or None to go by the slots."""
        word, _, rest = str(error).partition(" ")
        if word == "MOVED":
            await self._slots.follow(rest)
        elif word == "ASK":
            place = rest.partition(" ")[2]
            if (node := self._slots.node_at(place)) is not None:
                return node
            await self._slots.refresh()  # one that has just joined
            return self._slots.node_at(place)
        elif word == "TRYAGAIN":
            await asyncio.sleep(_TRY_AGAIN_SECONDS)
        else:
            if word in _STALE:
                self._slots.mark_stale()
            raise error
        return None

    def _wire_to(self, node: NodePool) -> RedisWire:
        wire = self._wires.get(node.name)
        if wire is None:
            self._forget_gone()
            wire = self._wires[node.name] = RedisWire(node, timeout_seconds=self._timeout_seconds, decode=self._decode)
        return wire

    def _forget_gone(self) -> None:
        for name in self._wires.keys() - set(self._slots.node_names):
            closing = asyncio.create_task(self._wires.pop(name).close(), name="cluster-wire-close")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)


class ClusterScript:
    """A Lua script whose keys are of one slot: called by its name, and sent where it isn't known yet."""

    def __init__(self, wire: ClusterWire, source: str) -> None:
        self._wire: Final = wire
        self._source: Final = source
        self._name: Final = hashlib.sha1(source.encode()).hexdigest()  # noqa: S324 - Redis' own name for a script

    async def __call__(self, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """What the script returns.

        Raises:
            redis.exceptions.RedisError, redis.exceptions.RedisClusterException, OSError: as `ClusterWire.call`.

        """
        key = str(keys[0])
        try:
            return await self._wire.call(key, "EVALSHA", self._name, len(keys), *keys, *args)
        except ResponseError as error:
            if not is_unknown_script(error):
                raise
        # Sent along with the call, not before it: the node that answers may be another than the one that was asked.
        return await self._wire.call(key, "EVAL", self._source, len(keys), *keys, *args)

    async def call_each(self, calls: Iterable[ScriptCall]) -> list[Any]:
        """What the script returns to each of several calls, or what each would have raised."""
        return await asyncio.gather(*[self(keys, args) for keys, args in calls], return_exceptions=True)


def open_wire(client: Any, *, timeout_seconds: float, decode: bool = False) -> RedisWire | ClusterWire:
    """The wire that fits the client."""
    cluster = as_cluster(client)
    if cluster is None:
        return RedisWire(client, timeout_seconds=timeout_seconds, decode=decode)
    return ClusterWire(SlotMap(cluster), timeout_seconds=timeout_seconds, decode=decode)


def script_on(wire: RedisWire | ClusterWire, source: str) -> WireScript | ClusterScript:
    """A script on the wire."""
    return ClusterScript(wire, source) if isinstance(wire, ClusterWire) else WireScript(wire, source)


async def _ask(wire: RedisWire, command: Sequence[Argument]) -> Any:
    # Both go out in this turn, one right after the other. Should anything come between, the node says MOVED: no harm.
    _, answer = await asyncio.gather(wire.call("ASKING"), wire.call(*command))
    return answer
