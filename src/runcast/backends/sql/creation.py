"""How a run comes into the store."""

from typing import Final

from sqlalchemy import Connection, case, select

from runcast.backends.sql import rows
from runcast.backends.sql.archive import archive
from runcast.backends.sql.limits import refuse_if_full
from runcast.backends.sql.schema import run_tags, runs
from runcast.backends.sql.writing import INSERTS, find_run
from runcast.events import LoggedEvent
from runcast.records import NewRun, Run

_ADD_RUN: Final = {name: insert(runs).on_conflict_do_nothing() for name, insert in INSERTS.items()}
_ADD_TAGS: Final = {name: insert(run_tags).on_conflict_do_nothing() for name, insert in INSERTS.items()}


def create_run(connection: Connection, run: NewRun, first: LoggedEvent) -> tuple[Run, bool]:
    """See `RunStore.create_run`."""
    dialect = connection.dialect.name
    is_new = connection.execute(_ADD_RUN[dialect], rows.row_of_new(run, first)).rowcount == 1
    if is_new:
        if run.limit is not None and run.is_rejected_when_full:
            refuse_if_full(connection, run.limit)
        if run.tags:
            connection.execute(_ADD_TAGS[dialect], [{"run_id": run.id, "tag": tag} for tag in run.tags])
        archive(connection, run.id, [first])
        return find_run(connection, run.id), True
    return _known_run(connection, run), False


def _known_run(connection: Connection, run: NewRun) -> Run:
    is_same = runs.c.id == run.id
    is_known = is_same | (runs.c.idempotency_key == run.idempotency_key) if run.idempotency_key else is_same
    # Should the id be one run's and the key another's, the id is the closer name.
    found = select(*rows.RUN_COLUMNS).where(is_known).order_by(case((is_same, 0), else_=1)).limit(1)
    return rows.run_of(connection.execute(found).one())
