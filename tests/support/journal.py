"""A journal that only remembers: with it a real `RunContext` works without a worker."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runcast.app import RunContext
from runcast.core.replay import Replay, is_committed
from runcast.events import EventType, RequestKind, StepStatus, encode_json
from runcast.journaling import BegunMessage, BegunStep, StepFailure
from runcast.messages import told_text
from runcast.records import Answer, Artifact, Run, Step, Undo


class RecordingJournal:
    """Keeps every event, steps' ones included, as (type, payload), in order. What isn't JSON is refused.

    `answers` are given to what the run asks, in order; `done` are steps that an earlier attempt has committed.
    """

    def __init__(self, *, answers: tuple[Any, ...] = (), done: Mapping[str, Any] | None = None) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[tuple[RequestKind, str, Any]] = []  # kind, prompt, preview
        self.artifacts: dict[str, bytes | Path | str | None] = {}
        self.undos: dict[str, Undo] = {}  # by step id
        self._answers = list(answers)
        self._steps: dict[str, str] = {}
        self._message_count = 0
        self._replay = Replay(
            Step(
                run_id="run-1", id=f"step-{n}", name=name, index=n, status=StepStatus.SUCCEEDED, attempt=1, output=each
            )
            for n, (name, each) in enumerate((done or {}).items(), 1)
        )

    def write(self, event_type: EventType, payload: Mapping[str, Any], *, step_id: str | None = None) -> None:
        del step_id  # not of interest here
        encode_json(payload)
        self.events.append((event_type.value, dict(payload)))

    def start_step(self, name: str, input: Any, *, parent_id: str | None, is_block: bool) -> BegunStep:  # noqa: A002, ARG002
        known = self._replay.find(name, input, parent_id=parent_id)
        if known is not None and is_committed(known):
            return BegunStep(known.id, is_done=True, output=known.output)
        index = self._replay.next_index()
        self.write(EventType.STEP_STARTED, {"stepId": f"step-{index}", "name": name, "index": index, "input": input})
        return BegunStep(f"step-{index}")

    def restart_step(self, step_id: str, number: int) -> None:
        self.write(EventType.STEP_STARTED, {"stepId": step_id, "try": number})

    async def succeed_step(self, step_id: str, output: Any, *, undo: Undo | None) -> None:
        if undo is not None:
            self.undos[step_id] = undo
        self.write(EventType.STEP_SUCCEEDED, {"stepId": step_id, "output": output})

    async def fail_step(self, step_id: str, failure: StepFailure, *, retry_in_seconds: float | None) -> None:
        described = {"code": failure.error.code, "message": failure.error.message}
        payload = {"stepId": step_id, "error": described, "willRetry": retry_in_seconds is not None}
        self.write(EventType.STEP_FAILED, payload)

    def cancel_step(self, step_id: str) -> None:
        self.write(EventType.STEP_FAILED, {"stepId": step_id, "error": {"code": "canceled", "message": "cut short"}})

    def start_message(self, name: str | None, *, step_id: str | None) -> BegunMessage:
        self._message_count += 1
        message_id = name or f"message-{self._message_count}"
        self.write(EventType.MESSAGE_STARTED, {"messageId": message_id}, step_id=step_id)
        return BegunMessage(message_id)

    def complete_message(self, message_id: str, text: str, *, step_id: str | None) -> None:
        payload = {"messageId": message_id, **told_text(text)}
        self.write(EventType.MESSAGE_COMPLETED, payload, step_id=step_id)

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
        del timeout_seconds, step_id
        encode_json(schema)
        self.asked.append((kind, prompt, preview))
        if not self._answers:
            raise TimeoutError(prompt)
        return Answer(self._answers.pop(0), datetime.now(UTC), "somebody")

    async def sleep_until(self, moment: datetime | None, *, seconds: float, step_id: str | None) -> None:
        del moment, seconds, step_id

    async def start_child(self, runner: str, value: Mapping[str, Any], *, step_id: str | None) -> str:
        del step_id
        self.write(EventType.CHILD_STARTED, {"runId": f"child-of-{runner}", "runner": runner, "input": value})
        return f"child-of-{runner}"

    async def wait_child(self, run_id: str, *, step_id: str | None) -> Run:
        raise NotImplementedError

    async def add_artifact(
        self,
        name: str,
        *,
        data: bytes | None,
        path: Path | None,
        url: str | None,
        content_type: str | None,
        step_id: str | None,
    ) -> Artifact:
        del step_id
        self.artifacts[name] = data or path or url
        return Artifact(id="artifact-1", name=name, content_type=content_type or "text/plain", url="/somewhere")

    async def mark(self, name: str, *, step_id: str | None) -> int:
        del name, step_id
        return 1

    async def list_undoable(self, run_id: str) -> list[tuple[str, Undo]]:
        del run_id
        return [("step", undo) for undo in reversed(self.undos.values())]

    @property
    def types(self) -> list[str]:
        """The types of all events, in order."""
        return [event_type for event_type, _ in self.events]

    def payloads(self, event_type: str) -> list[dict[str, Any]]:
        """The payloads of one type, in order."""
        return [payload for each, payload in self.events if each == event_type]


def recorded_run(
    *, run_id: str = "run-1", attempt: int = 1, journal: RecordingJournal | None = None
) -> tuple[RunContext, RecordingJournal]:
    """A run and the journal that remembers what it says."""
    journal = journal or RecordingJournal()
    return RunContext(run_id=run_id, attempt=attempt, journal=journal), journal
