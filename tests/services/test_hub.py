"""The hub: how it joins runs, and how it ends."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from runcast.assembly import utc_now
from runcast.errors import UnavailableError
from runcast.events import START, Cursor, RunStatus
from runcast.records import Head, LinkState
from runcast.services.heads import HeadReader
from runcast.services.hub import RunHub


class HangingStore:
    """Never answers, and says when it is asked."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()

    async def read_heads(self, _run_ids: Sequence[str]) -> Any:
        self.is_asked.set()
        await asyncio.Event().wait()

    def get_stats(self) -> LinkState:
        return LinkState(channels=0, handlers=0, connected=True)

    def on_gap(self, _handler: object) -> Any:
        return lambda: None

    def on_batch(self, _handler: object) -> Any:
        return lambda: None


async def test_joins_under_way_end_with_the_hub() -> None:
    """Whoever waits for one is told so, as an error of ours; no task stays behind."""
    before = asyncio.all_tasks()
    store: Any = HangingStore()
    hub = RunHub(log=store, store=store, clock=utc_now, tail_bytes=1024, heartbeat_seconds=5, poll_seconds=5)
    hub.start()

    async def watch() -> None:
        async with hub.watch("abc", after=START):
            pass

    watching = asyncio.create_task(watch())
    await store.is_asked.wait()
    await hub.close()
    with pytest.raises(UnavailableError, match="stops"):
        async with asyncio.timeout(10):
            await watching
    assert asyncio.all_tasks() == before


class CountingStore(HangingStore):
    """Answers, and counts the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[Sequence[str]] = []

    async def read_heads(self, run_ids: Sequence[str]) -> Any:
        self.queries.append(run_ids)
        await asyncio.sleep(0)
        if "broken" in run_ids:
            raise UnavailableError("the database is away")
        return {run_id: Head(Cursor(1, 7), RunStatus.DONE) for run_id in run_ids if run_id != "unknown"}


async def test_runs_that_are_joined_together_cost_one_query() -> None:
    """A thousand pages that come back to a new gateway don't ask for their runs one by one."""
    store: Any = CountingStore()
    heads = HeadReader(store)
    names = [f"run-{number}" for number in range(50)] + ["unknown"]
    first = asyncio.gather(*[heads.read(name) for name in [*names, *names]])
    await asyncio.sleep(0)
    later = asyncio.create_task(heads.read("run-0"))  # what was asked before may be older than this question
    found = dict(zip(names, await first, strict=False))
    assert found.pop("unknown") is None
    assert set(found.values()) == {Head(Cursor(1, 7), RunStatus.DONE)} == {await later}
    assert store.queries == [names, ["run-0"]]


async def test_a_query_that_fails_fails_for_all_who_wait_and_leaves_nothing_behind() -> None:
    """One who gives up doesn't take the others along; the next question is asked anew."""
    store: Any = CountingStore()
    heads, before = HeadReader(store), asyncio.all_tasks()
    impatient, patient = (asyncio.create_task(heads.read(name)) for name in ("other", "broken"))
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(UnavailableError, match="away"):
        await patient
    assert await heads.read("other") is not None
    await heads.close()
    assert asyncio.all_tasks() == before
