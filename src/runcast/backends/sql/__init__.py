"""The database: runs, steps and the archive of events, in SQLite or PostgreSQL."""

from runcast.backends.sql.store import SqlRunStore, open_store
from runcast.backends.sql.upgrade import migrate

__all__ = ["SqlRunStore", "migrate", "open_store"]
