"""Stands in for a worker: runs that are created, claimed and leased, whose events the load will write."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Final

from runcast.backends.sql.store import SqlRunStore, open_store
from runcast.events import EventType, LoggedEvent, RunEvent, RunStatus, format_ts, log_event
from runcast.records import NewRun

_WORKER: Final = "bench"
_LEASE: Final = timedelta(days=1)
_AT_ONCE: Final = 500  # they share commits


async def create_held_runs(database_url: str, count: int) -> dict[str, bytes]:
    """So many new runs, held by a worker that lives: nobody executes or takes them. Their first events by id."""
    store = await open_store(database_url)
    first_events: dict[str, bytes] = {}
    try:
        await store.renew_lease(_WORKER, until=datetime.now(UTC) + _LEASE)
        for start in range(0, count, _AT_ONCE):
            some = [_create_held_run(store) for _ in range(min(_AT_ONCE, count - start))]
            first_events |= dict(await asyncio.gather(*some))
    finally:
        await store.close()
    return first_events


async def _create_held_run(store: SqlRunStore) -> tuple[str, bytes]:
    run_id, now = uuid.uuid4().hex, datetime.now(UTC)
    first = _describe_queued(run_id, now)
    await store.create_run(NewRun(id=run_id, runner="prompt", input={"prompt": "bench"}, created_at=now), first)
    await store.claim_run(run_id, _WORKER, now=now)
    return run_id, first.raw


def _describe_queued(run_id: str, now: datetime) -> LoggedEvent:
    event = RunEvent(
        type=EventType.RUN_STATUS,
        payload={"status": RunStatus.QUEUED},
        ts=format_ts(now),
        run_id=run_id,
        seq=1,
        attempt=0,
    )
    return log_event(event)
