"""Several processes sweep the same database."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runcast import Runcast
from runcast.assembly import migrate, open_parts, utc_now
from runcast.config import Settings
from runcast.events import START
from runcast.services.runs import RunRequest
from runcast.services.sweeper import Sweeper

SWEEPERS = 4
RUNS = 20


async def test_what_many_sweepers_find_at_once_one_takes(redis_url: str, tmp_path: Path) -> None:
    """Every gateway and worker sweeps: a run of a dead worker gets one attempt more and one event, not one each."""
    settings = Settings.load(redis_url=redis_url, data_dir=tmp_path)
    await migrate(settings)
    async with AsyncExitStack() as opened:
        parts = [await opened.enter_async_context(open_parts(settings, Runcast())) for _ in range(SWEEPERS)]
        one = parts[0]
        run_ids = [(await one.runs.create(RunRequest(prompt="wait 1 second")))[0].id for _ in range(RUNS)]
        for run_id in run_ids:
            assert await one.store.claim_run(run_id, "dead", now=datetime.now(UTC)) is not None
        sweepers = [
            Sweeper(
                store=each.store, log=each.log, queue=each.queue, clock=utc_now, interval_seconds=60, max_attempts=3
            )
            for each in parts
        ]
        await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))
        for run_id in run_ids:
            run = await one.store.get_run(run_id)
            assert run is not None
            assert (run.status, run.attempt) == ("retrying", 2)
            events = await one.store.read_events(run_id, START, limit=10)
            assert [event.status for event in events] == ["queued", "retrying"]
            assert list(await one.log.read(run_id, START, limit=10))[-1:] == list(events[-1:])


class CountingStore:
    """A store that counts what it is asked."""

    def __init__(self, store: object) -> None:
        self._store = store
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        self.asked[name] += 1
        method: Callable[..., Any] = getattr(self._store, name)
        return method


async def test_a_backlog_costs_a_sweep_one_query(redis_url: str, tmp_path: Path) -> None:
    """However many runs wait for a worker that isn't there."""
    settings = Settings.load(redis_url=redis_url, data_dir=tmp_path)
    await migrate(settings)
    async with open_parts(settings, Runcast()) as parts:
        for _ in range(RUNS):
            await parts.runs.create(RunRequest(prompt="wait 1 second"))
        store: Any = CountingStore(parts.store)
        sweeper = Sweeper(
            store=store, log=parts.log, queue=parts.queue, clock=utc_now, interval_seconds=0, max_attempts=3
        )
        assert await sweeper.sweep() == RUNS
        assert store.asked == {"list_unattended": 1}
