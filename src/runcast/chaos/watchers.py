"""The watchers of a drill: plain clients that follow a run over each transport and write down what they receive.

A watcher keeps one thing, its cursor: the last event it was given. When a connection ends it goes on from there, at the
other gateway. It sorts, drops and mends nothing: that a frame is wrong is for the checker to say, from the record.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import httpx
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, WebSocketException

from runcast.chaos.plan import Habit, Transport
from runcast.chaos.record import Note, NoteKind, WatcherRecord, digest_of
from runcast.events import ControlType, Cursor, read_event

SILENCE_SECONDS: Final = 15.0
"""A connection that says nothing for so long is dead: heartbeats come every 5 s at most."""

_CONNECT_SECONDS: Final = 5.0
_CLOSE_SECONDS: Final = 1.0
_WAIT_SECONDS: Final = 4  # of a long poll: an empty page is its sign of life
_PAGE_PAUSE_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = (0.05, 0.5)
_CLOSED_AS_FINISHED: Final = "run finished"
_BYE_AS_FINISHED: Final = "finished"
_LOST: Final = (OSError, TimeoutError, httpx.HTTPError, WebSocketException, EOFError)
"""What a connection can end with."""


class Page(msgspec.Struct):
    """A page of events, each with the bytes that it came in."""

    events: list[msgspec.Raw]
    final: bool
    rewind: str | None = None


_read_page: Final = msgspec.json.Decoder(Page).decode


class DrillWatcher:
    """Follows one run to its end, whatever happens to the connections. `record` is what it leaves."""

    def __init__(
        self,
        name: str,
        run_id: str,
        habit: Habit,
        *,
        gateways: Sequence[str],
        http: httpx.AsyncClient,
        clock: Callable[[], float],
        source: random.Random,
    ) -> None:
        self.record: Final = WatcherRecord(name=name, run_id=run_id)
        self.is_told = False  # that the run has ended
        self._run_id: Final = run_id
        self._habit: Final = habit
        self._gateways: Final = gateways
        self._http: Final = http
        self._clock: Final = clock
        self._source: Final = source
        self._gateway = habit.gateway
        self._cursor = Cursor(0, 0)
        self._since_moved = 0  # events
        self._follow: Final[Mapping[Transport, Callable[[], AsyncIterator[None]]]] = {
            Transport.WEBSOCKET: self._follow_websocket,
            Transport.SSE: self._follow_sse,
            Transport.LONG_POLL: self._follow_long_poll,
            Transport.PAGING: self._follow_pages,
        }

    async def watch(self) -> None:
        """Return once the server has said that the run is over."""
        await asyncio.sleep(self._habit.joins_after_seconds)
        while not self.is_told:
            self._note(NoteKind.OPENED, self._cursor, text=f"at gateway {self._gateway + 1}")
            await self._watch_once()
            if not self.is_told:
                self._gateway = (self._gateway + 1) % len(self._gateways)
                await asyncio.sleep(self._source.uniform(*_RETRY_SECONDS))

    async def _watch_once(self) -> None:
        """One connection, until it ends or the watcher moves on."""
        self._since_moved = 0
        frames = self._follow[self._habit.transport]()
        try:
            async with contextlib.aclosing(frames):  # type: ignore[type-var]  # an async generator
                async for _ in frames:
                    if self.is_told:
                        return
                    if self._habit.moves_every and self._since_moved >= self._habit.moves_every:
                        self._note(NoteKind.CLOSED, text="moves on")
                        return
                    await asyncio.sleep(self._habit.pause_seconds)
            self._note(NoteKind.CLOSED, text="ended")
        except _LOST as error:
            self._note(NoteKind.CLOSED, text=f"{type(error).__name__}: {error}"[:100])

    async def _follow_websocket(self) -> AsyncIterator[None]:
        url = f"ws{self._gateways[self._gateway].removeprefix('http')}/ws/runs/{self._run_id}?after={self._cursor}"
        is_slow = self._habit.pause_seconds > 0
        async with connect(
            url,
            open_timeout=_CONNECT_SECONDS,
            close_timeout=_CLOSE_SECONDS,
            compression=None,
            proxy=None,
            max_queue=1 if is_slow else 64,
        ) as socket:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        frame = await socket.recv(decode=False)
                except ConnectionClosedOK as closed:
                    self._take_close(closed)
                    yield
                    return
                self._take_frame(frame)
                yield

    async def _follow_sse(self) -> AsyncIterator[None]:
        headers = {"accept": "text/event-stream", "last-event-id": str(self._cursor)}
        timeout = httpx.Timeout(_CONNECT_SECONDS, read=SILENCE_SECONDS)
        async with self._http.stream("GET", self._url(), headers=headers, timeout=timeout) as answer:
            answer.raise_for_status()
            if answer.status_code == httpx.codes.NO_CONTENT:
                self._finish("204")
                yield
                return
            rest = b""
            async for chunk in answer.aiter_raw():
                *blocks, rest = (rest + chunk).split(b"\n\n")
                for block in blocks:
                    for line in block.split(b"\n"):
                        if line.startswith(b"data: "):
                            self._take_frame(line.removeprefix(b"data: "))
                            yield

    async def _follow_long_poll(self) -> AsyncIterator[None]:
        while True:
            async for _ in self._take_page({"wait": _WAIT_SECONDS}):
                yield

    async def _follow_pages(self) -> AsyncIterator[None]:
        while True:
            before = self._cursor
            async for _ in self._take_page({"limit": 50}):
                yield
            if self._cursor == before:
                await asyncio.sleep(_PAGE_PAUSE_SECONDS)

    async def _take_page(self, options: Mapping[str, int]) -> AsyncIterator[None]:
        query: dict[str, str | int] = {"after": str(self._cursor), **options}
        answer = await self._http.get(self._url(), params=query, timeout=SILENCE_SECONDS)
        answer.raise_for_status()
        page = _read_page(answer.content)
        if page.rewind is not None:
            self._take_rewind(page.rewind)
        for raw in page.events:
            self._take_event(bytes(raw))
            yield
        if page.final:
            self._finish("final page")
        elif not page.events:
            self._note(NoteKind.CONTROL)
        yield

    def _url(self) -> str:
        return f"{self._gateways[self._gateway]}/runs/{self._run_id}/events"

    def _take_frame(self, raw: bytes) -> None:
        # A control frame ends with its run's id, a string; an event with a number.
        if not raw.endswith(b'"}'):
            self._take_event(raw)
            return
        frame: dict[str, Any] = json.loads(raw)
        match frame["type"]:
            case ControlType.REWIND:
                self._take_rewind(frame["payload"]["to"])
            case ControlType.BYE if frame["payload"].get("reason") == _BYE_AS_FINISHED:
                self._finish("bye")
            case _:
                self._note(NoteKind.CONTROL, text=json.dumps(frame["payload"])[:100])

    def _take_event(self, raw: bytes) -> None:
        cursor = read_event(raw).cursor
        self._note(NoteKind.EVENT, cursor, digest=digest_of(raw))
        self._cursor = cursor
        self._since_moved += 1

    def _take_rewind(self, to: str) -> None:
        self._cursor = Cursor.parse(to)
        self._note(NoteKind.REWIND, self._cursor)

    def _take_close(self, closed: ConnectionClosed) -> None:
        if closed.rcvd is not None and closed.rcvd.reason == _CLOSED_AS_FINISHED:
            self._finish("1000")
        else:
            raise EOFError(f"closed: {closed}")

    def _finish(self, how: str) -> None:
        self.is_told = True
        self._note(NoteKind.FINISHED, text=how)

    def _note(self, kind: NoteKind, cursor: Cursor | None = None, *, digest: bytes = b"", text: str = "") -> None:
        self.record.notes.append(Note(self._clock(), kind, cursor, digest, text))
