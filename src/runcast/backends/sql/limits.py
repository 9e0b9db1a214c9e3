"""How many runs of a limit's key are under way, and which is to start next. Never writes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Subquery, and_, func, or_, select, text

from runcast.backends.sql import rows
from runcast.backends.sql.schema import runs
from runcast.errors import LimitReachedError
from runcast.events import FINAL_STATUSES, RunStatus
from runcast.records import Run, RunLimit

_OPEN: Final = sorted(status.value for status in RunStatus if status not in FINAL_STATUSES)
_IS_UNDER_WAY: Final = and_(runs.c.attempt > 0, runs.c.status.in_(_OPEN))
_LOCK_KEY: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


def is_full(connection: Connection, limit: RunLimit) -> bool:
    """Whether as many runs as may be are under way. What is decided from it holds until the transaction ends."""
    _lock(connection, limit.key)
    return _count(connection, limit.key) >= limit.most


def refuse_if_full(connection: Connection, limit: RunLimit) -> None:
    """Raise `LimitReachedError` if, with the run just added, more have not ended than may be under way."""
    _lock(connection, limit.key)
    unended = select(func.count()).where(runs.c.concurrency_key == limit.key, runs.c.status.in_(_OPEN))
    if connection.execute(unended).scalar_one() > limit.most:
        raise LimitReachedError(limit.key, limit.most)


def find_next(connection: Connection, limit_key: str, *, now: datetime | None = None) -> Run | None:
    """See `RunStore.find_next`."""
    is_ready: ColumnElement[bool] = runs.c.status == RunStatus.QUEUED.value
    if now is not None:
        is_ready = or_(is_ready, and_(runs.c.status == RunStatus.DELAYED.value, runs.c.due_at <= now))
    waiting = select(*rows.RUN_COLUMNS).where(runs.c.concurrency_key == limit_key, runs.c.attempt == 0, is_ready)
    ordered = waiting.order_by(runs.c.priority.desc(), runs.c.created_at, runs.c.id).limit(1)
    row = connection.execute(ordered).one_or_none()
    run = None if row is None else rows.run_of(row)
    return run if run and run.limit and _count(connection, limit_key) < run.limit.most else None


def list_under_way(connection: Connection, limit_key: str) -> Sequence[str]:
    """See `RunStore.list_under_way`."""
    unended = select(runs.c.id).where(runs.c.concurrency_key == limit_key, runs.c.status.in_(_OPEN))
    return connection.execute(unended.order_by(runs.c.created_at, runs.c.id)).scalars().all()


def count_by_key() -> Subquery:
    """By limit's key, how many runs are under way."""
    has_key = runs.c.concurrency_key.is_not(None)
    columns: tuple[Any, ...] = (runs.c.concurrency_key.label("key"), func.count().label("total"))
    return select(*columns).where(has_key, _IS_UNDER_WAY).group_by(runs.c.concurrency_key).subquery()


def _lock(connection: Connection, limit_key: str) -> None:
    if connection.dialect.name == "postgresql":
        # Transactions of different runs lock different rows: on this they wait for each other.
        connection.execute(_LOCK_KEY, {"key": limit_key})


def _count(connection: Connection, limit_key: str) -> int:
    under_way = select(func.count()).where(runs.c.concurrency_key == limit_key, _IS_UNDER_WAY)
    return connection.execute(under_way).scalar_one()
