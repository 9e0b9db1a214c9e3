"""The turn: joins what arrives for a run in one turn of the event loop into one write per watcher.

Without a window it costs no time: what came with one read of the socket is sent as soon as all of it was taken in. With
one, a run that has just sent waits until the window is over; a run that was quiet doesn't wait.
"""

import asyncio
from collections.abc import Callable
from typing import Final

Flush = Callable[[], None]


class Turn:
    """When the runs of one gateway send. For one event loop."""

    def __init__(self, *, window_seconds: float = 0) -> None:
        self._window_seconds: Final = window_seconds
        self._due: list[Flush] = []
        self._last = float("-inf")  # when it was sent last, by the loop's clock

    def add(self, flush: Flush) -> None:
        """Call `flush` once, at the end of the turn."""
        if not self._due:
            self._schedule()
        self._due.append(flush)

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        wait = self._last + self._window_seconds - loop.time() if self._window_seconds else 0
        if wait > 0:
            loop.call_later(wait, self._end)
        else:
            loop.call_soon(self._end)

    def _end(self) -> None:
        if self._window_seconds:
            self._last = asyncio.get_running_loop().time()
        due, self._due = self._due, []
        for flush in due:
            flush()
