"""The hub's end."""

import asyncio
from typing import Any

import pytest

from runcast.assembly import utc_now
from runcast.errors import UnavailableError
from runcast.events import START
from runcast.records import LinkState
from runcast.services.hub import RunHub


class HangingStore:
    """Never answers, and says when it is asked."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()

    async def get_run(self, _run_id: str) -> None:
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
