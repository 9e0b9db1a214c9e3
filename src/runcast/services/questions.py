"""What a run asks people: requests, who answers them, and what the run is meanwhile.

An answer is committed by whoever takes it, once. That it was answered is told by the worker that holds the run, for it
numbers the run's events.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from runcast.errors import InvalidInputError
from runcast.events import EventType, RequestKind, RunStatus, format_ts
from runcast.ports import RunStore
from runcast.records import Answer, Request, StatusChange
from runcast.services.outages import outlast_outages
from runcast.services.waiting import Wait, Waits
from runcast.services.writer import Facts, RunWriter

MAX_PROMPT_CHARS: Final = 10_000

_LATE: Final = timedelta(seconds=0.25)
"""An answer that was taken just in time may be committed a moment after: it counts."""

_STATUS: Final = {RequestKind.APPROVAL: RunStatus.AWAITING_APPROVAL, RequestKind.INPUT: RunStatus.AWAITING_INPUT}


class Questions:
    """The requests of one attempt."""

    def __init__(
        self,
        writer: RunWriter,
        *,
        store: RunStore,
        waits: Waits,
        clock: Callable[[], datetime],
        past: Sequence[Request],
        is_ending: Callable[[], bool],
    ) -> None:
        self._writer: Final = writer
        self._store: Final = store
        self._waits: Final = waits
        self._clock: Final = clock
        self._is_ending: Final = is_ending  # whether nothing more is to be told of what the run is
        self._told = RunStatus.RUNNING
        self._known: Final = {request.id: request for request in past}
        self._turns: Final[dict[str | None, int]] = {}  # how many were asked in a step, or outside any
        self._answered: Final[dict[str, asyncio.Event]] = {}  # open requests: set once there is an answer

    async def ask(
        self,
        kind: RequestKind,
        prompt: str,
        schema: Mapping[str, Any],
        *,
        preview: Any,
        timeout_seconds: float | None,
        step_id: str | None,
    ) -> Answer:
        """See `Journal.ask`."""
        if not 1 <= len(prompt) <= MAX_PROMPT_CHARS:
            raise InvalidInputError(f"a question has 1 to {MAX_PROMPT_CHARS} characters", field="prompt")
        # Counted in its step: one that is skipped must not give its answers to what comes after it.
        self._turns[step_id] = turn = self._turns.get(step_id, 0) + 1
        request_id = f"request-{turn}" if step_id is None else f"request-{step_id}-{turn}"
        request = self._known.get(request_id)
        if request is None:
            now = self._clock()
            request = Request(
                run_id=self._writer.run_id,
                id=request_id,
                kind=kind,
                prompt=prompt,
                schema=schema,
                asked_at=now,
                preview=preview,
                expires_at=None if timeout_seconds is None else now + timedelta(seconds=timeout_seconds),
            )
            self._tell_requested(request, step_id)
        return await self._resolve(request, step_id)

    async def receive_answers(self) -> None:
        """Look which of the open requests were answered."""
        if not self._answered:
            return
        for request in await outlast_outages(lambda: self._store.list_requests(self._writer.run_id)):
            event = self._answered.get(request.id)
            if event is not None and request.answer is not None:
                self._known[request.id] = request
                event.set()

    @property
    def waited(self) -> AbstractSet[str]:
        """The requests that an answer is waited for."""
        return frozenset(self._answered)

    async def settle(self, waited: AbstractSet[str]) -> None:
        """Tell what was answered that the run, which is parked, doesn't wait for: it would be due at once, again and
        again. Should the runner ask that once more, it gets the answer.
        """
        for request in await outlast_outages(lambda: self._store.list_requests(self._writer.run_id)):
            if request.answer is not None and not request.is_resolved and request.id not in waited:
                resolved = replace(request, is_resolved=True)
                self._writer.write(EventType.INPUT_RESOLVED, _resolution(resolved), facts=Facts(request=resolved))

    async def _resolve(self, request: Request, step_id: str | None) -> Answer:
        if not request.is_resolved and request.answer is None:
            request = await self._wait(request, step_id)
        if not request.is_resolved:
            request = replace(request, is_resolved=True)
            await self._tell_resolved(request, step_id)
            self._tell_status()
        if request.answer is None:
            raise TimeoutError(f"nobody has answered in time: {request.prompt[:200]}")
        return request.answer

    async def _wait(self, request: Request, step_id: str | None) -> Request:
        self._known[request.id] = request
        event = self._answered[request.id] = asyncio.Event()
        until = None if request.expires_at is None else request.expires_at + _LATE
        try:
            await self.receive_answers()  # it may have come before we listened
            if event.is_set() or (until is not None and until <= self._clock()):
                return self._known[request.id]
            with self._waits.wait(Wait(status=_STATUS[request.kind], step_id=step_id, until=until)):
                self._tell_status()
                await self._wait_until(event, until)
        except asyncio.CancelledError:
            self._close(request, step_id)
            raise
        finally:
            del self._answered[request.id]
        return self._known[request.id]

    def _close(self, request: Request, step_id: str | None) -> None:
        """The runner has given up waiting, as with a time limit of its own: nobody can answer any more. If it is the
        attempt that ends, nothing of this is told, and the next one asks again.
        """
        if self._known[request.id].answer is None:
            closed = self._known[request.id] = replace(request, is_resolved=True)
            self._write(EventType.INPUT_RESOLVED, _resolution(closed), Facts(request=closed), step_id)
        self._tell_status()

    async def _wait_until(self, event: asyncio.Event, moment: datetime | None) -> None:
        if moment is None:
            await event.wait()
            return
        try:
            async with asyncio.timeout((moment - self._clock()).total_seconds()):
                await event.wait()
        except TimeoutError:
            await self.receive_answers()

    def _tell_requested(self, request: Request, step_id: str | None) -> None:
        payload: dict[str, Any] = {
            "requestId": request.id,
            "kind": request.kind,
            "prompt": request.prompt,
            "schema": request.schema,
        }
        if request.preview is not None:
            payload["preview"] = request.preview
        if request.expires_at is not None:
            payload["expiresAt"] = format_ts(request.expires_at)
        self._write(EventType.INPUT_REQUESTED, payload, Facts(request=request), step_id)

    async def _tell_resolved(self, request: Request, step_id: str | None) -> None:
        self._known[request.id] = request
        seq = self._write(EventType.INPUT_RESOLVED, _resolution(request), Facts(request=request), step_id)
        if seq is not None:
            await self._writer.wait_archived(seq)

    def _tell_status(self) -> None:
        """What the run is now, if that is new: it waits for somebody, or goes on."""
        status = self._waits.status
        if status not in _STATUS.values():
            status = RunStatus.RUNNING
        if status is not self._told and not self._is_ending():
            self._told = status
            change = StatusChange(status=status, at=self._clock())
            self._write(EventType.RUN_STATUS, {"status": status}, Facts(change=change), None)

    def _write(
        self, event_type: EventType, payload: Mapping[str, Any], facts: Facts, step_id: str | None
    ) -> int | None:
        if self._is_ending():
            return None
        return self._writer.write(event_type, payload, step_id=step_id, facts=facts)


def _resolution(request: Request) -> dict[str, Any]:
    payload: dict[str, Any] = {"requestId": request.id, "kind": request.kind, "resolution": "expired"}
    if request.answer is not None:
        payload |= {"resolution": "answered", "value": request.answer.value}
        if request.answer.by is not None:
            payload["by"] = request.answer.by
    return payload
