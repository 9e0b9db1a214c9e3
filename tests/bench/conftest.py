"""The bench's parts, small: its load program, a Redis of its own, and servers as it starts them."""

from collections.abc import Iterator

import pytest

from bench.errors import UnavailableError
from bench.load import build
from bench.machine import Cores
from bench.redis_server import start_redis
from bench.servers.base import Lab


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    try:
        build("load")
        build("floor")
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    cores = Cores.choose()
    with start_redis(core=cores.redis) as redis:
        yield Lab(redis, cores)
