"""A run's journal: what a runner says of its steps and its text, as events and records for the writer."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from runcast.events import EventType, StepStatus
from runcast.records import RunError, Step
from runcast.services.writer import RunWriter

_MAX_INPUT_BYTES: Final = 16_384


class RunJournal:
    """`app.Journal` over a writer. Numbers the steps of one attempt: `step-1`, `step-2`, …"""

    def __init__(self, writer: RunWriter, *, clock: Callable[[], datetime]) -> None:
        self._writer: Final = writer
        self._clock: Final = clock
        self._steps: Final[dict[str, Step]] = {}  # those begun in this attempt, by id

    def write(self, event_type: EventType, payload: Mapping[str, Any], *, step_id: str | None = None) -> None:
        """See `Journal.write`."""
        self._writer.write(event_type, payload, step_id=step_id)

    async def start_step(self, name: str, input: Any) -> str:  # noqa: A002 - the contract's word
        """See `Journal.start_step`."""
        index = len(self._steps) + 1
        step = Step(
            run_id=self._writer.run_id,
            id=f"step-{index}",
            name=name,
            index=index,
            status=StepStatus.RUNNING,
            attempt=self._writer.attempt,
            input=_shown(input),
            started_at=self._clock(),
        )
        payload = {"stepId": step.id, "name": name, "index": index}
        if step.input is not None:
            payload["input"] = step.input
        self._write_step(EventType.STEP_STARTED, payload, step)
        return step.id

    async def succeed_step(self, step_id: str, output: Any) -> None:
        """See `Journal.succeed_step`."""
        step = self._end(step_id, StepStatus.SUCCEEDED, output=output)
        payload = {"stepId": step_id, "output": output, "ms": _milliseconds(step)}
        await self._writer.wait_archived(self._write_step(EventType.STEP_SUCCEEDED, payload, step))

    async def fail_step(self, step_id: str, error: RunError) -> None:
        """See `Journal.fail_step`."""
        step = self._end(step_id, StepStatus.FAILED, error=error)
        await self._writer.wait_archived(self._write_failure(step, error))

    def cancel_step(self, step_id: str) -> None:
        """See `Journal.cancel_step`."""
        if self._steps[step_id].status is StepStatus.RUNNING and not self._writer.is_fenced:
            error = RunError(code="canceled", message="the step was cut short")
            self._write_failure(self._end(step_id, StepStatus.CANCELED, error=error), error)

    def cancel_open_steps(self) -> None:
        """The runner has ended: whatever step has not ended by itself was cut short."""
        for step_id in tuple(self._steps):
            self.cancel_step(step_id)

    def _write_failure(self, step: Step, error: RunError) -> int:
        payload = {"stepId": step.id, "error": {"code": error.code, "message": error.message}, "willRetry": False}
        return self._write_step(EventType.STEP_FAILED, payload, step)

    def _write_step(self, event_type: EventType, payload: Mapping[str, Any], step: Step) -> int:
        seq = self._writer.write(event_type, payload, step_id=step.id, step=step)
        self._steps[step.id] = step
        return seq

    def _end(self, step_id: str, status: StepStatus, *, output: Any = None, error: RunError | None = None) -> Step:
        begun = self._steps[step_id]
        return Step(
            run_id=begun.run_id,
            id=begun.id,
            name=begun.name,
            index=begun.index,
            status=status,
            attempt=begun.attempt,
            input=begun.input,
            output=output,
            error=error,
            started_at=begun.started_at,
            ended_at=self._clock(),
        )


def _milliseconds(step: Step) -> int:
    assert step.started_at is not None  # noqa: S101 - set where the step began
    assert step.ended_at is not None  # noqa: S101 - set just before
    return round((step.ended_at - step.started_at).total_seconds() * 1000)


def _shown(value: Any) -> Any:
    """A step's arguments if watchers can be shown them: JSON of a sensible size, else nothing."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return None
    return value if value is not None and len(text) <= _MAX_INPUT_BYTES else None
