"""Migrations: bringing a database to this version's schema.

Several processes may do it at once: the first takes a lock, the others wait and find the work done. Each migration and
the lock are one transaction: a database is at one revision or at the next, never between. Never goes back.
"""

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, text

from runcast.backends.sql import postgres, sqlite
from runcast.backends.sql.address import read_url
from runcast.backends.sql.faults import database_errors
from runcast.backends.sql.revision import read_revision, refuse_newer
from runcast.errors import ConfigurationError, UnavailableError

LOCK_SECONDS: Final = 60.0  # how long to wait for another process's migration
_LOCK_KEY: Final = 0x72756E63617374  # "runcast": the advisory lock is the whole server database's
_alembic_lock: Final = threading.Lock()  # Alembic keeps the migration under way in module globals


async def migrate(url: str) -> None:
    """Bring the database to this version's schema; creates a SQLite file that isn't there.

    Raises:
        ConfigurationError: the URL can't be used, or the database is of a newer Runcast.
        UnavailableError: it can't be reached, or is locked.

    """
    address = read_url(url)
    await asyncio.to_thread(_migrate, address)


def _migrate(address: Path | URL) -> None:
    with _alembic_lock, database_errors():
        if isinstance(address, Path):
            _migrate_sqlite(address)
        else:
            asyncio.run(_migrate_postgres(address))


def _migrate_sqlite(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    engine = sqlite.open_engine(path, busy_seconds=LOCK_SECONDS, connections=1)
    try:
        with engine.connect() as connection:
            _enter_wal(connection)
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            _upgrade(connection)
            connection.commit()
    finally:
        engine.dispose()


def _enter_wal(connection: Connection) -> None:
    """Once for the file's life. SQLite doesn't wait for the lock that the change needs, so this does."""
    deadline = time.monotonic() + LOCK_SECONDS
    raw: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    while True:
        try:
            mode = raw.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            if mode != "wal":
                raise ConfigurationError("the database's folder can't hold a SQLite WAL: put it on a local disk")
            return


async def _migrate_postgres(url: URL) -> None:
    engine = postgres.open_engine(url, max_connections=1, timeout_seconds=LOCK_SECONDS)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection) -> None:
    # Loaded here: it takes longer than everything else that a process imports to open the store.
    from alembic import command, util  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    found = read_revision(connection)
    if found is not None:
        refuse_newer(found)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except util.CommandError as error:
        raise UnavailableError(f"the migration failed: {error}") from error
