"""The writer: one attempt's hand in the run's log. It numbers events and brings them to the archive and the log.

State (statuses, steps, the end) is committed to the database before it is published; text and progress are published
at once and reach the archive within `ARCHIVE_DELAY_SECONDS`. Both ways wait out an outage of their own and don't wait
for the other's: with Redis down the run goes on and commits; with the database down state is told to nobody. What the
runs of a worker have to say goes to the log together, and text to the archive too.

Never: writes for a run that another attempt holds. The first refusal stops it for good and cancels the runner; while
the worker's lease has run out, and another attempt may hold the run, nothing is published.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from runcast.concurrency import end_tasks
from runcast.core.outbox import Outbox
from runcast.errors import InvalidInputError, StaleAttemptError, TooLargeError, UnavailableError
from runcast.events import Cursor, EventType, LoggedEvent, RunEvent, encode_event, format_ts, read_event
from runcast.logs import get_logger
from runcast.ports import Appended, AppendResult, Fenced, Missing, RunLog, RunStore
from runcast.records import Commit, Memo, Request, StatusChange, Step
from runcast.services.appender import Appender, Round
from runcast.services.outages import outlast_outages, seconds_to_wait

log = get_logger()

ARCHIVE_DELAY_SECONDS: Final = 0.25
MAX_EVENTS_PER_APPEND: Final = 256
SPILL_BYTES: Final = 1_048_576
"""Kept per run while the log can't be reached. Beyond it, what the archive has is let go."""
MAX_BYTES: Final = 16_777_216
"""Kept per run while the database can't be reached either. Beyond it the runner's next event fails."""
_STATUS_TYPES: Final = (EventType.RUN_STATUS, EventType.RUN_COMPLETED)  # a set would ask each event's type for its hash


class Facts(NamedTuple):
    """What an event makes true in the database, in the transaction that archives it."""

    change: StatusChange | None = None
    step: Step | None = None
    memo: Memo | None = None
    request: Request | None = None


