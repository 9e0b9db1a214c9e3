"""Runs that nobody looks after: found for the sweeper. Never writes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, Integer, Select, and_, bindparam, exists, func, or_, select, union_all

from runcast.backends.sql import rows
from runcast.backends.sql.limits import count_by_key
from runcast.backends.sql.schema import UtcTime, runs, workers
from runcast.backends.sql.statement import Statement, any_of
from runcast.core.lifecycle import CANCELED_AT_ONCE, HELD_BY_WORKER, PARKABLE
from runcast.records import Run

_LIMIT: Final = bindparam("limit", type_=Integer)
_QUEUED_BEFORE: Final = bindparam("queued_before", type_=UtcTime)
_IS_READY: Final = and_(
    any_of(runs.c.status, CANCELED_AT_ONCE),
    runs.c.changed_at < _QUEUED_BEFORE,
    or_(runs.c.due_at.is_(None), runs.c.due_at < _QUEUED_BEFORE),
)
_IS_DUE: Final = and_(runs.c.due_at < _QUEUED_BEFORE, any_of(runs.c.status, PARKABLE), runs.c.worker_id.is_(None))
_IS_LED: Final = exists().where(workers.c.id == runs.c.worker_id, workers.c.lease_until > bindparam("now"))
_IS_LOST: Final = and_(any_of(runs.c.status, HELD_BY_WORKER), runs.c.worker_id.is_not(None), ~_IS_LED)


def _oldest(kind: ColumnElement[bool]) -> Select[tuple[str]]:
    busy = count_by_key()
    joined = runs.outerjoin(busy, busy.c.key == runs.c.concurrency_key)
    is_startable = or_(
        runs.c.attempt > 0,
        runs.c.concurrency_key.is_(None),
        func.coalesce(busy.c.total, 0) < runs.c.concurrency_limit,
    )
    oldest = select(runs.c.id).select_from(joined).where(kind, is_startable)
    # In a subquery of its own: SQLite takes no LIMIT in a part of a UNION.
    return select(oldest.order_by(runs.c.created_at, runs.c.id).limit(_LIMIT).subquery().c.id)


# Each kind by itself, so that each has its index: of the many that may be parked only those that are due are read.
_FOUND: Final = union_all(*(_oldest(kind) for kind in (_IS_READY, _IS_DUE, _IS_LOST))).subquery()
_LIST_UNATTENDED: Final = Statement(
    select(*rows.RUN_COLUMNS)
    .where(runs.c.id.in_(select(_FOUND.c.id)))
    .order_by(runs.c.created_at, runs.c.id)
    .limit(_LIMIT)
)


def list_unattended(connection: Connection, *, now: datetime, queued_before: datetime, limit: int) -> Sequence[Run]:
    """See `RunStore.list_unattended`."""
    given = {"now": now, "queued_before": queued_before, "limit": limit}
    return [rows.run_of(row) for row in _LIST_UNATTENDED.all(connection, given)]
