"""Snapshot: what a run has come to, folded from its events: status, plan, steps, text, result.

A watcher that joins late is given this in one frame instead of thousands of events, and goes on from `to`.

Invariants: folding the snapshot of some first events and then the rest comes to the same as folding all of them. An
event that takes back others (`step_reset`, `retrying`, a rewind of the log) leaves nothing of them. What was committed
is never taken back by a new attempt: texts that were said to their end, questions that are open. An unknown type or an
odd payload changes nothing but the place. What a snapshot leaves out: log lines, tool calls, artifacts, usage, child
runs and custom events; they are read from the run's events.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from runcast.events import FINAL_STATUSES, START, Cursor, EventType, RunEvent, RunStatus, StepStatus

Payload = Mapping[str, Any]

_KEPT_OF_STEP: Final = ("name", "index", "input", "parentId", "try")
_FACTS_OF_STATUS: Final = ("output", "error", "dueAt")


class Message:
    """A text as far as it has been said."""

    def __init__(self, text: str = "", *, completed: bool = False, step_id: str | None = None) -> None:
        self._parts = [text]  # joined when asked for: joining at each delta would copy the text each time
        self.completed = completed
        self.step_id: Final = step_id  # whose reset takes the text back

    @property
    def text(self) -> str:
        """The whole text."""
        self._parts = ["".join(self._parts)]
        return self._parts[0]

    def add(self, delta: str) -> None:
        """Go on with the text."""
        self._parts.append(delta)

    def complete(self, text: str | None) -> None:
        """End the text; its last word on itself, if there is one, counts."""
        self._parts = self._parts if text is None else [text]
        self.completed = True


class RunFold:
    """A run's state, folded from its events in the order of the log."""

    def __init__(self) -> None:
        self.cursor = START  # the last event folded: where a watcher of the snapshot goes on
        self.position = START  # the last event looked at: where the log is read on
        self._rewinds: Final[list[Cursor]] = []  # the first events of attempts that went on before the end of others
        self._clear()

    @classmethod
    def restore(cls, payload: Payload) -> Self:
        """The fold that a snapshot was made of."""
        fold = cls()
        fold.cursor = fold.position = Cursor.parse(payload["to"])
        fold.status = payload["status"]
        fold.steps = {step["stepId"]: dict(step) for step in payload["steps"]}
        fold.messages = {
            each["messageId"]: Message(each["text"], completed=each["completed"], step_id=each.get("stepId"))
            for each in payload["messages"]
        }
        fold.requests = {each["requestId"]: each for each in payload["requests"]}
        fold.facts = {key: payload[key] for key in ("progress", "plan", *_FACTS_OF_STATUS) if key in payload}
        return fold

    def receive(self, events: Sequence[RunEvent]) -> None:
        """Fold what the log holds after `position`.

        At a step back of the log what was folded is let go, and `position` is at the start again: the log is to be
        read once more, and what was taken back is then left out.
        """
        for event in events:
            if event.cursor <= self.position:
                continue
            if event.cursor.seq > self.position.seq + 1:
                return  # not from there on: the next read will have it
            if not self._is_taken_back(event.cursor):
                if event.cursor.seq <= self.cursor.seq:
                    self._begin_again(event.cursor)
                    return
                self._apply(event)
            self.position = event.cursor

    def describe(self) -> dict[str, Any]:
        """The snapshot's payload."""
        return {
            "to": str(self.cursor),
            "status": self.status,
            "steps": [dict(step) for step in self.steps.values()],
            "messages": [_describe_message(message_id, message) for message_id, message in self.messages.items()],
            "requests": list(self.requests.values()),
            **self.facts,
        }

    def _clear(self) -> None:
        self.status: str | None = None
        self.steps: dict[str, dict[str, Any]] = {}
        self.messages: dict[str, Message] = {}
        self.requests: dict[str, Payload] = {}  # open ones
        self.facts: dict[str, Any] = {}  # progress, plan, output, error, dueAt: those that there are

    def _is_taken_back(self, cursor: Cursor) -> bool:
        return any(cursor.attempt < first.attempt and cursor.seq >= first.seq for first in self._rewinds)

    def _begin_again(self, first: Cursor) -> None:
        self._rewinds.append(first)
        self.cursor = self.position = START
        self._clear()

    def _apply(self, event: RunEvent) -> None:
        if event.attempt > self.cursor.attempt and event.payload.get("status") == RunStatus.RUNNING:
            _begin_attempt(self)
        self.cursor = event.cursor
        apply = _APPLY.get(event.type)
        if apply is not None:
            apply(self, event)


def _begin_attempt(fold: RunFold) -> None:
    """What isn't committed is said again: after a loss, a failure, or a wait at which nobody held the run."""
    fold.messages = {key: message for key, message in fold.messages.items() if message.completed}
    fold.facts.pop("progress", None)


