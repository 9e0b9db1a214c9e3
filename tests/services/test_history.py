"""History: what two tiers give together, when one of them has lost something."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runcast.backends.redis_client import open_redis
from runcast.backends.redis_log import RedisPubSubService
from runcast.backends.sql import SqlRunStore, migrate, open_store
from runcast.events import START, UNKNOWN_ATTEMPT, Cursor, LoggedEvent, RunEvent, log_event
from runcast.records import Commit, NewRun
from runcast.services.history import MAX_BYTES_PER_READ, History, RunReader

RUN = "abc"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def event(attempt: int, seq: int, *, size: int = 1) -> LoggedEvent:
    ts = "2026-01-01T00:00:00.000Z"
    return log_event(RunEvent(type="log", payload={"text": "x" * size}, ts=ts, run_id=RUN, seq=seq, attempt=attempt))


@pytest.fixture
async def log(redis_url: str) -> AsyncIterator[RedisPubSubService]:
    client = open_redis(redis_url)
    service = RedisPubSubService(client, retention_seconds=60, max_events=100_000)
    await service.start()
    yield service
    await service.close()
    await client.aclose()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlRunStore]:
    url = f"sqlite:///{tmp_path}/runs.db"
    await migrate(url)
    store = await open_store(url)
    await store.create_run(NewRun(id=RUN, runner="r", input={}, created_at=NOW), event(0, 1))
    yield store
    await store.close()


async def claim(store: SqlRunStore, attempt: int) -> None:
    claimed = await store.claim_run(RUN, f"worker-{attempt}", now=NOW)
    assert claimed is not None
    assert claimed.run.attempt == attempt


async def read_all(history: History, after: Cursor = START) -> list[Cursor]:
    reader, found = RunReader(history, RUN), list[Cursor]()
    while page := await reader.read(found[-1] if found else after):
        found += [each.cursor for each in page]
    return found


async def test_events_that_were_taken_back_are_not_taken_for_the_run(
    log: RedisPubSubService, store: SqlRunStore
) -> None:
    """Redis still has what attempt 1 wrote last, and lacks how attempt 2 began: only the archive tells."""
    await log.append(RUN, [event(0, 1), *(event(1, seq) for seq in range(2, 9))])
    await claim(store, 1)
    await store.commit(Commit(run_id=RUN, attempt=1, events=[event(1, seq) for seq in range(2, 6)]))
    await claim(store, 2)
    await store.commit(Commit(run_id=RUN, attempt=2, events=[event(2, 6)]))
    await log.fence(RUN, 2, floor=6)
    await log.append(RUN, [event(2, 7), event(2, 8)])
    history = History(log=log, store=store)
    saw_lost = await read_all(history, Cursor(1, 5))
    assert saw_lost[-1:] != [Cursor(2, 8)] or Cursor(2, 6) in saw_lost
    await store.commit(Commit(run_id=RUN, attempt=2, events=[event(2, 7), event(2, 8)]))
    for start in (START, Cursor(1, 5), Cursor(1, 8), Cursor(UNKNOWN_ATTEMPT, 5)):
        found = await read_all(history, start)
        assert found[-3:] == [Cursor(2, 6), Cursor(2, 7), Cursor(2, 8)]


async def test_a_page_is_bounded_in_bytes_and_pages_grow_with_small_events(
    log: RedisPubSubService, store: SqlRunStore
) -> None:
    """Large events come one or two at a time; small ones soon by the hundred."""
    history = History(log=log, store=store)
    large = [event(1, seq, size=200_000) for seq in range(2, 20)]
    await log.append(RUN, [event(0, 1)])
    await log.append(RUN, large)
    await log.append(RUN, [event(1, seq) for seq in range(20, 3_000)])
    reader, cursor, sizes = RunReader(history, RUN), START, []
    await claim(store, 1)
    await store.commit(Commit(run_id=RUN, attempt=1, events=large[:1]))
    while page := await reader.read(cursor):
        assert len(page) == 1 or sum(len(each.raw) for each in page) <= MAX_BYTES_PER_READ
        sizes.append(len(page))
        cursor = page[-1].cursor
    assert cursor == Cursor(1, 2_999)
    assert max(sizes) == 500
