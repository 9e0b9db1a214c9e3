"""The links: the ways to Redis that the run log needs, as promises, and those to a single server.

A cluster's are made in `redis_cluster_log`.
"""

import importlib.resources
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from runcast.backends.redis_client import SOCKET_TIMEOUT_SECONDS
from runcast.backends.redis_subscriber import RedisSubscriber
from runcast.backends.redis_wire import Argument, RedisWire, ScriptCall, WireScript
from runcast.ports import Unsubscribe

if TYPE_CHECKING:
    import redis.asyncio as redis


class Subscriber(Protocol):
    """Listens to channels; see `RedisSubscriber`."""

    @property
    def is_connected(self) -> bool: ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    def on_gap(self, handler: Callable[[], None]) -> Callable[[], None]: ...
    def on_batch(self, handler: Callable[[], None]) -> Callable[[], None]: ...
    async def subscribe(self, channel: str, handler: Callable[[bytes], None]) -> Unsubscribe: ...


class Wire(Protocol):
    """Carries commands, each with its key in the second place; see `RedisWire`."""

    async def call_all(self, commands: Iterable[Sequence[Argument]]) -> list[Any]: ...
    async def close(self) -> None: ...


class ScriptInBatches(Protocol):
    """A script that is called for many at once; see `WireScript`."""

    async def call_each(self, calls: Iterable[ScriptCall]) -> list[Any]: ...


Script = Callable[[Sequence[Argument], Sequence[Argument]], Awaitable[Any]]
"""A script that is called with its keys and its arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The ways to Redis that are busy: one to listen by, one to append by."""

    subscriber: Subscriber
    wire: Wire
    append: ScriptInBatches
    fence: Script


def open_links(client: "redis.Redis") -> Links:
    """The links to a single server, or to the one that the sentinels name."""
    wire = RedisWire(client, timeout_seconds=SOCKET_TIMEOUT_SECONDS)
    return Links(
        subscriber=RedisSubscriber(client),
        wire=wire,
        append=WireScript(wire, read_script("append")),
        fence=cast("Script", client.register_script(read_script("fence"))),
    )


def read_script(name: str) -> str:
    """One of the scripts in `lua/`."""
    return importlib.resources.files("runcast.backends").joinpath("lua", f"{name}.lua").read_text()
