"""The lease as the worker itself sees it: until when it may act for its runs, by its own clock.

The database says whether a worker lives. Once its lease has run out there, others may take its runs at any moment, so
from then on it tells nobody anything until it has renewed the lease and seen which runs are still its own. It notices
that by itself, also when the whole process was stopped for a while: the clock goes on.
"""

import asyncio
from collections.abc import Callable
from typing import Final


class Lease:
    """Not held before the first `renew`."""

    def __init__(self, *, seconds: float, now: Callable[[], float]) -> None:
        self.seconds: Final = seconds
        self._now: Final = now  # seconds of a clock that never goes back
        self._until = float("-inf")
        self._renewed: Final = asyncio.Event()

    @property
    def is_held(self) -> bool:
        """Whether nobody else can have taken this worker's runs."""
        return self._now() < self._until

    def renew(self, *, asked_at: float) -> None:
        """The database has taken a renewal that was asked for at that time."""
        self._until = asked_at + self.seconds
        self._renewed.set()

    async def wait_held(self) -> None:
        """Return at once while the lease is held, else when it is again."""
        while not self.is_held:
            self._renewed.clear()
            await self._renewed.wait()