def _apply_status(fold: RunFold, event: RunEvent) -> None:
    status = event.payload.get("status")
    if not isinstance(status, str):
        return
    fold.status = status
    if status == RunStatus.RETRYING:
        _begin_attempt(fold)  # though it may still be told by the attempt that failed
    if status in FINAL_STATUSES:
        fold.facts.pop("progress", None)
        fold.requests.clear()
    for key in _FACTS_OF_STATUS:
        fold.facts.pop(key, None)  # what an earlier status said is no longer how the run stands
        if key in event.payload:
            fold.facts[key] = event.payload[key]


def _apply_plan(fold: RunFold, event: RunEvent) -> None:
    fold.facts["plan"] = event.payload.get("steps")


def _apply_progress(fold: RunFold, event: RunEvent) -> None:
    step = fold.steps.get(_step_id(event) or "")
    (fold.facts if step is None else step)["progress"] = event.payload


def _apply_step_started(fold: RunFold, event: RunEvent) -> None:
    step_id = _step_id(event)
    if step_id is not None:
        kept = {key: event.payload[key] for key in _KEPT_OF_STEP if key in event.payload}
        fold.steps[step_id] = {"stepId": step_id, **kept, "status": StepStatus.RUNNING.value}


def _apply_step_succeeded(fold: RunFold, event: RunEvent) -> None:
    _end_step(fold, event, StepStatus.SUCCEEDED, "output")


def _apply_step_failed(fold: RunFold, event: RunEvent) -> None:
    error = event.payload.get("error")
    is_canceled = isinstance(error, Mapping) and error.get("code") == "canceled"
    _end_step(fold, event, StepStatus.CANCELED if is_canceled else StepStatus.FAILED, "error")


def _end_step(fold: RunFold, event: RunEvent, status: StepStatus, result_key: str) -> None:
    step = fold.steps.get(_step_id(event) or "")
    if step is not None:
        step.pop("progress", None)
        step["status"] = status.value
        step[result_key] = event.payload.get(result_key)
        if event.payload.get("willRetry") is True:
            step["willRetry"] = True


def _apply_step_reset(fold: RunFold, event: RunEvent) -> None:
    step_id = _step_id(event)
    if step_id is not None:
        fold.steps.pop(step_id, None)
        fold.messages = {
            key: message for key, message in fold.messages.items() if message.completed or message.step_id != step_id
        }


def _apply_message_started(fold: RunFold, event: RunEvent) -> None:
    message_id = event.payload.get("messageId")
    if isinstance(message_id, str):
        fold.messages[message_id] = Message(step_id=_step_id(event))


def _apply_message_delta(fold: RunFold, event: RunEvent) -> None:
    message, delta = _message(fold, event), event.payload.get("delta")
    if message is not None and isinstance(delta, str):
        message.add(delta)


def _apply_message_completed(fold: RunFold, event: RunEvent) -> None:
    message, text = _message(fold, event), event.payload.get("text")
    if message is not None:
        message.complete(text if isinstance(text, str) else None)


def _apply_input_requested(fold: RunFold, event: RunEvent) -> None:
    request_id = event.payload.get("requestId")
    if isinstance(request_id, str):
        fold.requests[request_id] = event.payload


def _apply_input_resolved(fold: RunFold, event: RunEvent) -> None:
    request_id = event.payload.get("requestId")
    if isinstance(request_id, str):
        fold.requests.pop(request_id, None)


def _message(fold: RunFold, event: RunEvent) -> Message | None:
    """The event's message; one that was never begun begins here."""
    message_id = event.payload.get("messageId")
    if not isinstance(message_id, str):
        return None
    return fold.messages.setdefault(message_id, Message(step_id=_step_id(event)))


def _step_id(event: RunEvent) -> str | None:
    step_id = event.payload.get("stepId", event.step_id)
    return step_id if isinstance(step_id, str) else None


def _describe_message(message_id: str, message: Message) -> dict[str, Any]:
    described = {"messageId": message_id, "text": message.text, "completed": message.completed}
    return described if message.step_id is None else {**described, "stepId": message.step_id}


_APPLY: Final[Mapping[str, Callable[[RunFold, RunEvent], None]]] = {
    EventType.RUN_STATUS: _apply_status,
    EventType.RUN_COMPLETED: _apply_status,
    EventType.PLAN_GENERATED: _apply_plan,
    EventType.PROGRESS: _apply_progress,
    EventType.STEP_STARTED: _apply_step_started,
    EventType.STEP_PROGRESS: _apply_progress,
    EventType.STEP_SUCCEEDED: _apply_step_succeeded,
    EventType.STEP_FAILED: _apply_step_failed,
    EventType.STEP_RESET: _apply_step_reset,
    EventType.MESSAGE_STARTED: _apply_message_started,
    EventType.MESSAGE_DELTA: _apply_message_delta,
    EventType.MESSAGE_COMPLETED: _apply_message_completed,
    EventType.INPUT_REQUESTED: _apply_input_requested,
    EventType.INPUT_RESOLVED: _apply_input_resolved,
}
