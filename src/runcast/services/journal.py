"""A run's journal: what a runner says and waits for, as events and facts for the writer.

It knows what earlier attempts have committed (`Past`) and says it again to nobody. When the run is parked the journal
is closed: the runner is unwound, and what it still says is dropped.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from runcast.core.replay import Replay, is_committed, is_settled
from runcast.errors import InvalidInputError
from runcast.events import EventType, RequestKind, RunStatus, StepStatus
from runcast.journaling import BegunMessage, BegunStep, StepFailure
from runcast.messages import told_text
from runcast.ports import RunStore
from runcast.records import Answer, Artifact, Commit, Memo, Request, Run, RunError, Step, Undo
from runcast.runners import UNDO_RUNNER
from runcast.services.artifacts import ArtifactService, memo_of, read_memo, told_of
from runcast.services.outages import outlast_outages
from runcast.services.questions import Questions
from runcast.services.waiting import Wait, Waits
from runcast.services.writer import Facts, RunWriter
from runcast.steps import summarize

_MAX_INPUT_BYTES: Final = 16_384
_MAX_PART_BYTES: Final = 1_024  # of an argument, where all of them together are too large
_SHORT_SECONDS: Final = 1.0
"""A sleep up to that is not worth a write: should its worker be lost, it is slept again."""


class Past(NamedTuple):
    """What earlier attempts have committed."""

    steps: tuple[Step, ...] = ()
    memos: Mapping[str, Any] = {}
    requests: tuple[Request, ...] = ()


class Children(Protocol):
    """How a run starts others."""

    async def start(self, runner: str, value: Mapping[str, Any], *, parent_id: str, key: str) -> Run:
        """A run of the runner with this parent; the same for the same key."""
        ...


class RunJournal:
    """`journaling.Journal` over a writer."""

    def __init__(
        self,
        writer: RunWriter,
        *,
        clock: Callable[[], datetime],
        store: RunStore,
        waits: Waits,
        children: Children,
        artifacts: ArtifactService,
        past: Past,
    ) -> None:
        self.is_closed = False  # whether what the runner says is dropped: the run is parked
        self.is_ending = False  # whether the runner is being stopped: what it still says are its last words
        self._writer: Final = writer
        self._clock: Final = clock
        self._store: Final = store
        self._waits: Final = waits
        self._children: Final = children
        self._artifacts: Final = artifacts
        self._replay: Final = Replay(past.steps)
        self._memos: Final = dict(past.memos)
        self._steps: Final[dict[str, Step]] = {}  # those begun in this attempt, by id
        self._said: Final[dict[str, str | None]] = {}  # the messages said in this attempt, with their steps
        self._turns: Final[dict[tuple[str, str | None], int]] = {}  # how many of a kind there were in a step
        self._awaited: Final[dict[asyncio.Event, str]] = {}  # the child of each wait: set when it may have ended
        self._questions: Final = Questions(
            writer, store=store, waits=waits, clock=clock, past=past.requests, is_ending=lambda: self.is_ending
        )

    @property
    def open_steps(self) -> dict[str, str | None]:
        """The steps begun and not ended, each with the one it is part of. One between two tries has not ended."""
        return {step.id: step.parent_id for step in self._steps.values() if step.ended_at is None}

    @property
    def waited_requests(self) -> AbstractSet[str]:
        """The requests that an answer is waited for."""
        return self._questions.waited

    @property
    def parked_memos(self) -> tuple[Memo, ...]:
        """What has to be kept of waits that no event tells of."""
        return tuple(Memo(key, value) for key, value in self._memos.items() if key.startswith("sleep:"))

    def write(self, event_type: EventType, payload: Mapping[str, Any], *, step_id: str | None = None) -> None:
        """See `Journal.write`."""
        if not self.is_closed:
            self._writer.write(event_type, payload, step_id=step_id)

    def start_step(self, name: str, input: Any, *, parent_id: str | None, is_block: bool) -> BegunStep:  # noqa: A002
        """See `Journal.start_step`."""
        shown = _shown(input)
        recorded = self._replay.find(name, shown, parent_id=parent_id)
        if recorded is not None and is_committed(recorded):
            return BegunStep(recorded.id, is_done=True, output=recorded.output)
        if recorded is not None and is_settled(recorded) and recorded.error is not None and not is_block:
            raised = self._memos.get(f"failed:{recorded.id}")
            return BegunStep(recorded.id, failure=StepFailure(recorded.error, raised and raised["class"]))
        index = self._replay.next_index() if recorded is None else recorded.index
        step = Step(
            run_id=self._writer.run_id,
            id=f"step-{index}" if recorded is None else recorded.id,
            name=name,
            index=index,
            status=StepStatus.RUNNING,
            attempt=self._writer.attempt,
            input=shown,
            started_at=self._clock(),
            parent_id=parent_id,
        )
        self._write_step(EventType.STEP_STARTED, _started(step), step)
        return BegunStep(step.id)

    def restart_step(self, step_id: str, number: int) -> None:
        """See `Journal.restart_step`."""
        self._unsay(step_id)
        step = replace(
            self._steps[step_id], status=StepStatus.RUNNING, error=None, started_at=self._clock(), ended_at=None
        )
        self._write_step(EventType.STEP_STARTED, {**_started(step), "try": number}, step)

    async def succeed_step(self, step_id: str, output: Any, *, undo: Undo | None) -> None:
        """See `Journal.succeed_step`."""
        step = self._end(step_id, StepStatus.SUCCEEDED, output=output, undo=undo)
        payload = {"stepId": step_id, "output": output, "ms": _milliseconds(step)}
        await self._commit(self._write_step(EventType.STEP_SUCCEEDED, payload, step))

    async def fail_step(self, step_id: str, failure: StepFailure, *, retry_in_seconds: float | None) -> None:
        """See `Journal.fail_step`. A step that isn't ended isn't settled: nor is one whose runner is being stopped, for
        that may be why it failed.
        """
        error, memo = failure.error, None
        if retry_in_seconds is None and not self.is_ending:
            step = self._end(step_id, StepStatus.FAILED, error=error)
            memo = self._remember(f"failed:{step_id}", {"class": failure.raised})
        else:
            step = replace(self._steps[step_id], status=StepStatus.FAILED, error=error)
        await self._commit(self._write_failure(step, error, retry_in_seconds, memo))

    def cancel_step(self, step_id: str) -> None:
        """See `Journal.cancel_step`."""
        step = self._steps.get(step_id)
        if step is not None and step.ended_at is None and not self._writer.is_fenced:
            error = RunError(code="canceled", message="the step was cut short")
            self._write_failure(self._end(step_id, StepStatus.CANCELED, error=error), error, None)

    def cancel_open_steps(self) -> None:
        """The runner has ended: whatever step has not ended by itself was cut short."""
        for step_id in tuple(self._steps):
            self.cancel_step(step_id)

    def start_message(self, name: str | None, *, step_id: str | None) -> BegunMessage:
        """See `Journal.start_message`."""
        message_id = name or f"message-{self._take_turn('message', step_id)}"
        if message_id in self._said:
            raise InvalidInputError(
                f"message {message_id!r} was said before: a name is used once in a run", field="name"
            )
        if (said := self._memos.get(f"message:{message_id}")) is not None:
            return BegunMessage(message_id, said["text"])
        self.write(EventType.MESSAGE_STARTED, {"messageId": message_id}, step_id=step_id)
        return BegunMessage(message_id)

    def complete_message(self, message_id: str, text: str, *, step_id: str | None) -> None:
        """See `Journal.complete_message`."""
        memo = self._remember(f"message:{message_id}", {"text": text})
        self._said[message_id] = step_id
        payload = {"messageId": message_id, **told_text(text)}
        self._write_fact(EventType.MESSAGE_COMPLETED, payload, Facts(memo=memo), step_id=step_id)

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
        return await self._questions.ask(
            kind, prompt, schema, preview=preview, timeout_seconds=timeout_seconds, step_id=step_id
        )

    async def receive_answers(self) -> None:
        """Something may have been answered."""
        await self._questions.receive_answers()

    async def settle(self, waited: AbstractSet[str]) -> None:
        """The run is parked while it waits for these requests: leave nothing behind that would wake it for others."""
        await self._questions.settle(waited)

    async def sleep_until(self, moment: datetime | None, *, seconds: float, step_id: str | None) -> None:
        """See `Journal.sleep_until`."""
        key = f"sleep:{self._take_turn('sleep', step_id)}"
        if (kept := self._memos.get(key)) is not None:
            until = datetime.fromisoformat(kept["until"])
        else:
            until = moment or self._clock() + timedelta(seconds=seconds)
            memo = self._remember(key, {"until": until.isoformat()})
            if (until - self._clock()).total_seconds() > _SHORT_SECONDS:
                await self._keep(memo)
        seconds = (until - self._clock()).total_seconds()
        if seconds > 0:
            with self._waits.wait(Wait(status=RunStatus.DELAYED, step_id=step_id, until=until)):
                await asyncio.sleep(seconds)

    async def start_child(self, runner: str, value: Mapping[str, Any], *, step_id: str | None) -> str:
        """See `Journal.start_child`."""
        key = f"child:{self._take_turn('child', step_id)}"
        if (known := self._memos.get(key)) is not None:
            return str(known["runId"])
        child_key = f"{key}:{self._writer.run_id}"
        child = await outlast_outages(
            lambda: self._children.start(runner, value, parent_id=self._writer.run_id, key=child_key)
        )
        memo = self._remember(key, {"runId": child.id})
        payload = {"runId": child.id, "runner": runner}
        self._write_fact(EventType.CHILD_STARTED, payload, Facts(memo=memo), step_id=step_id)
        return child.id

    async def wait_child(self, run_id: str, *, step_id: str | None) -> Run:
        """See `Journal.wait_child`."""
        may_have_ended = asyncio.Event()
        self._awaited[may_have_ended] = run_id
        try:
            with self._waits.wait(Wait(status=RunStatus.RUNNING, step_id=step_id, can_park=False)):
                while not (child := await self._get_run(run_id)).status.is_final:
                    await may_have_ended.wait()
                    may_have_ended.clear()  # before the next look: what comes during it counts
        finally:
            del self._awaited[may_have_ended]
        self._tell_child_ended(child, step_id)
        return child

    def receive_child_ended(self, run_id: str | None = None) -> None:
        """A child, or any, may have ended."""
        for event, child_id in self._awaited.items():
            if run_id in (None, child_id):
                event.set()

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
        """See `Journal.add_artifact`."""
        run_id, artifact_id = self._writer.run_id, f"artifact-{self._take_turn('artifact', step_id)}"
        if (known := self._memos.get(f"artifact:{artifact_id}")) is not None:
            return read_memo(run_id, artifact_id, known)
        others = sum(key.startswith("artifact:") for key in self._memos)
        artifact = await self._artifacts.add(
            run_id, artifact_id, name, data=data, path=path, url=url, content_type=content_type, others=others
        )
        memo = memo_of(artifact)
        self._memos[memo.key] = memo.value
        seq = self._write_fact(EventType.ARTIFACT, told_of(artifact), Facts(memo=memo), step_id=step_id)
        await self._commit(seq)
        return artifact

    async def mark(self, name: str, *, step_id: str | None) -> int:
        """See `Journal.mark`."""
        key = f"mark:{step_id}:{name}"
        if (known := self._memos.get(key)) is None:
            known = {"attempt": self._writer.attempt}
            await self._keep(self._remember(key, known))
        return int(known["attempt"])

    async def list_undoable(self, run_id: str) -> list[tuple[str, Undo]]:
        """See `Journal.list_undoable`."""
        steps = await outlast_outages(lambda: self._store.list_steps(run_id))
        done = [(step.name, step.undo) for step in reversed(steps) if step.undo is not None and is_committed(step)]
        return done[await self._count_undone(run_id) :]

    async def _count_undone(self, run_id: str) -> int:
        """How many of a run's steps earlier undo runs have undone: each of them begins where the one before failed."""
        others = [
            child.id
            for child in await outlast_outages(lambda: self._store.list_children(run_id))
            if child.runner == UNDO_RUNNER and child.id != self._writer.run_id
        ]
        listed = [await outlast_outages(partial(self._store.list_steps, other)) for other in others]
        return sum(step.parent_id is None and is_committed(step) for steps in listed for step in steps)

    def _tell_child_ended(self, child: Run, step_id: str | None) -> None:
        key = f"ended:{child.id}"
        if key not in self._memos:
            memo = self._remember(key, {"status": child.status})
            payload = {"runId": child.id, "status": child.status}
            self._write_fact(EventType.CHILD_ENDED, payload, Facts(memo=memo), step_id=step_id)

    async def _get_run(self, run_id: str) -> Run:
        run = await outlast_outages(lambda: self._store.get_run(run_id))
        assert run is not None, "runs are never deleted while their parents run"  # noqa: S101 - a bug, not input
        return run

    def _take_turn(self, kind: str, step_id: str | None) -> str:
        """Which of its kind this is, in its step or outside any: a step that is skipped must not move the others."""
        scope = (kind, step_id)
        self._turns[scope] = turn = self._turns.get(scope, 0) + 1
        return str(turn) if step_id is None else f"{step_id}-{turn}"

    async def _keep(self, memo: Memo) -> None:
        """Commit what no event tells of."""
        if not self.is_closed:
            commit = Commit(run_id=self._writer.run_id, attempt=self._writer.attempt, events=(), memos=(memo,))
            await outlast_outages(lambda: self._store.commit(commit))

    def _remember(self, key: str, value: Any) -> Memo:
        self._memos[key] = value
        return Memo(key, value)

    async def _commit(self, seq: int | None) -> None:
        if seq is not None:
            await self._writer.wait_archived(seq)

    def _write_fact(
        self, event_type: EventType, payload: Mapping[str, Any], facts: Facts, *, step_id: str | None
    ) -> int | None:
        if self.is_closed:
            return None
        return self._writer.write(event_type, payload, step_id=step_id, facts=facts)

    def _unsay(self, step_id: str) -> None:
        """A step is executed again: what was said in it, or in a part of it, may be said again."""
        for message_id, said_in in tuple(self._said.items()):
            if self._is_within(said_in, step_id):
                del self._said[message_id], self._memos[f"message:{message_id}"]

    def _is_within(self, part_id: str | None, step_id: str) -> bool:
        while part_id is not None and part_id != step_id:
            part = self._steps.get(part_id)
            part_id = None if part is None else part.parent_id
        return part_id == step_id

    def _write_failure(
        self, step: Step, error: RunError, retry_in_seconds: float | None, memo: Memo | None = None
    ) -> int | None:
        payload: dict[str, Any] = {
            "stepId": step.id,
            "error": {"code": error.code, "message": error.message},
            "willRetry": retry_in_seconds is not None,
        }
        if retry_in_seconds is not None:
            payload["retryInMs"] = round(retry_in_seconds * 1000)
        return self._write_step(EventType.STEP_FAILED, payload, step, memo)

    def _write_step(
        self, event_type: EventType, payload: Mapping[str, Any], step: Step, memo: Memo | None = None
    ) -> int | None:
        seq = self._write_fact(event_type, payload, Facts(step=step, memo=memo), step_id=step.id)
        self._steps[step.id] = step
        return seq

    def _end(self, step_id: str, status: StepStatus, **ended: Any) -> Step:
        return replace(self._steps[step_id], status=status, ended_at=self._clock(), **ended)


