"""The run log on Redis Cluster: `RedisPubSubService` whose every run lives on the node that owns its slot.

A run's stream and its channel are of one slot, so the script that appends publishes with SPUBLISH: only the slot's own
nodes are told, and who watches the run listens there. Statuses of all runs and control messages have fixed channels;
they are published to the whole cluster, and heard at any node.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
from redis.asyncio.cluster import RedisCluster

from runcast.backends.redis_client import SOCKET_TIMEOUT_SECONDS, redis_errors
from runcast.backends.redis_cluster import SlotMap, as_cluster
from runcast.backends.redis_cluster_subscriber import ClusterSubscriber
from runcast.backends.redis_cluster_wire import ClusterScript, ClusterWire
from runcast.backends.redis_links import Links, read_script
from runcast.backends.redis_log import (
    CONTROL_CHANNEL,
    RUN_CHANNEL_PREFIX,
    RedisPubSubService,
    stream_of,
)
from runcast.events import LoggedEvent
from runcast.ports import AppendHandler, AppendResult

_PUBLISH: Final = "redis.call('PUBLISH', channel, event)"


class ClusterPubSubService(RedisPubSubService):
    """`RunLog` on a cluster of Redis ≥ 7.0. `start` before use, `close` after; the client stays the caller's."""

    def __init__(self, client: RedisCluster, *, retention_seconds: int, max_events: int) -> None:
        slots = SlotMap(client)
        self._cluster_wire: Final = ClusterWire(slots, timeout_seconds=SOCKET_TIMEOUT_SECONDS)
        links = Links(
            subscriber=ClusterSubscriber(slots, is_sharded=lambda channel: channel.startswith(RUN_CHANNEL_PREFIX)),
            wire=self._cluster_wire,
            append=ClusterScript(self._cluster_wire, _sharded(read_script("append"))),
            fence=ClusterScript(self._cluster_wire, read_script("fence")),
        )
        super().__init__(client, retention_seconds=retention_seconds, max_events=max_events, links=links)

    async def append_all(self, appends: Sequence[tuple[str, Sequence[LoggedEvent]]], tell: AppendHandler) -> None:
        """See `RunLog.append_all`: a node that can't be reached keeps nobody waiting but its own runs."""
        append = super().append_all
        await asyncio.gather(*(append([each], partial(_tell_at, tell, place)) for place, each in enumerate(appends)))

    async def send_control(self, message: Mapping[str, Any]) -> None:
        """See `RunLog.send_control`."""
        with redis_errors():
            await self._cluster_wire.call(CONTROL_CHANNEL, "PUBLISH", CONTROL_CHANNEL, msgspec.json.encode(message))

    async def ping(self) -> None:
        """See `RunLog.ping`: any node answers for all."""
        with redis_errors():
            await self._cluster_wire.call(CONTROL_CHANNEL, "PING")

    async def _range(self, run_id: str, start: str, end: str, *, limit: int) -> Sequence[Any]:
        found = await self._call(run_id, "XRANGE", start, end, "COUNT", limit)
        # As redis-py gives it: the fields as a dictionary.
        return [(entry_id, dict(zip(fields[::2], fields[1::2], strict=True))) for entry_id, fields in found]

    async def _call(self, run_id: str, command: str, *arguments: str | int) -> Any:
        stream = stream_of(run_id)
        return await self._cluster_wire.call(stream, command, stream, *arguments)


def open_run_log(client: Any, *, retention_seconds: int, max_events: int) -> RedisPubSubService:
    """The run log that fits the client."""
    cluster = as_cluster(client)
    if cluster is None:
        return RedisPubSubService(client, retention_seconds=retention_seconds, max_events=max_events)
    return ClusterPubSubService(cluster, retention_seconds=retention_seconds, max_events=max_events)


def _tell_at(tell: AppendHandler, place: int, _: int, result: AppendResult | Exception) -> None:
    tell(place, result)


def _sharded(script: str) -> str:
    """The script with its commands for a run's channel in their sharded form."""
    if _PUBLISH not in script:
        raise AssertionError(f"append.lua no longer has {_PUBLISH}")
    return script.replace(_PUBLISH, _PUBLISH.replace("PUBLISH", "SPUBLISH"))
