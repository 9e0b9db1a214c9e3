"""How a run is canceled: at once if nobody holds it, else by asking its holder."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection

from runcast.backends.sql.archive import archive
from runcast.backends.sql.writing import change_run, cut_steps_short, lock_run
from runcast.core.lifecycle import CANCELED_AT_ONCE, is_held, is_parked
from runcast.events import LoggedEvent, RunStatus
from runcast.records import Run


def cancel_unheld(
    connection: Connection, run_id: str, event: Callable[[Run], LoggedEvent], *, now: datetime
) -> Run | None:
    """See `RunStore.cancel_unheld`."""
    run = lock_run(connection, run_id)
    if run is None or not (run.status in CANCELED_AT_ONCE or is_parked(run.status, run.worker_id)):
        return None
    last = event(run)
    archive(connection, run_id, [last])
    cut_steps_short(connection, run_id, now=now)
    values = {
        "status": RunStatus.CANCELED.value,
        "last_attempt": last.cursor.attempt,
        "last_seq": last.cursor.seq,
        "cancel_requested_at": run.cancel_requested_at or now,
        "due_at": None,
        "ended_at": now,
        "changed_at": now,
    }
    return change_run(connection, run_id, values)


def request_cancel(connection: Connection, run_id: str, *, now: datetime) -> Run | None:
    """See `RunStore.request_cancel`. Asking again keeps the time of the first request."""
    run = lock_run(connection, run_id)
    if run is None or not is_held(run.status, run.worker_id):
        return None
    return change_run(connection, run_id, {"cancel_requested_at": run.cancel_requested_at or now})
