"""What the writing modules share: how a run is locked, changed and found, and rows are put.

What the store changes is written once for both databases, each operation as one plain function on a connection that is
inside a transaction. A row is locked (PostgreSQL) or the whole database is (SQLite's one writer) before anything is
decided from it, or the decision stands in the UPDATE's own WHERE. Never: commits, rolls back, threads.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from runcast.backends.sql import rows
from runcast.backends.sql.schema import UtcTime, runs, steps, workers
from runcast.backends.sql.statement import Statement
from runcast.events import StepStatus
from runcast.records import Run

_FIND: Final = select(*rows.RUN_COLUMNS).where(runs.c.id == bindparam("run"))
_FIND_RUN: Final = Statement(_FIND)
_LOCK_RUN: Final = Statement(_FIND.with_for_update(key_share=True))
_CHANGE_RUN: Final = update(runs).where(runs.c.id == bindparam("run"))
_CUT_STEPS: Final = Statement(
    update(steps)
    .where(steps.c.run_id == bindparam("run"), steps.c.status == StepStatus.RUNNING.value)
    .values(status=StepStatus.CANCELED.value, ended_at=bindparam("now", type_=UtcTime))
)
_FIND_LEASE: Final = Statement(
    select(workers.c.id).where(workers.c.id == bindparam("worker"), workers.c.lease_until > bindparam("now"))
)


def insert_new(table: Table, *, without: Collection[str] = ()) -> Statement:
    """Insert a row, unless one with the same key is there. Columns that are left out get their default."""
    given = _binds_of(table, without)
    return Statement(
        sqlite.insert(table).values(given).on_conflict_do_nothing(),
        on_postgres=postgresql.insert(table).values(given).on_conflict_do_nothing(),
    )


def upsert(table: Table, *, keeping: Collection[str] = ()) -> Statement:
    """Put a row in the place of the one with the same key, but for what is kept."""
    lite, post = (insert(table).values(_binds_of(table)) for insert in (sqlite.insert, postgresql.insert))
    rest = [column.name for column in table.c if not column.primary_key and column.name not in keeping]
    key = list(table.primary_key)
    return Statement(
        lite.on_conflict_do_update(index_elements=key, set_={name: lite.excluded[name] for name in rest}),
        on_postgres=post.on_conflict_do_update(index_elements=key, set_={name: post.excluded[name] for name in rest}),
    )


def find_run(connection: Connection, run_id: str) -> Run | None:
    """The run, if there is one."""
    row = _FIND_RUN.first(connection, {"run": run_id})
    return None if row is None else rows.run_of(row)


def lock_run(connection: Connection, run_id: str) -> Run | None:
    """The run, kept from other writers until the transaction ends. (SQLite's writer has locked everything.)"""
    row = _LOCK_RUN.first(connection, {"run": run_id})
    return None if row is None else rows.run_of(row)


def read_run(connection: Connection, run_id: str) -> Run:
    """A run that is known to be there."""
    run = find_run(connection, run_id)
    assert run is not None, "it was written in this transaction"  # noqa: S101 - a bug, not input
    return run


def change_run(connection: Connection, run_id: str, values: Mapping[str, Any]) -> Run:
    """The run after its columns were set."""
    connection.execute(_CHANGE_RUN, {"run": run_id, **values})
    return read_run(connection, run_id)


def cut_steps_short(connection: Connection, run_id: str, *, now: datetime) -> None:
    """End the open steps of a run that ends without its worker."""
    _CUT_STEPS.run(connection, {"run": run_id, "now": now})


def is_led(connection: Connection, run: Run, *, now: datetime) -> bool:
    """Whether the worker that holds the run lives."""
    return _FIND_LEASE.first(connection, {"worker": run.worker_id, "now": now}) is not None


def _binds_of(table: Table, without: Collection[str] = ()) -> dict[str, Any]:
    return {column.name: bindparam(column.name) for column in table.c if column.name not in without}
