"""Runs that nobody looks after: found for the sweeper. Never writes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, union_all

from runcast.backends.sql import rows
from runcast.backends.sql.limits import count_by_key
from runcast.backends.sql.schema import runs, workers
from runcast.core.lifecycle import CANCELED_AT_ONCE, HELD_BY_WORKER, PARKABLE
from runcast.events import RunStatus
from runcast.records import Run


def _values(statuses: frozenset[RunStatus]) -> list[str]:
    return sorted(status.value for status in statuses)


_WAITING: Final = _values(CANCELED_AT_ONCE)
_PARKABLE: Final = _values(PARKABLE)
_HELD: Final = _values(HELD_BY_WORKER)


def list_unattended(connection: Connection, *, now: datetime, queued_before: datetime, limit: int) -> Sequence[Run]:
    """See `RunStore.list_unattended`.

    Each kind by itself, so that each has its index: of the many that may be parked only those that are due are read.
    """
    kinds = (_is_ready(queued_before), _is_due(queued_before), _is_lost(now))
    found = union_all(*(_oldest(kind, limit) for kind in kinds)).subquery()
    oldest = select(*rows.RUN_COLUMNS).where(runs.c.id.in_(select(found.c.id)))
    return [rows.run_of(row) for row in connection.execute(oldest.order_by(runs.c.created_at, runs.c.id).limit(limit))]


def _is_ready(queued_before: datetime) -> ColumnElement[bool]:
    is_due = or_(runs.c.due_at.is_(None), runs.c.due_at < queued_before)
    return and_(runs.c.status.in_(_WAITING), runs.c.changed_at < queued_before, is_due)


def _is_due(queued_before: datetime) -> ColumnElement[bool]:
    return and_(runs.c.due_at < queued_before, runs.c.status.in_(_PARKABLE), runs.c.worker_id.is_(None))


def _is_lost(now: datetime) -> ColumnElement[bool]:
    is_led = exists().where(workers.c.id == runs.c.worker_id, workers.c.lease_until > now)
    return and_(runs.c.status.in_(_HELD), runs.c.worker_id.is_not(None), ~is_led)


def _oldest(kind: ColumnElement[bool], limit: int) -> Select[tuple[str]]:
    busy = count_by_key()
    joined = runs.outerjoin(busy, busy.c.key == runs.c.concurrency_key)
    is_startable = or_(
        runs.c.attempt > 0,
        runs.c.concurrency_key.is_(None),
        func.coalesce(busy.c.total, 0) < runs.c.concurrency_limit,
    )
    oldest = select(runs.c.id).select_from(joined).where(kind, is_startable)
    # In a subquery of its own: SQLite takes no LIMIT in a part of a UNION.
    return select(oldest.order_by(runs.c.created_at, runs.c.id).limit(limit).subquery().c.id)
