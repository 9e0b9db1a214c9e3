"""Polling mode, the rollback: a gateway that reads the database at intervals instead of listening to Redis.

For the gateway it is a `RunLog` that can't be reached, which is all that is needed: whoever can't reach the log asks
the database. What a process writes goes to the real log all the same, for others may listen.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from runcast.errors import UnavailableError
from runcast.events import Cursor, LoggedEvent
from runcast.ports import AppendHandler, AppendResult, EventHandler, RawHandler, RunLog, Unsubscribe
from runcast.records import LinkState


class PollingLog:
    """`RunLog` that writes to another and hears nothing."""

    def __init__(self, writes_to: RunLog) -> None:
        self._writes_to: Final = writes_to
        self._handlers: dict[str, int] = {}  # registered handlers by run id, for stats

    async def append(self, run_id: str, events: Sequence[LoggedEvent]) -> AppendResult:
        """See `RunLog.append`."""
        return await self._writes_to.append(run_id, events)

    async def append_all(self, appends: Sequence[tuple[str, Sequence[LoggedEvent]]], tell: AppendHandler) -> None:
        """See `RunLog.append_all`."""
        await self._writes_to.append_all(appends, tell)

    async def fence(self, run_id: str, attempt: int, *, floor: int) -> Cursor:
        """See `RunLog.fence`."""
        return await self._writes_to.fence(run_id, attempt, floor=floor)

    async def read(self, run_id: str, after: Cursor, *, limit: int) -> Sequence[LoggedEvent]:  # noqa: ARG002 - the port's
        """Refuse: the archive is what is read."""
        raise UnavailableError("polling mode reads the database")

    async def read_last(self, run_ids: Sequence[str]) -> Sequence[Cursor]:  # noqa: ARG002 - the port's
        """Refuse: the archive is what is read."""
        raise UnavailableError("polling mode reads the database")

    async def on_run_event(self, run_id: str, handler: RawHandler) -> Unsubscribe:  # noqa: ARG002 - never called
        """Count the handler; nothing will come."""
        self._handlers[run_id] = self._handlers.get(run_id, 0) + 1
        is_registered = True

        async def unsubscribe() -> None:
            nonlocal is_registered
            if is_registered:
                is_registered = False
                self._handlers[run_id] -= 1
                if not self._handlers[run_id]:
                    del self._handlers[run_id]

        return unsubscribe

    def on_batch(self, handler: Callable[[], None]) -> Callable[[], None]:
        """See `RunLog.on_batch`: nothing will come."""
        return self._writes_to.on_batch(handler)

    async def on_status(self, handler: EventHandler) -> Unsubscribe:
        """See `RunLog.on_status`: lists of runs are told as ever, they cost the database nothing."""
        return await self._writes_to.on_status(handler)

    def on_gap(self, handler: Callable[[], None]) -> Callable[[], None]:
        """See `RunLog.on_gap`."""
        return self._writes_to.on_gap(handler)

    async def send_control(self, message: Mapping[str, Any]) -> None:
        """See `RunLog.send_control`."""
        await self._writes_to.send_control(message)

    async def on_control(self, handler: Callable[[Mapping[str, Any]], None]) -> Unsubscribe:
        """See `RunLog.on_control`."""
        return await self._writes_to.on_control(handler)

    async def ping(self) -> None:
        """See `RunLog.ping`."""
        await self._writes_to.ping()

    def get_stats(self) -> LinkState:
        """Channels and handlers are the watched runs; there is no link."""
        return LinkState(channels=len(self._handlers), handlers=sum(self._handlers.values()), connected=False)
