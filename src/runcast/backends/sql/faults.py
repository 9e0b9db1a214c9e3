"""What drivers raise, told in our words: the one place where their exceptions are translated.

What may pass by itself (no connection, a locked file, a full disk, a deadlock) is `UnavailableError`; what the settings
are to blame for is `ConfigurationError`; anything else is a bug of ours and stays as it is. Messages never have a
statement's values or the database's URL in them.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from runcast.errors import ConfigurationError, RuncastError, UnavailableError

_PASSING_SQLITE: Final = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
}
_BROKEN_SQLITE: Final = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
# Classes of SQLSTATE: connection, rollback for another's sake, resources, wrong state, operator, the system itself;
# and 25006, the read-only server that a failover leaves behind.
_PASSING_POSTGRES: Final = ("08", "40", "53", "55", "57", "58", "25006")
_SETTINGS_POSTGRES: Final = ("28", "3D", "42501")


@contextmanager
def database_errors() -> Iterator[None]:
    """Raise our errors instead of the drivers'."""
    try:
        yield
    except RuncastError:
        raise
    except Exception as error:
        if isinstance(own := getattr(error, "orig", None), RuncastError):
            raise own from None  # a column's own complaint, which SQLAlchemy has wrapped
        if (known := explain(error)) is not None:
            raise known from error
        raise


def explain(error: Exception) -> RuncastError | None:
    """Our word for an exception; None for one that nobody foresaw."""
    if isinstance(error, PoolTimeoutError):
        return UnavailableError("the database is overloaded: no connection became free in time")
    root = _root_of(error)
    if isinstance(root, sqlite3.Error):
        return _explain_sqlite(root)
    if isinstance(root, asyncpg.PostgresError):
        return _explain_postgres(root)
    if isinstance(root, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError):
        return UnavailableError(f"the database can't be reached: {_sentence_of(root)}")
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return UnavailableError("the connection to the database was lost")
    return None


def _explain_sqlite(error: sqlite3.Error) -> RuncastError | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return None
    primary = code & 0xFF  # the rest of an extended code is detail
    if primary in _PASSING_SQLITE:
        return UnavailableError(f"the database can't serve now: {_sentence_of(error)}")
    if primary in _BROKEN_SQLITE:
        return ConfigurationError(f"the database's file can't be used: {_sentence_of(error)}")
    return None


def _explain_postgres(error: asyncpg.PostgresError) -> RuncastError | None:
    state = getattr(error, "sqlstate", None) or ""
    if state.startswith(_SETTINGS_POSTGRES):
        return ConfigurationError(f"the database refuses DATABASE_URL: {_sentence_of(error)}")
    if state.startswith(_PASSING_POSTGRES):
        return UnavailableError(f"the database can't serve now: {_sentence_of(error)}")
    return None


def _root_of(error: BaseException) -> BaseException:
    """What the driver said, under SQLAlchemy's wrappings."""
    wrapped = getattr(error, "orig", None) or error
    cause = wrapped.__cause__
    return cause if cause is not None and not isinstance(wrapped, sqlite3.Error | asyncpg.PostgresError) else wrapped


def _sentence_of(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:300] or type(error).__name__
