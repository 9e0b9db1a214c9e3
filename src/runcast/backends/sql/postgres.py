"""PostgreSQL: operations in transactions on a pool of asyncpg connections.

Limits: `max_connections` at once; who waits longer than `timeout_seconds` for one, for the server or for a statement
gets `UnavailableError`. A write is never repeated here: whether it took place is the caller's to find out.
"""

from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from runcast.backends.sql.faults import database_errors

T = TypeVar("T")


class PostgresExecutor:
    """Runs operations on a PostgreSQL database; connects when first asked."""

    def __init__(self, url: URL, *, max_connections: int, timeout_seconds: float) -> None:
        self._engine: Final = open_engine(url, max_connections=max_connections, timeout_seconds=timeout_seconds)
        # Each read is a statement or two that need no common state: two round trips saved, no transaction left open.
        self._reading: Final = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Run an operation in a transaction and return once it is committed."""
        with database_errors():
            async with self._engine.begin() as connection:
                return await connection.run_sync(operation)

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Run an operation that only reads. A connection that the server has dropped meanwhile is tried anew, once."""
        with database_errors():
            try:
                return await self._read(operation)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return await self._read(operation)

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()

    async def _read(self, operation: Callable[[Connection], T]) -> T:
        async with self._reading.connect() as connection:
            return await connection.run_sync(operation)


def open_engine(url: URL, *, max_connections: int, timeout_seconds: float) -> AsyncEngine:
    """A pool that waits for a free connection, and connections that don't wait for ever."""
    return create_async_engine(
        url,
        pool_size=max_connections,
        max_overflow=0,
        pool_timeout=timeout_seconds,
        connect_args={
            "timeout": timeout_seconds,
            "command_timeout": timeout_seconds,
            "server_settings": {"application_name": "runcast"},
        },
    )
