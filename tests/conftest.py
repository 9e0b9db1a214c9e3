"""What every suite may use: a real Redis of the tests' own, empty at the start of each test and checked after it."""

from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from runcast.backends.redis_client import open_redis
from tests.support.redis_cluster import RedisCluster, start_cluster
from tests.support.redis_server import RedisServer, start_redis

# Examples are slow on a busy machine, and that says nothing of the code.
settings.register_profile("runcast", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("runcast")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.fixture
async def redis_url(redis_server: RedisServer) -> AsyncIterator[str]:
    """An empty Redis. After the test no key of a run may be left without an end to its life."""
    client = open_redis(redis_server.url)
    await client.flushall()
    yield redis_server.url
    lasting = [key async for key in client.scan_iter("*run:*") if await client.ttl(key) == -1]
    await client.aclose()
    assert lasting == [], "keys without a time to live are left behind"


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[RedisCluster]:
    with start_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster_url(redis_cluster: RedisCluster) -> Iterator[str]:
    """An empty cluster. After the test no key of a run may be left without an end to its life."""
    redis_cluster.flush()
    yield redis_cluster.url
    lasting = [key for node, key in redis_cluster.scan() if "run:" in key and node.client.ttl(key) == -1]
    assert lasting == [], "keys without a time to live are left behind"
