"""The stats board in Redis: a key per gateway process that ends with it, and an index of them.

`{runcast:gateways}:<id>` is a report as JSON, `{runcast:gateways}` a sorted set of ids by when they end: with these
braces all hash to the same slot. Both have a time to live, so nothing stays when the last gateway is gone.
"""

import importlib.resources
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import redis.asyncio as redis

from runcast.backends.redis_client import redis_errors
from runcast.logs import get_logger
from runcast.records import GatewayReport

log = get_logger()

INDEX_KEY: Final = "{runcast:gateways}"
MAX_GATEWAYS: Final = 256
"""Reports that one read takes in; those of more processes are left out."""


class RedisStatsBoard:
    """`StatsBoard` on Redis ≥ 7.0; the client stays the caller's."""

    def __init__(self, client: "redis.Redis", *, ttl_seconds: float) -> None:
        self._client: Final = client
        self._ttl_ms: Final = max(1, round(ttl_seconds * 1000))
        script = importlib.resources.files("runcast.backends").joinpath("lua", "report.lua").read_text()
        self._post: Final = client.register_script(script)

    async def post(self, report: GatewayReport) -> None:
        """See `StatsBoard.post`."""
        arguments: list[Any] = [report.gateway_id, msgspec.json.encode(report), self._ttl_ms]
        with redis_errors():
            await self._post(keys=[_key_of(report.gateway_id), INDEX_KEY], args=arguments)

    async def withdraw(self, gateway_id: str) -> None:
        """See `StatsBoard.withdraw`."""
        with redis_errors():
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.delete(_key_of(gateway_id))
                pipe.zrem(INDEX_KEY, gateway_id)
                await pipe.execute()

    async def read(self) -> Sequence[GatewayReport]:
        """See `StatsBoard.read`."""
        with redis_errors():
            ids: Any = await self._client.zrange(INDEX_KEY, 0, MAX_GATEWAYS - 1)
            posted: Any = await self._client.mget([_key_of(each.decode()) for each in ids]) if ids else []
        return [report for raw in posted if raw is not None and (report := _read_report(raw)) is not None]


def _key_of(gateway_id: str) -> str:
    return f"{INDEX_KEY}:{gateway_id}"


def _read_report(raw: bytes) -> GatewayReport | None:
    """A report, perhaps by a gateway of another version."""
    try:
        return msgspec.json.decode(raw, type=GatewayReport)
    except msgspec.MsgspecError as error:
        log.warning("❌ a gateway's report can't be read", error=str(error))
        return None
