"""What the store reads, each as one plain function on a connection. Never writes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, func, literal, select, tuple_

from runcast.backends.sql import rows
from runcast.backends.sql.schema import events, memos, run_tags, runs, steps
from runcast.core.lifecycle import PARKABLE
from runcast.errors import InvalidInputError, StaleAttemptError
from runcast.events import UNKNOWN_ATTEMPT, Cursor, LoggedEvent, RunStatus
from runcast.records import Head, Run, RunFilter, RunPage, Step

MAX_SEARCH_CHARS: Final = 1_000
"""The longest text that is searched for; SQLite's own limit for a pattern is 50,000 bytes."""

_IDS_PER_QUERY: Final = 1_000


def get_run(connection: Connection, run_id: str) -> Run | None:
    """See `RunStore.get_run`."""
    row = connection.execute(select(*rows.RUN_COLUMNS).where(runs.c.id == run_id)).one_or_none()
    return None if row is None else rows.run_of(row)


def list_runs(connection: Connection, where: RunFilter, *, limit: int, before: str | None) -> RunPage:
    """See `RunStore.list_runs`."""
    conditions = [*_conditions(where), *_after_page(connection, before)]
    newest = select(*rows.RUN_COLUMNS).where(*conditions).order_by(runs.c.created_at.desc(), runs.c.id.desc())
    found = [rows.run_of(row) for row in connection.execute(newest.limit(limit + 1))]
    page = found[:limit]
    return RunPage(page, next_before=page[-1].id if page and len(found) > limit else None)


def count_runs(connection: Connection) -> Mapping[str, int]:
    """See `RunStore.count_runs`."""
    counted = select(runs.c.status, func.count().label("total")).group_by(runs.c.status)
    return {row.status: row.total for row in connection.execute(counted)}


def list_steps(connection: Connection, run_id: str) -> Sequence[Step]:
    """See `RunStore.list_steps`."""
    ordered = select(*rows.STEP_COLUMNS).where(steps.c.run_id == run_id).order_by(steps.c.index, steps.c.id)
    return [rows.step_of(row) for row in connection.execute(ordered)]


def list_children(connection: Connection, run_id: str) -> Sequence[Run]:
    """See `RunStore.list_children`."""
    children = select(*rows.RUN_COLUMNS).where(runs.c.parent_id == run_id).order_by(runs.c.created_at, runs.c.id)
    return [rows.run_of(row) for row in connection.execute(children)]


def read_memos(connection: Connection, run_id: str) -> Mapping[str, Any]:
    """See `RunStore.read_memos`."""
    kept = select(memos.c.key, memos.c.value).where(memos.c.run_id == run_id).order_by(memos.c.key)
    return {row.key: row.value for row in connection.execute(kept)}


def read_events(connection: Connection, run_id: str, after: Cursor, *, limit: int) -> Sequence[LoggedEvent]:
    """See `RunStore.read_events`.

    Attempts never go down along an archive, so what lies after a cursor is one stretch of seqs, up to the end.
    """
    conditions = [events.c.run_id == run_id, events.c.seq > _seq_before(connection, run_id, after)]
    if after.attempt != UNKNOWN_ATTEMPT:
        conditions.append(events.c.attempt >= after.attempt)
    bodies = select(events.c.body).where(*conditions).order_by(events.c.seq).limit(limit)
    return [rows.event_of(body) for body in connection.execute(bodies).scalars()]


def check_attempt(connection: Connection, run_id: str, attempt: int) -> None:
    """See `RunStore.check_attempt`."""
    is_parked = and_(runs.c.status.in_(sorted(status.value for status in PARKABLE)), runs.c.worker_id.is_(None))
    held = select(runs.c.id).where(runs.c.id == run_id, runs.c.attempt == attempt, ~is_parked)
    if connection.execute(held).first() is None:
        raise StaleAttemptError(run_id, attempt)


def read_heads(connection: Connection, run_ids: Sequence[str]) -> Mapping[str, Head]:
    """See `RunStore.read_heads`."""
    columns = (runs.c.id, runs.c.last_attempt, runs.c.last_seq, runs.c.status)
    found: dict[str, Head] = {}
    for start in range(0, len(run_ids), _IDS_PER_QUERY):
        asked = runs.c.id.in_(run_ids[start : start + _IDS_PER_QUERY])
        for run_id, attempt, seq, status in connection.execute(select(*columns).where(asked)):
            found[run_id] = Head(Cursor(attempt, seq), RunStatus(status))
    return found


def ping(connection: Connection) -> None:
    """See `RunStore.ping`."""
    connection.execute(select(1)).one()


def _seq_before(connection: Connection, run_id: str, after: Cursor) -> int:
    """The seq after which the stretch begins: the cursor's own, or a lower one if a later attempt took its place."""
    if after.attempt == UNKNOWN_ATTEMPT:
        return after.seq
    seen = and_(events.c.run_id == run_id, events.c.seq <= after.seq, events.c.attempt <= after.attempt)
    newest = select(events.c.seq).where(seen).order_by(events.c.seq.desc()).limit(1)
    return connection.execute(newest).scalar() or 0


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
