"""Waiting: who waits gives the slot back, its time stands still, and after a while it may be parked."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from runcast.events import RunStatus
from runcast.services.waiting import Slot, Slots, TimeLimit, Wait, Waits


class Parking:
    """Waits with everything around them."""

    def __init__(self, *, park_seconds: float = 60) -> None:
        self.slots = Slots(1)
        self.slot: Slot = self.slots.take()
        self.asked = asyncio.Event()
        self.limit = TimeLimit(None, lambda: None)
        self.waits = Waits(slot=self.slot, limit=self.limit, park_seconds=park_seconds, on_park=self.asked.set)


@pytest.fixture
async def parking() -> Parking:
    return Parking()


def approval(step_id: str | None = None, **more: object) -> Wait:
    return Wait(status=RunStatus.AWAITING_APPROVAL, step_id=step_id, **more)  # type: ignore[arg-type]


async def test_a_run_that_waits_makes_room_for_another(parking: Parking) -> None:
    """With one slot: the second run comes in while the first waits, and the first goes on at once all the same."""
    other = asyncio.create_task(parking.slots.wait_free())
    with parking.waits.wait(approval()):
        await other
        taken = parking.slots.take()
    full = asyncio.create_task(parking.slots.wait_free())
    await asyncio.sleep(0)
    assert not full.done()
    taken.release()
    parking.slot.release()
    await full


async def test_a_run_is_parked_once_it_has_waited_long_enough() -> None:
    """After `park_seconds` somebody is asked to."""
    parking = Parking(park_seconds=0)
    with parking.waits.wait(approval()):
        await asyncio.wait_for(parking.asked.wait(), 5)
    parking.waits.close()


async def test_a_run_that_waits_for_others_is_not_parked() -> None:
    """Nothing would wake it."""
    parking = Parking(park_seconds=0)
    with parking.waits.wait(Wait(status=RunStatus.RUNNING, step_id=None, can_park=False)):
        assert not parking.waits.may_park({})


@pytest.mark.parametrize(
    ("open_steps", "may_park"),
    [
        ({}, True),
        ({"step-1": None}, True),  # the step that waits itself
        ({"step-1": "step-0", "step-0": None}, True),  # and what it is part of
        ({"step-1": None, "step-2": None}, False),  # another works
        ({"step-2": "step-1", "step-1": None}, False),  # a part of it works
    ],
)
async def test_a_run_that_works_beside_its_waiting_is_not_parked(
    parking: Parking,
    open_steps: dict[str, str | None],
    may_park: bool,  # noqa: FBT001 - the expectation
) -> None:
    """What is under way would be cut short."""
    with parking.waits.wait(approval("step-1" if open_steps else None)):
        assert parking.waits.may_park(open_steps) is may_park
    assert not parking.waits.may_park(open_steps)


async def test_a_run_is_what_it_waits_for_most_urgently(parking: Parking) -> None:
    """A decision before an answer before a time; it is due when the first of them ends by itself."""
    now = datetime.now(UTC)
    seen = []
    with parking.waits.wait(Wait(status=RunStatus.DELAYED, step_id=None, until=now + timedelta(hours=1))):
        seen.append((parking.waits.status, parking.waits.due_at))
        with parking.waits.wait(approval(until=now)):
            seen.append((parking.waits.status, parking.waits.due_at))
    seen.append((parking.waits.status, parking.waits.due_at))
    assert seen == [
        (RunStatus.DELAYED, now + timedelta(hours=1)),
        (RunStatus.AWAITING_APPROVAL, now),
        (RunStatus.RUNNING, None),
    ]


async def test_the_time_of_a_run_stands_still_while_it_waits() -> None:
    """Waiting isn't working: only what comes after counts."""
    over = asyncio.Event()
    limit = TimeLimit(0.01, over.set)
    waits = Waits(slot=Slots(1).take(), limit=limit, park_seconds=60, on_park=lambda: None)
    limit.run()
    with waits.wait(approval()), pytest.raises(TimeoutError):
        await asyncio.wait_for(over.wait(), 0.05)
    await asyncio.wait_for(over.wait(), 5)
    waits.close()


async def test_a_runner_that_is_left_to_itself_takes_and_gives_no_slot(parking: Parking) -> None:
    """What it waits for after its attempt is over isn't the worker's business: the slot is another run's."""
    with parking.waits.wait(approval()):
        parking.waits.close()
    await asyncio.wait_for(parking.slots.wait_free(), 1)
    parking.slot.take()  # the next run
    with parking.waits.wait(approval()):
        full = asyncio.create_task(parking.slots.wait_free())
        await asyncio.sleep(0)
        assert not full.done()
    parking.slot.release()
    await full
