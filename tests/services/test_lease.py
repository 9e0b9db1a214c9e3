"""The lease as the worker sees it: no right to act without it, and a way back."""

import asyncio

from runcast.services.lease import Lease


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_lease_counts_from_when_it_was_asked_for() -> None:
    """The database may have taken its time; the worker never believes to have it longer than the database does."""
    clock = Clock()
    lease = Lease(seconds=6, now=clock)
    assert not lease.is_held
    clock.seconds = 4
    lease.renew(asked_at=1)
    assert lease.is_held
    clock.seconds = 7
    assert not lease.is_held


async def test_who_waits_for_a_lease_goes_on_once_it_is_renewed() -> None:
    """A renewal that is too old already wakes nobody for good."""
    clock = Clock()
    lease = Lease(seconds=6, now=clock)
    clock.seconds = 10
    waiting = asyncio.create_task(lease.wait_held())
    await asyncio.sleep(0)
    lease.renew(asked_at=3)
    await asyncio.sleep(0)
    assert not waiting.done()
    lease.renew(asked_at=9)
    async with asyncio.timeout(5):
        await waiting
