"""What becomes of a run, told: each status, and each step taken back, as an event with the fact it stands for."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from runcast.core.pacing import Backoff
from runcast.core.replay import is_settled
from runcast.events import EventType, LoggedEvent, RunEvent, RunStatus, StepStatus, format_ts, log_event
from runcast.records import Run, RunError, StatusChange, Step
from runcast.services.writer import Facts, RunWriter

_BACKOFF: Final = Backoff(base_seconds=1, cap_seconds=300)


def tell_running(run: Run, now: datetime) -> LoggedEvent:
    """The event of a run that is claimed for its first attempt, as the claim itself archives it."""
    return log_event(
        RunEvent(
            type=EventType.RUN_STATUS,
            payload={"status": RunStatus.RUNNING},
            ts=format_ts(now),
            run_id=run.id,
            seq=run.last.seq,
            attempt=run.attempt,
        )
    )


class StatusTeller:
    """One attempt's word on its run, over the attempt's writer."""

    def __init__(
        self, writer: RunWriter, run: Run, *, clock: Callable[[], datetime], jitter: Callable[[], float]
    ) -> None:
        self.has_ended = False  # whether the last event is written, if not yet arrived
        self.error: RunError | None = None  # why the run failed, once it has ended
        self._writer: Final = writer
        self._run: Final = run
        self._clock: Final = clock
        self._jitter: Final = jitter

    def announce(self, previous: RunStatus, past: Sequence[Step]) -> None:
        """The attempt begins: what an earlier one left is taken back."""
        attempt = self._run.attempt
        if attempt > 1:
            if previous in {RunStatus.RUNNING, RunStatus.CANCELING}:
                payload = {"status": RunStatus.RETRYING, "attempt": attempt, "reason": "worker_lost"}
                self._writer.write(EventType.RUN_STATUS, payload)
            self.take_back(past)
        self.tell(RunStatus.RUNNING)

    def take_back(self, past: Sequence[Step]) -> None:
        """What an earlier attempt has begun and not brought to an end is no longer part of the run."""
        for step in past:
            if not is_settled(step):
                self._reset(step)

    def tell(self, status: RunStatus) -> None:
        """The run is this now, and goes on."""
        payload: dict[str, Any] = {"status": status}
        if self._run.attempt > 1:
            payload["attempt"] = self._run.attempt
        change = StatusChange(status=status, at=self._clock())
        self._writer.write(EventType.RUN_STATUS, payload, facts=Facts(change=change))

    def tell_delayed(self, change: StatusChange) -> None:
        """The run is parked until it is due."""
        payload: dict[str, Any] = {"status": RunStatus.DELAYED}
        if change.due_at is not None:
            payload["dueAt"] = format_ts(change.due_at)
        self._writer.write(EventType.RUN_STATUS, payload, facts=Facts(change=change))

    def try_later(self, error: RunError) -> datetime:
        """The run has failed and is tried again. When."""
        seconds = _BACKOFF.delay_seconds(self._run.failures + 1, jitter=self._jitter())
        now = self._clock()
        due_at = now + timedelta(seconds=seconds)
        change = StatusChange(status=RunStatus.RETRYING, at=now, error=error, due_at=due_at, is_failure=True)
        payload = {
            "status": RunStatus.RETRYING,
            "attempt": self._run.attempt + 1,
            "reason": "failed",
            "error": {"code": error.code, "message": error.message},
            "retryInMs": round(seconds * 1000),
        }
        self._writer.write(EventType.RUN_STATUS, payload, facts=Facts(change=change))
        return due_at

    def give_back(self) -> None:
        """The worker stops: the run goes on at another, and that is no loss."""
        attempt = self._run.attempt + 1
        payload = {"status": RunStatus.RETRYING, "attempt": attempt, "reason": "worker_stopped"}
        change = StatusChange(status=RunStatus.RETRYING, at=self._clock())
        self._writer.write(EventType.RUN_STATUS, payload, facts=Facts(change=change))

    def end(self, status: RunStatus, *, output: Any = None, error: RunError | None = None) -> None:
        """The run has ended.

        Raises:
            InvalidInputError, TooLargeError: the output can't be told; it hasn't ended so.

        """
        change = StatusChange(status=status, at=self._clock(), output=output, error=error)
        payload: dict[str, Any] = {"status": status}
        if error is not None:
            payload["error"] = {"code": error.code, "message": error.message}
        if status is RunStatus.DONE:
            payload["output"] = output
        event_type = EventType.RUN_COMPLETED if status is RunStatus.DONE else EventType.RUN_STATUS
        self._writer.write(event_type, payload, facts=Facts(change=change))
        self.has_ended = True
        self.error = error

    def _reset(self, step: Step) -> None:
        taken_back = replace(
            step, status=StepStatus.CANCELED, attempt=self._run.attempt, ended_at=step.ended_at or self._clock()
        )
        self._writer.write(EventType.STEP_RESET, {"stepId": step.id}, step_id=step.id, facts=Facts(step=taken_back))
