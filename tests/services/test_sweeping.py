"""Several processes sweep the same database."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from runcast import Runcast
from runcast.assembly import migrate, open_parts, utc_now
from runcast.config import Settings
from runcast.events import START, RequestKind, RunStatus
from runcast.records import Commit, Memo, Request, StatusChange
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


async def test_a_waiting_run_of_a_dead_worker_is_parked_without_a_word(redis_url: str, tmp_path: Path) -> None:
    """It is due when the first of its sleeps ends, or at once if it was answered; no loss is counted, nothing told."""
    settings = Settings.load(redis_url=redis_url, data_dir=tmp_path)
    await migrate(settings)
    async with open_parts(settings, Runcast()) as parts:
        now = datetime.now(UTC)
        ends = now + timedelta(hours=1)
        run_ids = [(await parts.runs.create(RunRequest(prompt="wait 1 second")))[0].id for _ in range(2)]
        for run_id in run_ids:
            claim = await parts.store.claim_run(run_id, "dead", now=now)
            assert claim is not None
            asked = Request(run_id=run_id, id="request-1", kind=RequestKind.INPUT, prompt="?", schema={}, asked_at=now)
            waiting = StatusChange(status=RunStatus.AWAITING_INPUT, at=now)
            memo = Memo("sleep:1", {"until": ends.isoformat()})
            await parts.store.commit(
                Commit(run_id=run_id, attempt=1, events=[], change=waiting, requests=[asked], memos=[memo])
            )
        await parts.runs.answer(run_ids[1], None, "yes")
        sweeper = Sweeper(
            store=parts.store, log=parts.log, queue=parts.queue, clock=utc_now, interval_seconds=60, max_attempts=1
        )
        assert await sweeper.sweep() == 2
        parked, answered = [await parts.store.get_run(run_id) for run_id in run_ids]
        assert parked is not None
        assert answered is not None
        assert (parked.status, parked.worker_id, parked.losses, parked.attempt) == ("awaiting_input", None, 0, 1)
        assert parked.due_at == ends
        assert answered.due_at is not None
        assert answered.due_at <= utc_now()
        for run_id in run_ids:
            assert [event.status for event in await parts.store.read_events(run_id, START, limit=9)] == ["queued"]
        assert await sweeper.sweep() == 0


async def test_losses_decide_not_attempts(redis_url: str, tmp_path: Path) -> None:
    """A run that has been parked many times survives the loss of a worker as any other."""
    settings = Settings.load(redis_url=redis_url, data_dir=tmp_path)
    await migrate(settings)
    async with open_parts(settings, Runcast()) as parts:
        run_id = (await parts.runs.create(RunRequest(prompt="wait 1 second")))[0].id
        now = datetime.now(UTC)
        for attempt in range(1, 6):
            assert await parts.store.claim_run(run_id, "dead", now=now) is not None
            parking = StatusChange(status=RunStatus.DELAYED, at=now, due_at=now, is_parked=True)
            await parts.store.commit(Commit(run_id=run_id, attempt=attempt, events=[], change=parking))
        sweeper = Sweeper(
            store=parts.store, log=parts.log, queue=parts.queue, clock=utc_now, interval_seconds=60, max_attempts=2
        )
        found = []
        for _ in range(2):
            assert await parts.store.claim_run(run_id, "dead", now=now) is not None
            await sweeper.sweep()
            run = await parts.store.get_run(run_id)
            assert run is not None
            found.append((run.status, run.losses, run.error and run.error.message))
        assert found == [("retrying", 1, None), ("failed", 2, "its worker was lost 2 times")]
