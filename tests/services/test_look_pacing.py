"""The lookout: many quiet runs are asked for in small looks, spread over time; after a gap all at once."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest

from runcast.events import START, Cursor
from runcast.ports import RunLog, RunStore
from runcast.records import LinkState
from runcast.services.lookout import MAX_RUNS_PER_LOOK, Lookout

LOOKS = 5


class QuietRun:
    """Never heard of."""

    is_over = False

    def is_look_due(self) -> bool:
        return True

    def receive_last(self, last: Cursor) -> None:
        """Nothing new."""

    def tick(self) -> None:
        """No heartbeats."""


class AskedLog:
    """Notes how many runs it is asked for, and when."""

    def __init__(self) -> None:
        self.looks: list[tuple[float, int]] = []
        self.tell_gap: Callable[[], None] = lambda: None
        self.changed = asyncio.Event()

    def get_stats(self) -> LinkState:
        return LinkState(channels=0, handlers=0, connected=True)

    def on_gap(self, handler: Callable[[], None]) -> Callable[[], None]:
        self.tell_gap = handler
        return lambda: None

    async def read_last(self, run_ids: Sequence[str]) -> Sequence[Cursor]:
        self.looks.append((asyncio.get_running_loop().time(), len(run_ids)))
        self.changed.set()
        return [START] * len(run_ids)

    async def wait_for(self, count: int) -> list[tuple[float, int]]:
        async with asyncio.timeout(10):
            while len(self.looks) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.looks[:count]


class EmptyStore:
    """Knows none of the runs."""

    async def read_heads(self, _run_ids: Sequence[str]) -> Mapping[str, Any]:
        return {}


@pytest.fixture
async def log() -> AskedLog:
    return AskedLog()


async def start_lookout(log: AskedLog, heartbeat_seconds: float) -> Lookout:
    runs = {f"r{number}": QuietRun() for number in range(LOOKS * MAX_RUNS_PER_LOOK)}
    lookout = Lookout(
        log=cast("RunLog", log),
        store=cast("RunStore", EmptyStore()),
        heartbeat_seconds=heartbeat_seconds,
        poll_seconds=0.1,
    )
    for run_id, run in runs.items():
        lookout.add(run_id, run)
    lookout.start()
    return lookout


async def test_the_looks_of_a_round_are_spread_over_half_of_its_time(log: AskedLog) -> None:
    """Each is small, and every run is asked for once a round."""
    lookout = await start_lookout(log, heartbeat_seconds=1)
    looks = await log.wait_for(2 * LOOKS)
    await lookout.close()
    assert [count for _, count in looks] == [MAX_RUNS_PER_LOOK] * 2 * LOOKS
    first, last, again = looks[0][0], looks[LOOKS - 1][0], looks[LOOKS][0]
    assert last - first >= 0.4 / 2 * (LOOKS - 1) / LOOKS - 0.01
    assert again - first >= 0.4 - 0.01


async def test_after_a_gap_all_are_asked_for_at_once(log: AskedLog) -> None:
    """Nobody waits for the next round."""
    lookout = await start_lookout(log, heartbeat_seconds=3600)
    await asyncio.sleep(0)
    log.tell_gap()
    looks = await log.wait_for(LOOKS)
    await lookout.close()
    assert [count for _, count in looks] == [MAX_RUNS_PER_LOOK] * LOOKS
