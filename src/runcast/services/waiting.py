"""Where a runner waits: for people, for a time, for other runs. Waiting costs memory, and no worker's slot.

What a runner waits for may take days. So after a while the run is parked, if nothing else of it is under way: nobody
holds it then, and a later attempt goes on from what is committed.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from runcast.events import RunStatus

_AGAIN_SECONDS: Final = 1.0


class Slots:
    """How many runs a worker has at work. New ones are taken while there is room; who has waited goes on at once."""

    def __init__(self, most: int) -> None:
        self._most: Final = most
        self._busy = 0
        self._freed: Final = asyncio.Event()

    async def wait_free(self) -> None:
        """Return once there is room for another run."""
        while self._busy >= self._most:
            self._freed.clear()
            await self._freed.wait()

    def take(self) -> "Slot":
        """A slot for a run, whether or not there is room."""
        return Slot(self)

    def add(self, count: int) -> None:
        """So many more, or fewer, are at work."""
        self._busy += count
        self._freed.set()


class Slot:
    """Room for one run at work, from the beginning on. Taking it again, or giving it back again, changes nothing."""

    def __init__(self, slots: Slots) -> None:
        self._slots: Final = slots
        self._is_taken = False
        self.take()

    def take(self) -> None:
        """The run works."""
        if not self._is_taken:
            self._is_taken = True
            self._slots.add(1)

    def release(self) -> None:
        """The run waits, or is over."""
        if self._is_taken:
            self._is_taken = False
            self._slots.add(-1)


class TimeLimit:
    """How long an attempt may work. The time doesn't run while it waits."""

    def __init__(self, seconds: float | None, on_over: Callable[[], None]) -> None:
        self._left: float | None = seconds
        self._on_over: Final = on_over
        self._timer: asyncio.TimerHandle | None = None

    def run(self) -> None:
        """Let the time run."""
        if self._left is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._left, self._on_over)

    def stop(self) -> None:
        """Hold the time."""
        if self._timer is not None:
            self._left = max(0.0, self._timer.when() - asyncio.get_running_loop().time())
            self._timer.cancel()
            self._timer = None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Wait:
    """One thing that is waited for. `until` is when it ends by itself."""

    status: RunStatus  # what a run is that waits for this
    step_id: str | None
    until: datetime | None = None
    can_park: bool = True


class Waits:
    """What one attempt waits for now."""

    def __init__(self, *, slot: Slot, limit: TimeLimit, park_seconds: float, on_park: Callable[[], None]) -> None:
        self._slot: Final = slot
        self._limit: Final = limit
        self._park_seconds: Final = park_seconds
        self._on_park: Final = on_park  # called when the run has waited long enough; asks `may_park` again
        self._waits: list[Wait] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def is_waiting(self) -> bool:
        """Whether there is anything."""
        return bool(self._waits)

    @property
    def status(self) -> RunStatus:
        """What the run is: the most urgent of what it waits for."""
        order = (RunStatus.AWAITING_APPROVAL, RunStatus.AWAITING_INPUT, RunStatus.DELAYED, RunStatus.RUNNING)
        statuses = {wait.status for wait in self._waits}
        return next(status for status in order if status in statuses or status is RunStatus.RUNNING)

    @property
    def due_at(self) -> datetime | None:
        """When the first of them ends by itself, if any does."""
        return min((wait.until for wait in self._waits if wait.until is not None), default=None)

    @contextmanager
    def wait(self, wait: Wait) -> Iterator[None]:
        """Wait for something in the block."""
        self._enter(wait)
        try:
            yield
        finally:
            self._leave(wait)

    def may_park(self, open_steps: Mapping[str, str | None]) -> bool:
        """Whether nothing but waiting is under way. `open_steps` are those begun, each with the one it is part of."""
        if not self._waits or not all(wait.can_park for wait in self._waits):
            return False
        idle: set[str] = set()
        for wait in self._waits:
            step_id = wait.step_id
            while step_id is not None and step_id not in idle:
                idle.add(step_id)
                step_id = open_steps.get(step_id)
        return idle.issuperset(open_steps)

    def park_later(self) -> None:
        """Something else is under way: look again in a moment."""
        self._set_timer(_AGAIN_SECONDS)

    def close(self) -> None:
        """The attempt is over. A runner that goes on all the same has no slot to give or to take, nor time."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._limit.stop()

    def _enter(self, wait: Wait) -> None:
        if self._is_closed:
            self._waits.append(wait)
            return
        if not self._waits:
            self._limit.stop()
            self._slot.release()
        self._waits.append(wait)
        if wait.can_park and self._timer is None:
            self._set_timer(self._park_seconds)

    def _leave(self, wait: Wait) -> None:
        self._waits.remove(wait)
        if self._waits or self._is_closed:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slot.take()
        self._limit.run()

    def _set_timer(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._receive_time)

    def _receive_time(self) -> None:
        self._timer = None
        self._on_park()
