"""The turn: joins what arrives for a run in one turn of the event loop into one write per watcher.

Without a window it costs no time: what came with one read of the socket is sent as soon as all of it was taken in. With
one, a run that has just sent waits until the window is over; a run that was quiet doesn't wait.
"""

import asyncio
from typing import Final, Protocol

from runcast.logs import get_logger

log = get_logger()


class Sender(Protocol):
    """Who has something to send at the end of a turn."""

    def flush(self) -> None:
        """Send it."""
        ...


class Turn:
    """When the runs of one gateway send. For one event loop."""

    def __init__(self, *, window_seconds: float = 0) -> None:
        self._window_seconds: Final = window_seconds
        self._due: list[Sender] = []
        self._last = float("-inf")  # when it was sent last, by the loop's clock
        self._window: asyncio.TimerHandle | None = None  # while it isn't over, and there is something to send

    def add(self, sender: Sender) -> None:
        """Have it send once, when the turn ends."""
        self._due.append(sender)

    def end(self) -> None:
        """All that came together was taken in: send it, now or when the window is over."""
        if not self._due or self._window is not None:
            return
        if self._window_seconds:
            loop = asyncio.get_running_loop()
            wait = self._last + self._window_seconds - loop.time()
            if wait > 0:
                self._window = loop.call_later(wait, self._send)
                return
        self._send()

    def _send(self) -> None:
        if self._window_seconds:
            self._window = None
            self._last = asyncio.get_running_loop().time()
        due, self._due = self._due, []
        for sender in due:
            try:
                sender.flush()
            except Exception:  # the others, and the link that this is called from, are not to suffer for it
                log.exception("❌ a run's events can't be sent on")