class RunWriter:
    """Writes for one attempt of one run. `start` before use, `close` after; `is_fenced` says that it has given up."""

    def __init__(
        self,
        *,
        run_id: str,
        attempt: int,
        last_seq: int,
        store: RunStore,
        log: RunLog,
        appender: Appender,
        archiving: Round,
        clock: Callable[[], datetime],
        max_event_bytes: int,
        on_fenced: Callable[[], None],
    ) -> None:
        self.run_id: Final = run_id
        self.attempt: Final = attempt
        self.is_fenced = False
        self._outbox: Final = Outbox(last_seq=last_seq)
        self._begin_seq: Final = last_seq  # what comes after it is this attempt's
        self._facts: list[Facts] = []  # what the state events not yet committed say
        self._store: Final = store
        self._log: Final = log
        self._appender: Final = appender
        self._archiving: Final = archiving
        self._clock: Final = clock
        self._max_event_bytes: Final = max_event_bytes
        self._on_fenced: Final = on_fenced
        self.is_log_away = False  # whether the last append had to be tried again
        self._progress: Final = asyncio.Event()  # set whenever an event has arrived somewhere
        self._to_archive: Final = asyncio.Event()
        self._is_in_round = False  # whether text waits for the archive
        self._archive_task: asyncio.Task[None] | None = None
        self._is_appending = False  # whether the appender knows of us, or something has to come first
        self._failures = 0  # appends that have failed since the last one that didn't
        self._again: asyncio.TimerHandle | None = None  # while one that has failed waits to be tried again
        self._restore_task: asyncio.Task[None] | None = None  # while what the log has lost is looked after
        self._is_closed = False

    def start(self) -> None:
        """Begin to bring events where they belong."""
        self._archive_task = asyncio.create_task(self._guard(self._archive_loop), name=f"archive-{self.run_id}")

    async def close(self) -> None:
        """Stop; what has not arrived yet stays where it is. `flush` before to wait for it."""
        self._is_closed = True
        if self._again is not None:
            self._again.cancel()
        await end_tasks(self._archive_task, self._restore_task)

    def write(
        self,
        event_type: EventType,
        payload: Mapping[str, Any],
        *,
        step_id: str | None = None,
        facts: Facts | None = None,
    ) -> int:
        """Number an event and send it on its way; never waits. With facts it is state. Returns its seq.

        Raises:
            InvalidInputError: the payload isn't JSON.
            TooLargeError: the event passes the limit.
            UnavailableError: nothing has arrived anywhere for so long that the memory for it is used up.
            StaleAttemptError: the writer was refused before.

        """
        if self.is_fenced:
            raise StaleAttemptError(self.run_id, self.attempt)
        # State is little, and a run that can't say how it ended would be tried again.
        if self._outbox.size > MAX_BYTES and facts is None:
            raise UnavailableError("the run's events can't be stored as fast as they come: the memory for them is full")
        event = self._number(event_type, payload, step_id)
        self._outbox.put(event, is_state=facts is not None)
        if facts is not None:
            self._facts.append(facts)
            self._to_archive.set()  # what follows it can't be told before it is a fact: the archive wakes the log
        else:
            self._append_soon()
            if not self._is_in_round:
                self._is_in_round = True
                self._archiving.add(self._receive_round)
        return event.cursor.seq

    def publish(self, event: LoggedEvent) -> None:
        """Send on its way an event that the archive has: the next of the run, archived together with the claim."""
        self._outbox.put(event, is_state=True)
        self._outbox.confirm_archived(event.cursor.seq)
        self._append_soon()

    def take_events(self) -> Sequence[LoggedEvent]:
        """See `appender.Source`."""
        if self.is_fenced or self._is_closed:
            return ()
        events = self._outbox.to_append(max_events=MAX_EVENTS_PER_APPEND)
        self._is_appending = bool(events)
        return events

    def receive_result(self, events: Sequence[LoggedEvent], result: AppendResult | Exception) -> None:
        """See `appender.Source`."""
        if self._is_closed:
            return
        self.is_log_away = isinstance(result, UnavailableError)
        self._failures = self._failures + 1 if self.is_log_away else 0
        match result:
            case Appended():
                self._outbox.confirm_appended(events[-1].cursor.seq)
                self._progress.set()
                self._go_on()
            case Missing(last):
                restoring = self._guard(lambda: self._restore(last))
                self._restore_task = asyncio.create_task(restoring, name=f"restore-{self.run_id}")
            case Fenced():
                self._stop("the log refused it")
            case UnavailableError():
                pause = seconds_to_wait(self._failures)
                self._again = asyncio.get_running_loop().call_later(pause, self._go_on)
            case error:
                log.error("❌ the writer broke", run_id=self.run_id, attempt=self.attempt, exc_info=error)
                self._stop("it broke")

    def give_up(self) -> None:
        """Write no more: another attempt holds the run."""
        if not self.is_fenced:
            log.warning("❌ the writer stops", run_id=self.run_id, attempt=self.attempt, reason="its lease ran out")
            self.is_fenced = True
            self._on_fenced()
            self._to_archive.set()
            self._progress.set()

    async def wait_archived(self, seq: int) -> None:
        """Return once the archive has the event.

        Raises:
            StaleAttemptError: it never will.

        """
        await self._wait(lambda: self._outbox.archived >= seq)

    async def flush(self) -> None:
        """Return once everything written so far stands in the archive and in the log.

        Raises:
            StaleAttemptError: it never will.

        """
        seq = self._outbox.last_seq
        await self._wait(lambda: min(self._outbox.archived, self._outbox.appended) >= seq)

    def _number(self, event_type: EventType, payload: Mapping[str, Any], step_id: str | None) -> LoggedEvent:
        # Fast path: every token passes here. `python -m bench.runs deltas` shows what it costs.
        seq = self._outbox.last_seq + 1
        event = RunEvent(
            type=event_type,
            payload=payload,
            ts=format_ts(self._clock()),
            run_id=self.run_id,
            step_id=step_id,
            seq=seq,
            attempt=self.attempt,
        )
        try:
            raw = encode_event(event)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"the payload of {event_type} isn't JSON: {error}", field="payload") from None
        if len(raw) > self._max_event_bytes:
            raise TooLargeError(f"an event of {len(raw)} bytes passes the limit of {self._max_event_bytes} bytes")
        if event_type in _STATUS_TYPES:
            return read_event(raw)
        return LoggedEvent(Cursor(self.attempt, seq), raw)

    async def _wait(self, is_reached: Callable[[], bool]) -> None:
        while not (is_reached() or self.is_fenced):
            self._progress.clear()
            await self._progress.wait()
        if not is_reached():
            raise StaleAttemptError(self.run_id, self.attempt)

    async def _guard(self, loop: Callable[[], Awaitable[None]]) -> None:
        """A way that breaks for a reason nobody foresaw must end the attempt: the run would wait for it for ever."""
        try:
            await loop()
        except StaleAttemptError:
            self._stop("the database refused it")
        except Exception:
            log.exception("❌ the writer broke", run_id=self.run_id, attempt=self.attempt)
            self._stop("it broke")

    async def _archive_loop(self) -> None:
        while not self.is_fenced:
            await self._to_archive.wait()
            self._to_archive.clear()
            await self._archive()

    def _receive_round(self) -> None:
        self._is_in_round = False
        self._to_archive.set()

    async def _archive(self) -> None:
        events = self._outbox.to_archive()
        if not events:
            return
        facts, self._facts = self._facts, []
        commit = _commit_of(self.run_id, self.attempt, events, facts)
        await outlast_outages(lambda: self._store.commit(commit))
        self._outbox.confirm_archived(events[-1].cursor.seq)
        if self._outbox.size > SPILL_BYTES and self.is_log_away:
            self._outbox.spill()
        self._append_soon()
        self._progress.set()

    def _append_soon(self) -> None:
        if not self._is_appending:
            self._is_appending = True
            self._appender.add(self)

    def _go_on(self) -> None:
        """Append what has come meanwhile."""
        if self._outbox.appended < self._outbox.last_seq:
            self._appender.add(self)
        else:
            self._is_appending = False

    async def _restore(self, last: Cursor) -> None:
        """The log has lost its end: append again what is kept here, or let it go on after the archive's end."""
        log.warning("❌ Redis has lost events of the run; putting them back", run_id=self.run_id, last=str(last))
        # The fence may be gone with the rest: only the database knows whether the run is still ours.
        await outlast_outages(lambda: self._store.check_attempt(self.run_id, self.attempt))
        # What an older attempt has beyond our beginning isn't part of the run; a log that went back may show it.
        kept = last.seq if last.attempt == self.attempt else min(last.seq, self._begin_seq)
        lower = self._outbox.take_back(kept)
        floor = kept if lower is None and last.attempt != self.attempt else lower
        if floor is not None:
            await outlast_outages(lambda: self._log.fence(self.run_id, self.attempt, floor=floor))
        self._go_on()

    def _stop(self, reason: str) -> None:
        log.warning("❌ the writer stops", run_id=self.run_id, attempt=self.attempt, reason=reason)
        self.is_fenced = True
        self._on_fenced()
        self._progress.set()


def _commit_of(run_id: str, attempt: int, events: Sequence[LoggedEvent], facts: Sequence[Facts]) -> Commit:
    changes = [each.change for each in facts if each.change is not None]
    steps = {each.step.id: each.step for each in facts if each.step is not None}
    memos = {each.memo.key: each.memo for each in facts if each.memo is not None}
    requests = {each.request.id: each.request for each in facts if each.request is not None}
    return Commit(
        run_id=run_id,
        attempt=attempt,
        events=events,
        change=changes[-1] if changes else None,
        steps=tuple(steps.values()),
        memos=tuple(memos.values()),
        requests=tuple(requests.values()),
    )
