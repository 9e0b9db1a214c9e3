"""Which revision a database is at, and whether this version can work with it."""

from sqlalchemy import Connection, inspect, text

from runcast.backends.sql.schema import REVISION
from runcast.errors import ConfigurationError


def check_revision(connection: Connection) -> None:
    """Refuse a database that this version can't work with.

    Raises:
        ConfigurationError: it is older, newer or empty; the message says what to do.

    """
    found = read_revision(connection)
    if found is None:
        raise ConfigurationError("the database is empty: set it up with `runcast migrate`")
    if found < REVISION:
        raise ConfigurationError(f"the database is at revision {found}, not {REVISION}: run `runcast migrate`")
    refuse_newer(found)


def read_revision(connection: Connection) -> str | None:
    """The revision that a database is at, None if it has none of our tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def refuse_newer(found: str) -> None:
    """Refuse a database that a newer version has migrated."""
    if found > REVISION:
        raise ConfigurationError(
            f"the database is at revision {found}, newer than this Runcast's {REVISION}: install the newer Runcast; "
            "`runcast migrate` doesn't go back"
        )
