"""Whether the SQLite database is known to be up to date, so that a warm start needs no migration process.

Asking SQLAlchemy and Alembic takes longer than all the rest of a warm start. After a migration a note in the data dir
says which revision the database then had and which migrations there were; it counts only while both are still so.
"""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

_VERSIONS: Final = Path(__file__).parent / "backends" / "sql" / "migrations" / "versions"
_NOTE: Final = "migrated"


def is_migrated(data_dir: Path, database: Path) -> bool:
    """Whether the note of the last migration still fits the database and the code."""
    note = data_dir / _NOTE
    present = _describe(database)
    return present is not None and note.is_file() and note.read_text() == present


def note_migrated(data_dir: Path, database: Path) -> None:
    """Keep what the migration that has just succeeded left behind."""
    present = _describe(database)
    if present is not None:
        (data_dir / _NOTE).write_text(present)


def _describe(database: Path) -> str | None:
    if not database.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None  # a database that can't be asked is for the migration to judge
    return f"{row[0]} {_hash_migrations()}\n" if row else None


def _hash_migrations() -> str:
    digest = hashlib.sha256()
    for path in sorted(_VERSIONS.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
