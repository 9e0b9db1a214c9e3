"""`runcast doctor`: looks whether what the settings name is there and fit, and says what to do where it isn't.

Looks only: it writes nothing, starts nothing, and asks each part once.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from redis.asyncio.cluster import ClusterNode, RedisCluster

from runcast.backends.embedded import MIN_VERSION, find_server
from runcast.backends.redis_client import close_redis, open_redis, redis_errors
from runcast.backends.redis_cluster import as_cluster
from runcast.backends.sql import open_store
from runcast.config import Settings
from runcast.errors import ConfigurationError, RuncastError, UnavailableError

_PATIENCE_SECONDS: Final = 5
_ROUND_TRIPS: Final = 50
_SLOW_MILLISECONDS: Final = 10.0
"""A round trip to Redis above this is felt: every event of a run makes one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, whether it is well, and what there is to say of it."""

    part: str
    is_well: bool
    words: str


async def examine(settings: Settings, *, environ: Mapping[str, str]) -> list[Finding]:
    """Look at settings, database and Redis."""

    async def look_at_redis() -> str:
        return await _look_at_redis(settings, environ)

    return [
        await _examine("settings", lambda: _look_at_settings(settings)),
        await _examine("database", lambda: _look_at_database(settings)),
        await _examine("redis", look_at_redis),
    ]


async def _examine(part: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return Finding(part, True, await look())
    except TimeoutError:
        return Finding(part, False, f"no answer within {_PATIENCE_SECONDS} s: is its address right, and does it run?")
    except RuncastError as error:
        return Finding(part, False, str(error))


async def _look_at_settings(settings: Settings) -> str:
    settings.require_key_if_exposed()
    if not settings.is_exposed:
        return f"listens on {settings.host} only"
    return f"listens on {settings.host}, where others can reach it; they need the API key"


async def _look_at_database(settings: Settings) -> str:
    began = time.perf_counter()
    store = await open_store(settings.database)
    try:
        runs = await store.count_runs()
    finally:
        await store.close()
    milliseconds = (time.perf_counter() - began) * 1000
    return f"{settings.database.partition(':')[0]}, {sum(runs.values())} runs, opened and read in {milliseconds:.0f} ms"


async def _look_at_redis(settings: Settings, environ: Mapping[str, str]) -> str:
    if not settings.redis_url:
        return f"`runcast up` starts its own: {find_server(environ)}"
    client = open_redis(settings.redis_url, decode=True)
    try:
        with redis_errors():
            if (cluster := as_cluster(client)) is not None:
                return await _look_at_cluster(cluster)
            facts: dict[str, Any] = await client.info()
            times = [await _ping(client.ping) for _ in range(_ROUND_TRIPS)]
    finally:
        await close_redis(client)
    _require_fit(facts)
    return f"{_name(facts)}, {_describe(times)}"


async def _look_at_cluster(cluster: RedisCluster) -> str:
    await cluster.initialize()
    masters = cluster.get_primaries()
    state = {node.name: await _read_state(node) for node in masters}
    if ailing := [name for name, facts in state.items() if facts.get("cluster_state") != "ok"]:
        raise UnavailableError(
            f"the cluster isn't whole, says {', '.join(ailing)}: some slots have no master;"
            " look at it with `redis-cli --cluster check`"
        )
    every: list[dict[str, Any]] = [await cluster.info(target_nodes=node) for node in masters]
    for facts in every:
        _require_fit(facts)
    times = [await _ping(partial(node.execute_command, "PING")) for node in masters for _ in range(_ROUND_TRIPS)]
    return f"a cluster of {len(masters)} masters, {_name(every[0])}, {_describe(times)}"


async def _read_state(node: ClusterNode) -> Mapping[str, str]:
    told: Any = await node.execute_command("CLUSTER INFO")
    return told if isinstance(told, Mapping) else dict(line.split(":", 1) for line in str(told).splitlines() if line)


def _describe(times: Sequence[float]) -> str:
    median, worst = statistics.median(times), max(times)
    slow = "; that is slow: move workers and gateways nearer" if median > _SLOW_MILLISECONDS else ""
    return f"a round trip takes {median:.2f} ms (median), {worst:.2f} ms (worst){slow}"


def _require_fit(facts: Mapping[str, Any]) -> None:
    version = tuple(int(part) for part in str(facts.get("redis_version", "0.0")).split(".")[:2])
    if version < MIN_VERSION:
        raise ConfigurationError(f"{_name(facts)} is too old: Runcast needs {MIN_VERSION[0]}.{MIN_VERSION[1]} or newer")
    if facts.get("maxmemory") and facts.get("maxmemory_policy") != "noeviction":
        raise ConfigurationError(
            f"its maxmemory-policy is {facts.get('maxmemory_policy')}: it throws queued runs away when memory is full;"
            " set `maxmemory-policy noeviction`"
        )


def _name(facts: Mapping[str, Any]) -> str:
    if facts.get("server_name") == "valkey":
        return f"Valkey {facts.get('valkey_version')}"
    return f"Redis {facts.get('redis_version')}"


async def _ping(ping: Callable[[], Any]) -> float:
    began = time.perf_counter()
    await ping()
    return (time.perf_counter() - began) * 1000
