"""How Runcast talks to Redis: one client for commands, and its exceptions translated once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from runcast.backends.redis_cluster import as_cluster, close_cluster, is_cluster_url, open_cluster
from runcast.errors import ConfigurationError, UnavailableError

SOCKET_TIMEOUT_SECONDS: Final = 5.0
CONNECT_TIMEOUT_SECONDS: Final = 2.0
MAX_CONNECTIONS: Final = 32
_PASSING: Final = (
    BusyLoadingError,
    ClusterError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    TryAgainError,
)
_PASSING_WORDS: Final = ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "OOM", "MISCONF", "TRYAGAIN")
_SENTINEL_SCHEMES: Final = frozenset({"redis+sentinel", "rediss+sentinel"})


def open_redis(
    url: str,
    *,
    decode: bool = False,
    socket_timeout_seconds: float = SOCKET_TIMEOUT_SECONDS,
    max_connections: int = MAX_CONNECTIONS,
) -> "redis.Redis":
    """A client with a bounded pool, for `redis://`, `rediss://` (TLS), `unix://`, `redis+sentinel://` and
    `redis+cluster://`.

    A Sentinel URL names the sentinels and the service: `redis+sentinel://one:26379,two:26379/service/0`, with the
    user and password of the data nodes before an `@` if they need any. A cluster URL names some of its nodes; its
    client has the same commands.

    Raises:
        ConfigurationError: the URL isn't one of these.

    """
    options: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": decode,
        "max_connections": max_connections,
        "socket_timeout": socket_timeout_seconds,
        "socket_connect_timeout": CONNECT_TIMEOUT_SECONDS,
        # One quick try more hides a connection that idled out; longer outages are the caller's to wait for.
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 1),
    }
    try:
        if is_cluster_url(url):
            return cast("redis.Redis", open_cluster(url, options))
        if urlsplit(url).scheme in _SENTINEL_SCHEMES:
            return _open_sentinel(url, options)
        # It waits for a free connection instead of failing when all are in use.
        pool = redis.BlockingConnectionPool.from_url(url, timeout=socket_timeout_seconds, **options)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL: {error}") from None
    return redis.Redis.from_pool(pool)


async def close_redis(client: "redis.Redis") -> None:
    """Close a client of `open_redis`, with those that it asks its sentinels by, or those of all nodes."""
    if (cluster := as_cluster(client)) is not None:
        await close_cluster(cluster)
        return
    await client.aclose()
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


def _open_sentinel(url: str, options: dict[str, Any]) -> "redis.Redis":
    parts = urlsplit(url)
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("a Sentinel URL ends with the service's name: redis+sentinel://host:26379/service")
    sentinels = [_address_of(place) for place in parts.netloc.rpartition("@")[2].split(",")]
    credentials = {"username": unquote(parts.username or "") or None, "password": unquote(parts.password or "") or None}
    tls = {"ssl": True} if parts.scheme == "rediss+sentinel" else {}
    sentinel = Sentinel(  # type: ignore[no-untyped-call] # redis-py leaves it without annotations
        sentinels, sentinel_kwargs={"socket_timeout": CONNECT_TIMEOUT_SECONDS, **tls}, **options, **credentials, **tls
    )
    client: redis.Redis = sentinel.master_for(service, db=int(database or 0))
    return client


def _address_of(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{place!r} isn't the host:port of a sentinel")
    return host.strip("[]"), int(port)


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn what redis-py raises while Redis can't be reached into `UnavailableError`; its other errors are bugs."""
    try:
        yield
    except _PASSING as error:
        raise UnavailableError(f"Redis can't serve now: {error}") from error
    except (RedisConnectionError, RedisTimeoutError, OSError) as error:
        raise UnavailableError(f"Redis can't be reached: {error}") from error
    except RuntimeError as error:
        # What uvloop says of a write to a connection that the other side has closed.
        if "closed" not in str(error):
            raise
        raise UnavailableError(f"Redis can't be reached: {error}") from error
    except ResponseError as error:
        # Inside a script Redis' own word for it stands somewhere in the text.
        if any(word in str(error) for word in _PASSING_WORDS):
            raise UnavailableError(f"Redis can't serve now: {error}") from error
        raise


def translated(error: Exception) -> Exception:
    """An error that was given instead of raised, as `redis_errors` would raise it."""
    try:
        with redis_errors():
            raise error  # noqa: TRY301 - to be translated by what catches it
    except Exception as raised:  # noqa: BLE001 - whatever it is
        return raised
