"""How many runs of a limit's key are under way, and which is to start next. Never writes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Subquery, and_, bindparam, func, or_, select, text

from runcast.backends.sql import rows
from runcast.backends.sql.schema import runs
from runcast.backends.sql.statement import Statement, any_of
from runcast.errors import LimitReachedError
from runcast.events import FINAL_STATUSES, RunStatus
from runcast.records import Run, RunLimit

_IS_OPEN: Final = any_of(runs.c.status, [status for status in RunStatus if status not in FINAL_STATUSES])
_IS_UNDER_WAY: Final = and_(runs.c.attempt > 0, _IS_OPEN)
_HAS_KEY: Final = runs.c.concurrency_key == bindparam("key")
_COUNT_UNDER_WAY: Final = Statement(select(func.count()).where(_HAS_KEY, _IS_UNDER_WAY))
_COUNT_OPEN: Final = Statement(select(func.count()).where(_HAS_KEY, _IS_OPEN))
_LIST_OPEN: Final = Statement(select(runs.c.id).where(_HAS_KEY, _IS_OPEN).order_by(runs.c.created_at, runs.c.id))
# Nothing is due before a time that isn't given: it is NULL.
_IS_DUE: Final = and_(runs.c.status == RunStatus.DELAYED.value, runs.c.due_at <= bindparam("now"))
_FIND_NEXT: Final = Statement(
    select(*rows.RUN_COLUMNS)
    .where(_HAS_KEY, runs.c.attempt == 0, or_(runs.c.status == RunStatus.QUEUED.value, _IS_DUE))
    .order_by(runs.c.priority.desc(), runs.c.created_at, runs.c.id)
    .limit(1)
)
_LOCK_KEY: Final = text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))")


def is_full(connection: Connection, limit: RunLimit) -> bool:
    """Whether as many runs as may be are under way. What is decided from it holds until the transaction ends."""
    _lock(connection, limit.key)
    return _count(connection, limit.key) >= limit.most


def refuse_if_full(connection: Connection, limit: RunLimit) -> None:
    """Raise `LimitReachedError` if, with the run just added, more have not ended than may be under way."""
    _lock(connection, limit.key)
    [(unended,)] = _COUNT_OPEN.all(connection, {"key": limit.key})
    if unended > limit.most:
        raise LimitReachedError(limit.key, limit.most)


def find_next(connection: Connection, limit_key: str, *, now: datetime | None = None) -> Run | None:
    """See `RunStore.find_next`."""
    row = _FIND_NEXT.first(connection, {"key": limit_key, "now": now})
    run = None if row is None else rows.run_of(row)
    return run if run and run.limit and _count(connection, limit_key) < run.limit.most else None


def list_under_way(connection: Connection, limit_key: str) -> Sequence[str]:
    """See `RunStore.list_under_way`."""
    return [run_id for (run_id,) in _LIST_OPEN.all(connection, {"key": limit_key})]


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
    [(under_way,)] = _COUNT_UNDER_WAY.all(connection, {"key": limit_key})
    count: int = under_way
    return count
