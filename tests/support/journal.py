"""A journal that only remembers: with it a real `RunContext` works without a worker."""

from collections.abc import Mapping
from typing import Any

from runcast.app import RunContext
from runcast.events import EventType, encode_json
from runcast.records import RunError


class RecordingJournal:
    """Keeps every event, steps' ones included, as (type, payload), in order. What isn't JSON is refused."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._step_count = 0

    def write(self, event_type: EventType, payload: Mapping[str, Any], *, step_id: str | None = None) -> None:
        del step_id  # not of interest here
        encode_json(payload)
        self.events.append((event_type.value, dict(payload)))

    async def start_step(self, name: str, input: Any) -> str:  # noqa: A002 - the contract's word
        self._step_count += 1
        step_id = f"step-{self._step_count}"
        payload = {"stepId": step_id, "name": name, "index": self._step_count, "input": input}
        self.write(EventType.STEP_STARTED, payload)
        return step_id

    async def succeed_step(self, step_id: str, output: Any) -> None:
        self.write(EventType.STEP_SUCCEEDED, {"stepId": step_id, "output": output})

    async def fail_step(self, step_id: str, error: RunError) -> None:
        described = {"code": error.code, "message": error.message}
        self.write(EventType.STEP_FAILED, {"stepId": step_id, "error": described})

    def cancel_step(self, step_id: str) -> None:
        self.write(EventType.STEP_FAILED, {"stepId": step_id, "error": {"code": "canceled", "message": "cut short"}})

    @property
    def types(self) -> list[str]:
        """The types of all events, in order."""
        return [event_type for event_type, _ in self.events]

    def payloads(self, event_type: str) -> list[dict[str, Any]]:
        """The payloads of one type, in order."""
        return [payload for each, payload in self.events if each == event_type]


def recorded_run(*, run_id: str = "run-1", attempt: int = 1) -> tuple[RunContext, RecordingJournal]:
    """A run and the journal that remembers what it says."""
    journal = RecordingJournal()
    return RunContext(run_id=run_id, attempt=attempt, journal=journal), journal
