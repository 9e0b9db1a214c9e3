"""What the store changes, each as one plain function on a connection that is inside a transaction.

Written once for both databases. A row is locked (PostgreSQL) or the whole database is (SQLite's one writer) before
anything is decided from it, or the decision stands in the UPDATE's own WHERE. Never: commits, rolls back, threads.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Connection,
    Update,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from runcast.backends.sql import rows
from runcast.backends.sql.archive import archive
from runcast.backends.sql.schema import JsonText, UtcTime, events, run_tags, runs, steps, workers
from runcast.core.lifecycle import CANCELED_AT_ONCE, HELD_BY_WORKER, is_run_transition
from runcast.errors import IllegalCommitError, StaleAttemptError
from runcast.events import LoggedEvent, RunStatus, StepStatus
from runcast.records import Claim, Commit, NewRun, Run, StatusChange, Step

_FORGET_WORKERS_AFTER: Final = timedelta(days=1)

_INSERTS: Final[Mapping[str, Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_ADD_RUN: Final = {name: insert(runs).on_conflict_do_nothing() for name, insert in _INSERTS.items()}
_ADD_TAGS: Final = {name: insert(run_tags).on_conflict_do_nothing() for name, insert in _INSERTS.items()}


def _upsert(table: Any) -> dict[str, Any]:
    statements = {}
    for name, insert in _INSERTS.items():
        statement = insert(table)
        rest = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
        statements[name] = statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=rest)
    return statements


_PUT_STEPS: Final = _upsert(steps)
_PUT_WORKER: Final = _upsert(workers)
_FIND_RUN: Final = select(*rows.RUN_COLUMNS).where(runs.c.id == bindparam("run"))
_LOCK_RUN: Final = _FIND_RUN.with_for_update(key_share=True)


def _commit_statement(after: RunStatus | None) -> Update:
    """The compare-and-set of `commit`, for a new status or none: what may not be is in no row that it finds."""
    open_statuses = [status for status in RunStatus if not status.is_final]
    before = [status.value for status in open_statuses if after in (None, status) or is_run_transition(status, after)]
    last_seq = bindparam("to_seq", type_=BigInteger)
    is_news = runs.c.last_seq < last_seq
    values: dict[str, Any] = {
        "last_seq": case((is_news, last_seq), else_=runs.c.last_seq),
        "last_attempt": case((is_news, bindparam("to_attempt", type_=BigInteger)), else_=runs.c.last_attempt),
    }
    if after is not None:
        values |= _status_values(after)
    return (
        update(runs)
        .where(runs.c.id == bindparam("run"), runs.c.attempt == bindparam("fence"), runs.c.status.in_(before))
        .where(runs.c.last_seq >= bindparam("from_seq", type_=BigInteger) - 1)
        .values(values)
    )


def _status_values(after: RunStatus) -> dict[str, Any]:
    at = bindparam("at", type_=UtcTime)
    values: dict[str, Any] = {
        "status": after.value,
        "changed_at": at,
        "output": bindparam("new_output", type_=JsonText),
        "error": bindparam("new_error", type_=JsonText),
    }
    if after is RunStatus.RUNNING:
        values["started_at"] = func.coalesce(runs.c.started_at, at)
    if after is RunStatus.RETRYING:
        values["attempt"] = runs.c.attempt + 1  # whoever held the run is fenced from here on
    if after.is_final:
        values["ended_at"] = at
    return values


_NOW: Final = bindparam("now", type_=UtcTime)
_TOLD: Final = bindparam("told", type_=BigInteger)
_CLAIM_NEW: Final = (
    update(runs)
    .where(runs.c.id == bindparam("run"), runs.c.status == RunStatus.QUEUED.value, runs.c.attempt == 0)
    .values(
        status=RunStatus.RUNNING.value,
        attempt=1,
        last_attempt=case((_TOLD == 1, 1), else_=runs.c.last_attempt),
        last_seq=runs.c.last_seq + _TOLD,
        worker_id=bindparam("worker"),
        started_at=func.coalesce(runs.c.started_at, _NOW),
        changed_at=_NOW,
    )
)

_COMMIT: Final = {after: _commit_statement(after) for after in (None, *RunStatus)}


def create_run(connection: Connection, run: NewRun, first: LoggedEvent) -> tuple[Run, bool]:
    """See `RunStore.create_run`."""
    dialect = connection.dialect.name
    is_new = connection.execute(_ADD_RUN[dialect], rows.row_of_new(run, first)).rowcount == 1
    if is_new:
        if run.tags:
            connection.execute(_ADD_TAGS[dialect], [{"run_id": run.id, "tag": tag} for tag in run.tags])
        archive(connection, run.id, [first])
        return _find_run(connection, run.id), True
    return _known_run(connection, run), False


def claim_run(
    connection: Connection,
    run_id: str,
    worker_id: str,
    *,
    now: datetime,
    tell: Callable[[Run], LoggedEvent] | None = None,
) -> Claim | None:
    """See `RunStore.claim_run`. Fast path: a run that nobody has held yet is taken by one UPDATE that checks."""
    taken = {"run": run_id, "worker": worker_id, "now": now, "told": 0 if tell is None else 1}
    if connection.execute(_CLAIM_NEW, taken).rowcount == 1:
        run = _find_run(connection, run_id)
        if tell is None:
            return Claim(run, RunStatus.QUEUED)
        event = tell(run)
        archive(connection, run_id, [event])
        return Claim(run, RunStatus.QUEUED, event)
    return _claim_again(connection, run_id, worker_id, now=now)


def _claim_again(connection: Connection, run_id: str, worker_id: str, *, now: datetime) -> Claim | None:
    run = _lock_run(connection, run_id)
    if run is None or not _is_claimable(connection, run, worker_id, now=now):
        return None
    values = {
        "status": RunStatus.RUNNING.value,
        "attempt": run.attempt if run.status is RunStatus.RETRYING else run.attempt + 1,
        "worker_id": worker_id,
        "started_at": run.started_at or now,
        "changed_at": now,
    }
    return Claim(_change_run(connection, run_id, values), run.status)


def commit(connection: Connection, commit: Commit) -> None:
    """See `RunStore.commit`. Fast path: one UPDATE that checks and changes, one INSERT of all the events."""
    change = commit.change
    parameters = {"run": commit.run_id, "fence": commit.attempt, **_span(commit.events)}
    if change is not None:
        parameters |= rows.parameters_of(change)
    if connection.execute(_COMMIT[change.status if change else None], parameters).rowcount == 0:
        _explain_refusal(connection, commit)
        return
    archive(connection, commit.run_id, commit.events)
    if commit.steps:
        connection.execute(_PUT_STEPS[connection.dialect.name], _step_rows(commit.steps))


def cancel_unheld(
    connection: Connection, run_id: str, event: Callable[[Run], LoggedEvent], *, now: datetime
) -> Run | None:
    """See `RunStore.cancel_unheld`."""
    run = _lock_run(connection, run_id)
    if run is None or run.status not in CANCELED_AT_ONCE:
        return None
    last = event(run)
    archive(connection, run_id, [last])
    values = {
        "status": RunStatus.CANCELED.value,
        "last_attempt": last.cursor.attempt,
        "last_seq": last.cursor.seq,
        "cancel_requested_at": run.cancel_requested_at or now,
        "ended_at": now,
        "changed_at": now,
    }
    return _change_run(connection, run_id, values)


def request_cancel(connection: Connection, run_id: str, *, now: datetime) -> Run | None:
    """See `RunStore.request_cancel`. Asking again keeps the time of the first request."""
    run = _lock_run(connection, run_id)
    if run is None or run.status not in HELD_BY_WORKER:
        return None
    return _change_run(connection, run_id, {"cancel_requested_at": run.cancel_requested_at or now})


def take_from_dead(
    connection: Connection, run_id: str, decide: Callable[[Run], tuple[StatusChange, LoggedEvent]], *, now: datetime
) -> Run | None:
    """See `RunStore.take_from_dead`."""
    run = _lock_run(connection, run_id)
    if run is None or run.status not in HELD_BY_WORKER or _is_led(connection, run, now=now):
        return None
    change, event = decide(run)
    archive(connection, run_id, [event])
    values = {
        "status": change.status.value,
        "attempt": event.cursor.attempt,
        "last_attempt": event.cursor.attempt,
        "last_seq": event.cursor.seq,
        "error": rows.row_of_error(change.error),
        "worker_id": None,
        "ended_at": now if change.status.is_final else None,
        "changed_at": now,
    }
    if change.status.is_final:
        cut_short = {"status": StepStatus.CANCELED.value, "ended_at": now}
        is_open = (steps.c.run_id == run_id) & (steps.c.status == StepStatus.RUNNING.value)
        connection.execute(update(steps).where(is_open).values(cut_short))
    return _change_run(connection, run_id, values)


def renew_lease(connection: Connection, worker_id: str, *, until: datetime) -> Sequence[str]:
    """See `RunStore.renew_lease`. Rows of workers long dead go: no row says the same as a lease that has run out."""
    connection.execute(_PUT_WORKER[connection.dialect.name], {"id": worker_id, "lease_until": until})
    connection.execute(delete(workers).where(workers.c.lease_until < until - _FORGET_WORKERS_AFTER))
    is_asked = runs.c.status.in_(_values(HELD_BY_WORKER)) & runs.c.cancel_requested_at.is_not(None)
    return connection.execute(select(runs.c.id).where(runs.c.worker_id == worker_id, is_asked)).scalars().all()


def end_lease(connection: Connection, worker_id: str) -> None:
    """See `RunStore.end_lease`."""
    connection.execute(delete(workers).where(workers.c.id == worker_id))


def _known_run(connection: Connection, run: NewRun) -> Run:
    is_same = runs.c.id == run.id
    is_known = is_same | (runs.c.idempotency_key == run.idempotency_key) if run.idempotency_key else is_same
    # Should the id be one run's and the key another's, the id is the closer name.
    found = select(*rows.RUN_COLUMNS).where(is_known).order_by(case((is_same, 0), else_=1)).limit(1)
    return rows.run_of(connection.execute(found).one())


def _find_run(connection: Connection, run_id: str) -> Run:
    return rows.run_of(connection.execute(_FIND_RUN, {"run": run_id}).one())


def _lock_run(connection: Connection, run_id: str) -> Run | None:
    """The run, kept from other writers until the transaction ends. (SQLite's writer has locked everything.)"""
    row = connection.execute(_LOCK_RUN, {"run": run_id}).one_or_none()
    return None if row is None else rows.run_of(row)


def _change_run(connection: Connection, run_id: str, values: Mapping[str, Any]) -> Run:
    connection.execute(update(runs).where(runs.c.id == run_id).values(values))
    return _find_run(connection, run_id)


def _is_claimable(connection: Connection, run: Run, worker_id: str, *, now: datetime) -> bool:
    if run.status not in HELD_BY_WORKER:
        return not run.status.is_final
    return run.worker_id == worker_id or not _is_led(connection, run, now=now)


def _is_led(connection: Connection, run: Run, *, now: datetime) -> bool:
    """Whether the worker that holds the run lives."""
    lease = select(workers.c.id).where(workers.c.id == run.worker_id, workers.c.lease_until > now)
    return connection.execute(lease).first() is not None


def _span(logged: Sequence[LoggedEvent]) -> dict[str, int]:
    """From where to where the events reach; without events, nowhere that could raise `last` or leave a hole."""
    if not logged:
        return {"from_seq": 0, "to_seq": 0, "to_attempt": 0}
    first, last = logged[0].cursor, logged[-1].cursor
    if last.seq - first.seq != len(logged) - 1:
        raise IllegalCommitError(f"{len(logged)} events can't reach from seq {first.seq} to {last.seq} without a hole")
    return {"from_seq": first.seq, "to_seq": last.seq, "to_attempt": last.attempt}


def _explain_refusal(connection: Connection, commit: Commit) -> None:
    """Why the compare-and-set found no row. Returns if it is because the very same commit took place before."""
    run = _lock_run(connection, commit.run_id)
    if run is not None and commit.change is not None and _is_repeated(connection, commit, commit.change, run):
        return
    if run is None or run.status.is_final or run.attempt != commit.attempt:
        raise StaleAttemptError(commit.run_id, commit.attempt)
    if commit.events and commit.events[0].cursor.seq > run.last.seq + 1:
        raise IllegalCommitError(f"the archive of run {run.id} ends at {run.last}: the events given leave a hole")
    raise IllegalCommitError(f"run {run.id} is {run.status}: it can't become {commit.change and commit.change.status}")


def _is_repeated(connection: Connection, commit: Commit, change: StatusChange, run: Run) -> bool:
    """Whether this commit ended its attempt before: its answer was lost, and the caller asks again."""
    if run.status is not change.status or not commit.events or commit.events[-1].cursor != run.last:
        return False
    last = select(events.c.body).where(events.c.run_id == run.id, events.c.seq == run.last.seq)
    return bool(connection.execute(last).scalar_one() == commit.events[-1].raw)


def _step_rows(given: Sequence[Step]) -> list[dict[str, Any]]:
    return [rows.row_of_step(step) for step in given]


def _values(statuses: frozenset[RunStatus]) -> list[str]:
    return sorted(status.value for status in statuses)
