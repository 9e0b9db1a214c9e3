"""How a run comes into the store."""

from typing import Final

from sqlalchemy import Connection, bindparam, case, or_, select

from runcast.backends.sql import rows
from runcast.backends.sql.archive import archive
from runcast.backends.sql.limits import refuse_if_full
from runcast.backends.sql.schema import run_tags, runs
from runcast.backends.sql.statement import Statement
from runcast.backends.sql.writing import insert_new, read_run
from runcast.events import LoggedEvent
from runcast.records import NewRun, Run

_ADD_RUN: Final = insert_new(runs, without=rows.UNBORN)
_ADD_TAG: Final = insert_new(run_tags)
# Should the id be one run's and the key another's, the id is the closer name. A key that isn't given is NULL: no run's.
_IS_SAME: Final = runs.c.id == bindparam("run")
_FIND_KNOWN: Final = Statement(
    select(*rows.RUN_COLUMNS)
    .where(or_(_IS_SAME, runs.c.idempotency_key == bindparam("key")))
    .order_by(case((_IS_SAME, 0), else_=1))
    .limit(1)
)


def create_run(connection: Connection, run: NewRun, first: LoggedEvent) -> tuple[Run, bool]:
    """See `RunStore.create_run`."""
    if _ADD_RUN.run(connection, rows.row_of_new(run, first)) == 0:
        known = _FIND_KNOWN.all(connection, {"run": run.id, "key": run.idempotency_key})
        return rows.run_of(known[0]), False
    if run.limit is not None and run.is_rejected_when_full:
        refuse_if_full(connection, run.limit)
    if run.tags:
        _ADD_TAG.run_each(connection, [{"run_id": run.id, "tag": tag} for tag in run.tags])
    archive(connection, run.id, [first])
    return read_run(connection, run.id), True
