"""The appender: brings what the runs of a worker say to the log, together.

What several runs have to say within the window leaves as one write, and waking up for it and for its answer is
paid for once. A worker that was quiet for that long doesn't wait. Each run's append is still its own: one that fails,
or waits for a node that can't be reached, holds up no other.

Invariant: one append of a run is under way at most, so its events stay in order.
Never: appends while the worker's lease has run out, or tries again by itself; who has the events decides that.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from runcast.concurrency import end_tasks
from runcast.events import LoggedEvent
from runcast.ports import AppendResult, RunLog
from runcast.services.lease import Lease

WINDOW_SECONDS: Final = 0.001
"""As long as an event may take to its watchers. With forty runs that say something a hundred times a second each, five
leave together."""


class Source(Protocol):
    """Has the events of a run."""

    @property
    def run_id(self) -> str:
        """The run."""
        ...

    def take_events(self) -> Sequence[LoggedEvent]:
        """What is to be appended next; nothing if there is none by now. It is told what became of it, or was never
        sent.
        """
        ...

    def receive_result(self, events: Sequence[LoggedEvent], result: AppendResult | Exception) -> None:
        """What became of them."""
        ...


class Appender:
    """One per worker; `close` after use."""

    def __init__(self, *, log: RunLog, lease: Lease, window_seconds: float = WINDOW_SECONDS) -> None:
        self._log: Final = log
        self._lease: Final = lease
        self._window_seconds: Final = window_seconds
        self._due: list[Source] = []
        self._sent_at = float("-inf")  # by the loop's clock
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    def add(self, source: Source) -> None:
        """Append what the source has, soon. To be called again once it was told what became of that."""
        if not self._due:
            _call_at(self._sent_at + self._window_seconds, self._send)
        self._due.append(source)

    async def close(self) -> None:
        """Append nothing more."""
        self._due = []
        await end_tasks(*self._tasks)

    def _send(self) -> None:
        self._sent_at = asyncio.get_running_loop().time()
        due, self._due = self._due, []
        task = asyncio.create_task(self._append(due), name="append")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _append(self, due: Sequence[Source]) -> None:
        await self._lease.wait_held()
        batch = [(source, events) for source in due if (events := source.take_events())]
        if not batch:
            return
        untold = dict(enumerate(batch))

        def tell(place: int, result: AppendResult | Exception) -> None:
            source, events = untold.pop(place)
            source.receive_result(events, result)

        try:
            await self._log.append_all([(source.run_id, events) for source, events in batch], tell)
        except Exception as error:  # noqa: BLE001 - whoever isn't told would wait for ever
            for place in tuple(untold):
                tell(place, error)


class Round:
    """Calls those who have asked for it within so many seconds together, at the end of them."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds: Final = seconds
        self._due: list[Callable[[], None]] = []

    def add(self, action: Callable[[], None]) -> None:
        """Call this, once."""
        if not self._due:
            asyncio.get_running_loop().call_later(self._seconds, self._end)
        self._due.append(action)

    def _end(self) -> None:
        due, self._due = self._due, []
        for action in due:
            action()


def _call_at(moment: float, action: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    if moment > loop.time():
        loop.call_at(moment, action)
    else:
        loop.call_soon(action)
