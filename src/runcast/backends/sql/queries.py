"""What the store reads, each as one plain function on a connection. Never writes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    bindparam,
    exists,
    func,
    literal,
    not_,
    or_,
    select,
    tuple_,
)

from runcast.backends.sql import rows
from runcast.backends.sql.schema import PlainText, events, memos, run_tags, runs, steps
from runcast.backends.sql.statement import Statement, any_of
from runcast.backends.sql.writing import find_run
from runcast.core.lifecycle import PARKABLE
from runcast.errors import InvalidInputError, StaleAttemptError
from runcast.events import UNKNOWN_ATTEMPT, Cursor, LoggedEvent, RunStatus
from runcast.records import Head, Run, RunFilter, RunPage, Step

MAX_SEARCH_CHARS: Final = 1_000
"""The longest text that is searched for; SQLite's own limit for a pattern is 50,000 bytes."""

_IDS_PER_QUERY: Final = 1_000
_RUN: Final = bindparam("run", type_=PlainText)

_NEWEST: Final = select(*rows.RUN_COLUMNS).order_by(runs.c.created_at.desc(), runs.c.id.desc())
_COUNT_RUNS: Final = Statement(select(runs.c.status, func.count()).group_by(runs.c.status))
_LIST_STEPS: Final = Statement(
    select(*rows.STEP_COLUMNS).where(steps.c.run_id == _RUN).order_by(steps.c.index, steps.c.id)
)
_LIST_CHILDREN: Final = Statement(
    select(*rows.RUN_COLUMNS).where(runs.c.parent_id == _RUN).order_by(runs.c.created_at, runs.c.id)
)
_READ_MEMOS: Final = Statement(select(memos.c.key, memos.c.value).where(memos.c.run_id == _RUN).order_by(memos.c.key))
_CHECK_ATTEMPT: Final = Statement(
    select(runs.c.id).where(
        runs.c.id == _RUN,
        runs.c.attempt == bindparam("attempt"),
        or_(runs.c.worker_id.is_not(None), not_(any_of(runs.c.status, PARKABLE))),
    )
)
_HEADS: Final = select(runs.c.id, runs.c.last_attempt, runs.c.last_seq, runs.c.status)
_READ_HEAD: Final = Statement(_HEADS.where(runs.c.id == _RUN))
_READ_HEADS: Final = _HEADS.where(runs.c.id.in_(bindparam("runs", expanding=True)))
_PING: Final = Statement(select(literal(1)))

# Attempts never go down along an archive, so what lies after a cursor is one stretch of seqs, up to the end.
_SEQ: Final = bindparam("seq", type_=BigInteger)
_ATTEMPT: Final = bindparam("attempt", type_=BigInteger)
_AFTER: Final = select(events.c.body).where(events.c.run_id == _RUN).order_by(events.c.seq)
_SEQ_BEFORE: Final = (
    select(events.c.seq)
    .where(events.c.run_id == _RUN, events.c.seq <= _SEQ, events.c.attempt <= _ATTEMPT)
    .order_by(events.c.seq.desc())
    .limit(1)
    .scalar_subquery()
)
"""The seq after which the stretch begins: the cursor's own, or a lower one if a later attempt took its place."""

_LIMIT: Final = bindparam("limit", type_=Integer)
_READ_AFTER_SEQ: Final = Statement(_AFTER.where(events.c.seq > _SEQ).limit(_LIMIT))
_READ_AFTER_CURSOR: Final = Statement(
    _AFTER.where(events.c.seq > func.coalesce(_SEQ_BEFORE, 0), events.c.attempt >= _ATTEMPT).limit(_LIMIT)
)


def get_run(connection: Connection, run_id: str) -> Run | None:
    """See `RunStore.get_run`."""
    return find_run(connection, run_id)


