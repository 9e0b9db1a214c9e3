"""A run that goes on in a later attempt, without a worker: a journal that keeps what a store would, and people.

past = Past()
run, journal = begin_attempt(past, answers=[{"approved": True}])
...                                         # the attempt is lost in the middle
run, journal = begin_attempt(past)          # what was committed is there
"""

# ruff: noqa: ARG002 - what a journal promises has arguments that nothing here needs

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runcast.app import RunContext
from runcast.core.replay import Replay, is_committed
from runcast.events import EventType, RequestKind, StepStatus, encode_json
from runcast.journaling import BegunMessage, BegunStep, StepFailure
from runcast.records import Answer, Artifact, Step, Undo


@dataclass
class Past:
    """What earlier attempts have committed."""

    attempts: int = 0
    steps: dict[str, Step] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)  # what the artifacts hold, by id


class DurableJournal:
    """Remembers every event as (type, payload), and finds again what was committed. What isn't JSON is refused.

    When the prepared answers are used up, a question waits for ever.
    """

    def __init__(self, past: Past, answers: Iterable[Any]) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[dict[str, Any]] = []
        self._past = past
        self._answers = list(answers)
        self._replay = Replay(past.steps.values())
        self._questions = 0
        self._artifacts = 0

    @property
    def types(self) -> list[str]:
        """The types of all events, in order."""
        return [event_type for event_type, _ in self.events]

    def payloads(self, event_type: str) -> list[dict[str, Any]]:
        """The payloads of one type, in order."""
        return [payload for each, payload in self.events if each == event_type]

    def write(self, event_type: EventType, payload: Mapping[str, Any], *, step_id: str | None = None) -> None:
        del step_id  # not of interest here
        encode_json(payload)
        self.events.append((event_type.value, dict(payload)))

    def start_step(self, name: str, input: Any, *, parent_id: str | None, is_block: bool) -> BegunStep:  # noqa: A002 - the contract's word
        recorded = self._replay.find(name, input, parent_id=parent_id)
        if recorded is not None and is_committed(recorded):
            return BegunStep(recorded.id, is_done=True, output=recorded.output)
        index = recorded.index if recorded else self._replay.next_index()
        step_id = f"step-{index}"
        self._past.steps[step_id] = Step(
            run_id="run-1",
            id=step_id,
            name=name,
            index=index,
            status=StepStatus.RUNNING,
            attempt=self._past.attempts,
            input=input,
            parent_id=parent_id,
        )
        self.write(EventType.STEP_STARTED, {"stepId": step_id, "name": name, "index": index, "input": input})
        return BegunStep(step_id)

    def restart_step(self, step_id: str, number: int) -> None:
        raise AssertionError("no step here is tried again")

    async def succeed_step(self, step_id: str, output: Any, *, undo: Undo | None) -> None:
        del undo
        self.write(EventType.STEP_SUCCEEDED, {"stepId": step_id, "output": output})
        self._end(step_id, StepStatus.SUCCEEDED, output)

    async def fail_step(self, step_id: str, failure: StepFailure, *, retry_in_seconds: float | None) -> None:
        del retry_in_seconds
        self.write(
            EventType.STEP_FAILED,
            {"stepId": step_id, "error": {"code": failure.error.code, "message": failure.error.message}},
        )
        self._end(step_id, StepStatus.FAILED, None)

    def cancel_step(self, step_id: str) -> None:
        self.write(EventType.STEP_FAILED, {"stepId": step_id, "error": {"code": "canceled", "message": "cut short"}})

    def start_message(self, name: str | None, *, step_id: str | None) -> BegunMessage:
        assert name, "the prompt runner names its messages"
        if name in self._past.texts:
            return BegunMessage(name, self._past.texts[name])
        self.write(EventType.MESSAGE_STARTED, {"messageId": name}, step_id=step_id)
        return BegunMessage(name)

    def complete_message(self, message_id: str, text: str, *, step_id: str | None) -> None:
        self.write(EventType.MESSAGE_COMPLETED, {"messageId": message_id, "text": text}, step_id=step_id)
        self._past.texts[message_id] = text

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
        self._questions += 1
        if self._questions <= len(self._past.answers):
            return self._past.answers[self._questions - 1]
        self.asked.append({"kind": kind, "prompt": prompt, "schema": schema, "preview": preview})
        if not self._answers:
            await asyncio.Event().wait()
        answer = Answer(self._answers.pop(0), datetime.now(UTC), "Ada")
        self._past.answers.append(answer)
        return answer

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
        assert data is not None
        assert (path, url, step_id) == (None, None, None)
        self._artifacts += 1
        if self._artifacts <= len(self._past.artifacts):
            return self._past.artifacts[self._artifacts - 1]
        artifact_id = f"artifact-{self._artifacts}"
        kept = Artifact(
            id=artifact_id, name=name, content_type=content_type or "", size=len(data), url=f"/artifacts/{artifact_id}"
        )
        self._past.artifacts.append(kept)
        self._past.files[artifact_id] = data
        self.write(EventType.ARTIFACT, {"artifactId": artifact_id, "name": name})
        return kept

    async def sleep_until(self, moment: datetime | None, *, seconds: float, step_id: str | None) -> None:
        raise AssertionError("nothing here sleeps so")

    async def start_child(self, runner: str, value: Mapping[str, Any], *, step_id: str | None) -> str:
        raise AssertionError("nothing here starts runs")

    async def wait_child(self, run_id: str, *, step_id: str | None) -> Any:
        raise AssertionError("nothing here starts runs")

    async def mark(self, name: str, *, step_id: str | None) -> int:
        return self._past.marks.setdefault(f"{step_id}:{name}", self._past.attempts)

    async def list_undoable(self, run_id: str) -> list[tuple[str, Undo]]:
        raise AssertionError("nothing here undoes")

    def _end(self, step_id: str, status: StepStatus, output: Any) -> None:
        self._past.steps[step_id] = replace(self._past.steps[step_id], status=status, output=output)


def begin_attempt(past: Past | None = None, *, answers: Iterable[Any] = ()) -> tuple[RunContext, DurableJournal]:
    """The next attempt at a run, and the journal that remembers what it says."""
    past = past or Past()
    past.attempts += 1
    journal = DurableJournal(past, answers)
    return RunContext(run_id="run-1", attempt=past.attempts, journal=journal, delta_seconds=0), journal
