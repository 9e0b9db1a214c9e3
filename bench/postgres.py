"""A PostgreSQL of the bench's own, and how many transactions it has had."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
from sqlalchemy import make_url

from tests.support.postgres import create_database, start_postgres

FLUSH_SECONDS: Final = 11
"""A session that has become idle adds what it did to the statistics within 10 s."""
_COUNT: Final = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1"


@dataclass(frozen=True, slots=True)
class Database:
    """An empty database, and the server's own one to ask about it."""

    url: str
    server_url: str

    def count_transactions(self) -> int:
        """So many have ended in it, without those of whoever asks."""
        return asyncio.run(self._count())

    async def _count(self) -> int:
        server = make_url(self.server_url)
        connection = await asyncpg.connect(
            host=server.query.get("host", server.host),
            port=server.port,
            user=server.username,
            password=server.password,
            database=server.database,
        )
        try:
            count = await connection.fetchval(_COUNT, make_url(self.url).database)
        finally:
            await connection.close()
        return int(count)


@contextmanager
def start_database() -> Iterator[Database]:
    """A server and an empty database on it, until the block ends."""
    with start_postgres() as server_url, asyncio.Runner() as runner:
        database = _create(server_url)
        url = runner.run(anext(database))
        try:
            yield Database(url, server_url)
        finally:
            runner.run(database.aclose())


async def _create(server_url: str) -> AsyncGenerator[str, None]:
    async with create_database(server_url) as url:
        yield url