def list_runs(connection: Connection, where: RunFilter, *, limit: int, before: str | None) -> RunPage:
    """See `RunStore.list_runs`."""
    conditions = [*_conditions(where), *_after_page(connection, before)]
    found = [rows.run_of(row) for row in connection.execute(_NEWEST.where(*conditions).limit(limit + 1))]
    page = found[:limit]
    return RunPage(page, next_before=page[-1].id if page and len(found) > limit else None)


def count_runs(connection: Connection) -> Mapping[str, int]:
    """See `RunStore.count_runs`."""
    return dict(_COUNT_RUNS.all(connection, {}))


def list_steps(connection: Connection, run_id: str) -> Sequence[Step]:
    """See `RunStore.list_steps`."""
    return [rows.step_of(row) for row in _LIST_STEPS.all(connection, {"run": run_id})]


def list_children(connection: Connection, run_id: str) -> Sequence[Run]:
    """See `RunStore.list_children`."""
    return [rows.run_of(row) for row in _LIST_CHILDREN.all(connection, {"run": run_id})]


def read_memos(connection: Connection, run_id: str) -> Mapping[str, Any]:
    """See `RunStore.read_memos`."""
    return dict(_READ_MEMOS.all(connection, {"run": run_id}))


def read_events(connection: Connection, run_id: str, after: Cursor, *, limit: int) -> Sequence[LoggedEvent]:
    """See `RunStore.read_events`."""
    place = {"run": run_id, "seq": after.seq, "limit": limit}
    if after.attempt == UNKNOWN_ATTEMPT:
        bodies = _READ_AFTER_SEQ.all(connection, place)
    else:
        bodies = _READ_AFTER_CURSOR.all(connection, {**place, "attempt": after.attempt})
    return [rows.event_of(body) for (body,) in bodies]


def check_attempt(connection: Connection, run_id: str, attempt: int) -> None:
    """See `RunStore.check_attempt`."""
    if _CHECK_ATTEMPT.first(connection, {"run": run_id, "attempt": attempt}) is None:
        raise StaleAttemptError(run_id, attempt)


def read_heads(connection: Connection, run_ids: Sequence[str]) -> Mapping[str, Head]:
    """See `RunStore.read_heads`."""
    if len(run_ids) == 1:  # Fast path: a watcher comes to a run
        found = _READ_HEAD.all(connection, {"run": run_ids[0]})
    else:
        parts = (run_ids[start : start + _IDS_PER_QUERY] for start in range(0, len(run_ids), _IDS_PER_QUERY))
        found = [row for part in parts for row in connection.execute(_READ_HEADS, {"runs": part})]
    return {run_id: Head(Cursor(attempt, seq), RunStatus(status)) for run_id, attempt, seq, status in found}


def ping(connection: Connection) -> None:
    """See `RunStore.ping`."""
    _PING.all(connection, {})


def _conditions(where: RunFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if where.status is not None:
        conditions.append(runs.c.status == where.status.value)
    if where.runner is not None:
        conditions.append(runs.c.runner == where.runner)
    if where.parent_id is not None:
        conditions.append(runs.c.parent_id == where.parent_id)
    if where.tag is not None:
        conditions.append(exists().where(run_tags.c.tag == where.tag, run_tags.c.run_id == runs.c.id))
    if where.text:
        if len(where.text) > MAX_SEARCH_CHARS:
            raise InvalidInputError(f"a search has at most {MAX_SEARCH_CHARS} characters", field="text")
        conditions.append(runs.c.search_text.contains(rows.fold(where.text), autoescape=True))
    return conditions


def _after_page(connection: Connection, before: str | None) -> list[ColumnElement[bool]]:
    if before is None:
        return []
    created_at = connection.execute(select(runs.c.created_at).where(runs.c.id == before)).scalar()
    if created_at is None:
        raise InvalidInputError(f"no run has the id {before[:64]!r}, so no page comes after it", field="before")
    place = tuple_(literal(created_at, runs.c.created_at.type), literal(before, runs.c.id.type))
    return [tuple_(runs.c.created_at, runs.c.id) < place]
