"""What the holder of a run writes of it: one attempt's events, with the state that they tell of."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Text,
    Update,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    update,
)

from runcast.backends.sql import rows
from runcast.backends.sql.archive import archive
from runcast.backends.sql.requests import put_requests, wake_if_answered
from runcast.backends.sql.schema import JsonText, UtcTime, events, memos, runs, steps
from runcast.backends.sql.writing import lock_run, upsert
from runcast.core.lifecycle import PARKABLE, is_parked, is_run_transition
from runcast.errors import IllegalCommitError, StaleAttemptError
from runcast.events import LoggedEvent, RunStatus
from runcast.records import Commit, Run, StatusChange

_PUT_STEPS: Final = upsert(steps)
_PUT_MEMOS: Final = upsert(memos)


def _commit_statement(after: RunStatus | None, *, parks: bool = False) -> Update:
    """The compare-and-set of `commit`, for a new status or none: what may not be is in no row that it finds."""
    open_statuses = [status for status in RunStatus if not status.is_final]
    before = _words(status for status in open_statuses if after in (None, status) or is_run_transition(status, after))
    last_seq = bindparam("to_seq", type_=BigInteger)
    is_news = runs.c.last_seq < last_seq
    values: dict[str, Any] = {
        "last_seq": case((is_news, last_seq), else_=runs.c.last_seq),
        "last_attempt": case((is_news, bindparam("to_attempt", type_=BigInteger)), else_=runs.c.last_attempt),
    }
    if after is not None:
        values |= _status_values(after)
    if parks:
        values["worker_id"] = None
    # Nobody holds a parked run, so nobody may write for it.
    is_anybodys = or_(runs.c.worker_id.is_not(None), runs.c.status.not_in(_words(PARKABLE)))
    return (
        update(runs)
        .where(runs.c.id == bindparam("run"), runs.c.attempt == bindparam("fence"), runs.c.status.in_(before))
        .where(runs.c.last_seq >= bindparam("from_seq", type_=BigInteger) - 1, is_anybodys)
        .values(values)
    )


def _words(statuses: Iterable[RunStatus]) -> list[ColumnElement[str]]:
    """The statuses as the statement itself has them: a list of parameters would be put into its text at each call,
    which takes longer than all the rest of it.
    """
    return [literal_column(f"'{status.value}'", Text) for status in sorted(statuses)]


def _status_values(after: RunStatus) -> dict[str, Any]:
    at = bindparam("at", type_=UtcTime)
    values: dict[str, Any] = {
        "status": after.value,
        "changed_at": at,
        "output": bindparam("new_output", type_=JsonText),
        "error": bindparam("new_error", type_=JsonText),
        "due_at": None,
    }
    if after is RunStatus.RUNNING:
        values["started_at"] = func.coalesce(runs.c.started_at, at)
    if after is RunStatus.RETRYING:
        values["attempt"] = runs.c.attempt + 1  # whoever held the run is fenced from here on
        values["worker_id"] = None
        values["failures"] = runs.c.failures + bindparam("failed", type_=BigInteger)
    if after in _WAITING:
        values["due_at"] = bindparam("due", type_=UtcTime)
    if after.is_final:
        values["ended_at"] = at
    return values


_WAITING: Final = PARKABLE | {RunStatus.RETRYING}
_COMMIT: Final = {after: _commit_statement(after) for after in (None, *RunStatus)}
_PARK: Final = {after: _commit_statement(after, parks=True) for after in PARKABLE}


def commit(connection: Connection, commit: Commit) -> None:
    """See `RunStore.commit`. Fast path: one UPDATE that checks and changes, one INSERT of all the events."""
    change = commit.change
    parameters = {"run": commit.run_id, "fence": commit.attempt, **_span(commit.events)}
    if change is not None:
        parameters |= _parameters_of(change)
    if connection.execute(_statement_for(change), parameters).rowcount == 0:
        _explain_refusal(connection, commit)
        return
    archive(connection, commit.run_id, commit.events)
    dialect = connection.dialect.name
    if commit.steps:
        connection.execute(_PUT_STEPS[dialect], [rows.row_of_step(step) for step in commit.steps])
    if commit.memos:
        values = [{"run_id": commit.run_id, "key": memo.key, "value": memo.value} for memo in commit.memos]
        connection.execute(_PUT_MEMOS[dialect], values)
    if commit.requests:
        put_requests(connection, commit.requests)
    if change is not None and (change.is_parked or change.status is RunStatus.RETRYING):
        wake_if_answered(connection, commit.run_id, now=change.at)


def _statement_for(change: StatusChange | None) -> Update:
    if change is None:
        return _COMMIT[None]
    if not change.is_parked:
        return _COMMIT[change.status]
    if change.status not in _PARK:
        raise IllegalCommitError(f"a run can't be parked as {change.status}")
    return _PARK[change.status]


def _parameters_of(change: StatusChange) -> dict[str, Any]:
    parameters = rows.parameters_of(change)
    if change.status in _WAITING:
        parameters["due"] = change.due_at
    if change.status is RunStatus.RETRYING:
        parameters["failed"] = int(change.is_failure)
    return parameters


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
    run = lock_run(connection, commit.run_id)
    if run is not None and commit.change is not None and _is_repeated(connection, commit, commit.change, run):
        return
    if run is None or run.status.is_final or run.attempt != commit.attempt or is_parked(run.status, run.worker_id):
        raise StaleAttemptError(commit.run_id, commit.attempt)
    if commit.events and commit.events[0].cursor.seq > run.last.seq + 1:
        raise IllegalCommitError(f"the archive of run {run.id} ends at {run.last}: the events given leave a hole")
    raise IllegalCommitError(f"run {run.id} is {run.status}: it can't become {commit.change and commit.change.status}")


def _is_repeated(connection: Connection, commit: Commit, change: StatusChange, run: Run) -> bool:
    """Whether this commit ended its attempt before: its answer was lost, and the caller asks again."""
    if run.status is not change.status:
        return False
    if not commit.events:
        return change.is_parked and run.worker_id is None and run.attempt == commit.attempt
    if commit.events[-1].cursor != run.last:
        return False
    last = select(events.c.body).where(events.c.run_id == run.id, events.c.seq == run.last.seq)
    return bool(connection.execute(last).scalar_one() == commit.events[-1].raw)
