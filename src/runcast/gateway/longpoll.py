"""Pages of events over plain HTTP: what there is after a cursor, now, or as soon as there is something.

    {"events": [ … ], "cursor": "1-42", "final": false}

Invariants: a page never spans a step back of the log. Where events were lost and a later attempt went on before them,
a page ends; the next one opens with it, and says so: `"rewind"` is the cursor to go back to before its events count.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runcast.errors import RuncastError
from runcast.events import UNKNOWN_ATTEMPT, Cursor, LoggedEvent, read_event
from runcast.gateway.connections import Connections, Ending, Transport, wait_gone
from runcast.gateway.frames import cursor_of
from runcast.gateway.problems import problem_of
from runcast.services.watcher import PulledWatcher

MAX_WAIT_SECONDS: Final = 30


class EventPage(NamedTuple):
    """Events that follow each other, and where to go on."""

    events: Sequence[LoggedEvent]
    cursor: Cursor
    rewind: Cursor | None = None

    @classmethod
    def of(cls, after: Cursor, events: Sequence[LoggedEvent], *, limit: int) -> Self:
        """The page after a cursor, of events in the log's order."""
        if not events:
            return cls((), after)
        first = events[0].cursor.seq
        page = _until_step_back(events[:limit])
        return cls(page, page[-1].cursor, Cursor(UNKNOWN_ATTEMPT, first - 1) if first <= after.seq else None)

    def encode(self, *, is_final: bool) -> bytes:
        """The page as JSON, of the events' own bytes: encoded once, by the worker."""
        return b'{"events":[%b],"cursor":"%b","final":%b%b}' % (
            b",".join(event.raw for event in self.events),
            str(self.cursor).encode(),
            b"true" if is_final else b"false",
            b"" if self.rewind is None else b',"rewind":"%b"' % str(self.rewind).encode(),
        )


class LongPoll(Response):
    """The answer that waits for the next events. Whoever asks again with its `cursor` misses none."""

    def __init__(
        self, connections: Connections, run_id: str, *, after: Cursor, limit: int, wait_seconds: float
    ) -> None:
        super().__init__(media_type="application/json")
        self._connections: Final = connections
        self._run_id: Final = run_id
        self._after: Final = after
        self._limit: Final = limit
        self._wait_seconds: Final = wait_seconds
        self._received: list[LoggedEvent] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer once there is something, the time is over or the gateway stops."""
        try:
            async with self._connections.watch(
                self._run_id, after=self._after, transport=Transport.LONG_POLL
            ) as watcher:
                ending = await self._connections.run_until_gone(self._wait(watcher), wait_gone(receive))
                answer = self._answer(watcher)
        except RuncastError as error:
            ending, answer = Ending.SENT, problem_of(error)
        if ending is not Ending.GONE:
            await answer(scope, receive, send)

    async def _wait(self, watcher: PulledWatcher) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_seconds):
                while not self._received and (frames := await watcher.next_frames()) is not None:
                    self._received += [read_event(frame) for frame in frames if cursor_of(frame) is not None]

    def _answer(self, watcher: PulledWatcher) -> Response:
        page = EventPage.of(self._after, self._received, limit=self._limit)
        is_final = watcher.is_finished and len(page.events) == len(self._received)
        return Response(page.encode(is_final=is_final), media_type=self.media_type)


def _until_step_back(events: Sequence[LoggedEvent]) -> Sequence[LoggedEvent]:
    for count in range(1, len(events)):
        if events[count].cursor.seq <= events[count - 1].cursor.seq:
            return events[:count]
    return events
