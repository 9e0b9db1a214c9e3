"""Who holds a run: how a worker takes it, how it is taken from a dead one, and the leases that tell them apart."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, case, delete, exists, func, select, update

from runcast.backends.sql import rows
from runcast.backends.sql.archive import archive
from runcast.backends.sql.limits import is_full
from runcast.backends.sql.requests import due_when_parked, is_answered
from runcast.backends.sql.schema import UtcTime, requests, runs, workers
from runcast.backends.sql.statement import Statement, any_of
from runcast.backends.sql.writing import change_run, cut_steps_short, is_led, lock_run, read_run, upsert
from runcast.core.lifecycle import HELD_BY_WORKER, PARKABLE, is_held
from runcast.events import LoggedEvent, RunStatus
from runcast.records import Attention, Claim, Run, StatusChange

_FORGET_WORKERS_AFTER: Final = timedelta(days=1)
_PUT_WORKER: Final = upsert(workers)
_FORGET_WORKERS: Final = Statement(delete(workers).where(workers.c.lease_until < bindparam("before")))
_FORGET_WORKER: Final = Statement(delete(workers).where(workers.c.id == bindparam("worker")))


def _list_held(condition: ColumnElement[bool]) -> Statement:
    is_held_by = runs.c.worker_id == bindparam("worker")
    return Statement(select(runs.c.id).where(is_held_by, any_of(runs.c.status, HELD_BY_WORKER), condition))


_LIST_CANCELED: Final = _list_held(runs.c.cancel_requested_at.is_not(None))
_LIST_ANSWERED: Final = _list_held(exists().where(requests.c.run_id == runs.c.id, is_answered()))

_NOW: Final = bindparam("now", type_=UtcTime)
_TOLD: Final = bindparam("told", type_=BigInteger)
_CLAIM_NEW: Final = Statement(
    update(runs)
    .where(runs.c.id == bindparam("run"), runs.c.status == RunStatus.QUEUED.value, runs.c.attempt == 0)
    .where(runs.c.concurrency_key.is_(None))
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

Tell = Callable[[Run], LoggedEvent]
Decide = Callable[[Run], tuple[StatusChange, LoggedEvent | None]]


def claim_run(
    connection: Connection, run_id: str, worker_id: str, *, now: datetime, tell: Tell | None = None
) -> Claim | None:
    """See `RunStore.claim_run`. Fast path: a run without a limit that nobody has held is taken by one UPDATE."""
    taken = {"run": run_id, "worker": worker_id, "now": now, "told": 0 if tell is None else 1}
    if _CLAIM_NEW.run(connection, taken) == 1:
        return _told(connection, read_run(connection, run_id), RunStatus.QUEUED, tell)
    run = lock_run(connection, run_id)
    if run is None or not _is_claimable(connection, run, worker_id, now=now):
        return None
    values = _values_of_claim(run, worker_id, now=now)
    if run.attempt > 0:
        return Claim(change_run(connection, run_id, values), run.status)
    if tell is not None:
        values |= {"last_attempt": 1, "last_seq": run.last.seq + 1}
    return _told(connection, change_run(connection, run_id, values), run.status, tell)


def take_from_dead(connection: Connection, run_id: str, decide: Decide, *, now: datetime) -> Run | None:
    """See `RunStore.take_from_dead`."""
    run = lock_run(connection, run_id)
    if run is None or not is_held(run.status, run.worker_id) or is_led(connection, run, now=now):
        return None
    change, event = decide(run)
    if change.is_parked:
        due_at = due_when_parked(connection, run, planned=change.due_at, now=now)
        return change_run(connection, run_id, {"worker_id": None, "due_at": due_at})
    assert event is not None, "a change of status is told"  # noqa: S101 - a bug, not input
    archive(connection, run_id, [event])
    if change.status.is_final:
        cut_steps_short(connection, run_id, now=now)
    return change_run(connection, run_id, _values_of_loss(run, change, event, now=now))


def renew_lease(connection: Connection, worker_id: str, *, until: datetime) -> Attention:
    """See `RunStore.renew_lease`. Rows of workers long dead go: no row says the same as a lease that has run out."""
    _PUT_WORKER.run(connection, {"id": worker_id, "lease_until": until})
    _FORGET_WORKERS.run(connection, {"before": until - _FORGET_WORKERS_AFTER})
    canceled, answered = (listed.all(connection, {"worker": worker_id}) for listed in (_LIST_CANCELED, _LIST_ANSWERED))
    return Attention(canceled=[run_id for (run_id,) in canceled], answered=[run_id for (run_id,) in answered])


def end_lease(connection: Connection, worker_id: str) -> None:
    """See `RunStore.end_lease`."""
    _FORGET_WORKER.run(connection, {"worker": worker_id})


def _told(connection: Connection, run: Run, previous: RunStatus, tell: Tell | None) -> Claim:
    if tell is None:
        return Claim(run, previous)
    event = tell(run)
    archive(connection, run.id, [event])
    return Claim(run, previous, event)


def _is_claimable(connection: Connection, run: Run, worker_id: str, *, now: datetime) -> bool:
    if run.status.is_final:
        return False
    if is_held(run.status, run.worker_id):
        return run.worker_id == worker_id or not is_led(connection, run, now=now)
    if run.attempt == 0 and run.limit is not None and is_full(connection, run.limit):
        return False
    return run.due_at <= now if run.due_at is not None else run.status not in PARKABLE


def _values_of_claim(run: Run, worker_id: str, *, now: datetime) -> dict[str, Any]:
    # Whoever dies while the run waits loses nothing of it: the sweeper would have parked it.
    is_loss = is_held(run.status, run.worker_id) and run.status not in PARKABLE
    return {
        "status": RunStatus.RUNNING.value,
        "attempt": run.attempt if run.status is RunStatus.RETRYING else run.attempt + 1,
        "worker_id": worker_id,
        "started_at": run.started_at or now,
        "changed_at": now,
        "due_at": None,
        "losses": run.losses + is_loss,
    }


def _values_of_loss(run: Run, change: StatusChange, event: LoggedEvent, *, now: datetime) -> dict[str, Any]:
    return {
        "status": change.status.value,
        "attempt": event.cursor.attempt,
        "last_attempt": event.cursor.attempt,
        "last_seq": event.cursor.seq,
        "error": rows.row_of_error(change.error),
        "worker_id": None,
        "due_at": change.due_at,
        "losses": run.losses + 1,
        "ended_at": now if change.status.is_final else None,
        "changed_at": now,
    }
