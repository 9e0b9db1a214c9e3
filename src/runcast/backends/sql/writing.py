"""What the writing modules share: how a run is locked, changed and found, and rows are put.

What the store changes is written once for both databases, each operation as one plain function on a connection that is
inside a transaction. A row is locked (PostgreSQL) or the whole database is (SQLite's one writer) before anything is
decided from it, or the decision stands in the UPDATE's own WHERE. Never: commits, rolls back, threads.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from runcast.backends.sql import rows
from runcast.backends.sql.schema import runs, steps, workers
from runcast.events import StepStatus
from runcast.records import Run

INSERTS: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_FIND_RUN: Final = select(*rows.RUN_COLUMNS).where(runs.c.id == bindparam("run"))
_LOCK_RUN: Final = _FIND_RUN.with_for_update(key_share=True)


def upsert(table: Any, *, keeping: Collection[str] = ()) -> dict[str, Any]:
    """By database, the statement that puts rows in the place of those with the same key, but for what is kept."""
    statements = {}
    for name, insert in INSERTS.items():
        statement = insert(table)
        given = statement.excluded
        rest = {
            column.name: given[column.name]
            for column in table.c
            if not column.primary_key and column.name not in keeping
        }
        statements[name] = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=rest)
    return statements


def find_run(connection: Connection, run_id: str) -> Run:
    """A run that is known to be there."""
    return rows.run_of(connection.execute(_FIND_RUN, {"run": run_id}).one())


def lock_run(connection: Connection, run_id: str) -> Run | None:
    """The run, kept from other writers until the transaction ends. (SQLite's writer has locked everything.)"""
    row = connection.execute(_LOCK_RUN, {"run": run_id}).one_or_none()
    return None if row is None else rows.run_of(row)


def change_run(connection: Connection, run_id: str, values: Mapping[str, Any]) -> Run:
    """The run after its columns were set."""
    connection.execute(update(runs).where(runs.c.id == run_id).values(values))
    return find_run(connection, run_id)


def cut_steps_short(connection: Connection, run_id: str, *, now: datetime) -> None:
    """End the open steps of a run that ends without its worker."""
    values = {"status": StepStatus.CANCELED.value, "ended_at": now}
    is_open = (steps.c.run_id == run_id) & (steps.c.status == StepStatus.RUNNING.value)
    connection.execute(update(steps).where(is_open).values(values))


def is_led(connection: Connection, run: Run, *, now: datetime) -> bool:
    """Whether the worker that holds the run lives."""
    lease = select(workers.c.id).where(workers.c.id == run.worker_id, workers.c.lease_until > now)
    return connection.execute(lease).first() is not None