def _started(step: Step) -> dict[str, Any]:
    payload: dict[str, Any] = {"stepId": step.id, "name": step.name, "index": step.index}
    if step.input is not None:
        payload["input"] = step.input
    if step.parent_id is not None:
        payload["parentId"] = step.parent_id
    return payload


def _milliseconds(step: Step) -> int:
    assert step.started_at is not None  # noqa: S101 - set where the step began
    assert step.ended_at is not None  # noqa: S101 - set just before
    return round((step.ended_at - step.started_at).total_seconds() * 1000)


def _shown(value: Any) -> Any:
    """A step's arguments as watchers are shown them, and as a later attempt tells steps of one name apart: what is too
    large stands for itself by its size and digest.
    """
    # As it comes back from the store: tuples are lists there, so a replayed step's input compares equal.
    text = json.dumps(value)
    if len(text) <= _MAX_INPUT_BYTES:
        return json.loads(text)
    if isinstance(value, Mapping):
        parts = {name: _abridged(json.dumps(part)) for name, part in value.items()}
        if len(json.dumps(parts)) <= _MAX_INPUT_BYTES:
            return parts
    return summarize(text.encode())


def _abridged(text: str) -> Any:
    return json.loads(text) if len(text) <= _MAX_PART_BYTES else summarize(text.encode())
