"""Which database a URL names. Never repeats a URL in a message: it may hold a password."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from runcast.errors import ConfigurationError

_POSTGRES_SCHEMES: Final = {"postgresql", "postgres", "postgresql+asyncpg"}
_OPTIONS: Final[Mapping[str, str]] = {
    "host": "host",  # the folder of a unix socket
    "port": "port",
    "ssl": "ssl",
    "sslmode": "ssl",  # libpq's word for it, which most providers' URLs use
    "prepared_statement_cache_size": "prepared_statement_cache_size",  # 0 behind a pooler that shares connections
}
_WANTED: Final = "give postgresql://USER:PASSWORD@HOST/NAME or sqlite:////absolute/path.db"


def read_url(url: str) -> Path | URL:
    """The file of a SQLite database, or the address of a PostgreSQL one.

    Raises:
        ConfigurationError: it is neither.

    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(f"DATABASE_URL is not a URL: {_WANTED}") from None
    if parsed.drivername in _POSTGRES_SCHEMES:
        return parsed.set(drivername="postgresql+asyncpg", query=_read_options(parsed))
    if parsed.drivername == "sqlite":
        return _read_path(parsed)
    raise ConfigurationError(f"DATABASE_URL names {parsed.drivername!r}, which Runcast doesn't know: {_WANTED}")


def _read_path(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError("DATABASE_URL names no file: API and workers share one, such as sqlite:////data/r.db")
    if url.host or url.query:
        raise ConfigurationError(f"DATABASE_URL has more than a path, which SQLite can't use: {_WANTED}")
    return Path(url.database)


def _read_options(url: URL) -> dict[str, str | tuple[str, ...]]:
    if unknown := sorted(url.query.keys() - _OPTIONS.keys()):
        raise ConfigurationError(f"DATABASE_URL has the option {unknown[0]!r}; known are {', '.join(sorted(_OPTIONS))}")
    return {_OPTIONS[name]: value for name, value in url.query.items()}
