"""`RunContext`: a runner's hand on its run. It does no I/O: what a runner says goes to the run's journal."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, overload

import pydantic

from runcast.errors import ChildFailedError, InvalidInputError
from runcast.events import RESERVED_EVENT_TYPES, EventType, RequestKind, RunStatus
from runcast.journaling import Journal
from runcast.messages import Message
from runcast.records import Artifact, Undo
from runcast.steps import Step, StepCall, current_step, restore_result, to_json
from runcast.streams import relay

P = ParamSpec("P")
T = TypeVar("T")

_EMITTABLE: Final[Mapping[str, EventType]] = {
    event_type.value: event_type for event_type in EventType if event_type not in RESERVED_EVENT_TYPES
}
_LEVELS: Final = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Approval:
    """What somebody decided. True if it was approved: `if await run.approve(…):`."""

    approved: bool
    steps: tuple[int, ...] | None = None  # of a plan, those approved, by their index; None: all or nothing
    comment: str | None = None
    by: str | None = None

    def __bool__(self) -> bool:
        return self.approved


class ChildRun:
    """A run that this one has started."""

    def __init__(self, run_id: str, journal: Journal, *, function: Callable[..., Any] | None = None) -> None:
        self.id: Final = run_id
        self._journal: Final = journal
        self._function: Final = function  # its runner, if it wasn't named by a text

    async def result(self) -> Any:
        """Its output, once it has ended: of the type that the runner says it returns, if the child was started by its
        function; by its name, as JSON. Waiting for it holds no worker's slot.

        Raises:
            ChildFailedError: it ended otherwise than as done.

        """
        run = await self._journal.wait_child(self.id, step_id=current_step.get())
        if run.status is not RunStatus.DONE:
            raise ChildFailedError(run.id, run.status, run.error)
        if self._function is None:
            return run.output
        return restore_result(self._function, run.output, of=f"child run {run.id}")


class RunContext:
    """One per attempt; not to be used after the runner has returned."""

    def __init__(
        self,
        *,
        run_id: str,
        attempt: int,
        journal: Journal,
        parent_id: str | None = None,
        delta_seconds: float = 0.01,
    ) -> None:
        self.id: Final = run_id
        self.attempt: Final = attempt  # 1 for the first; a run that was parked, too, goes on as another attempt
        self.parent_id: Final = parent_id  # the run that started this one
        self._journal: Final = journal
        self._delta_seconds: Final = delta_seconds

    # What it does

    @overload
    def step(self, name: str, /) -> Step[Any]: ...
    @overload
    def step(self, name: str, function: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Step[T]: ...
    @overload
    def step(self, name: str, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Step[T]: ...
    @overload  # a plain function, which is handed over a `SyncRunContext`
    def step(
        self,
        name: str,
        function: Callable[Concatenate[Any, P], T],
        run: "RunContext",
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Step[T]: ...

    def step(self, name: str, function: Callable[..., Any] | None = None, /, *args: Any, **kwargs: Any) -> Step[Any]:
        """`await run.step(name, function, …)` calls the function as a named step and gives its result, which must be
        JSON, or a type that pydantic can bring to JSON and back. A later attempt gets the committed result without
        calling it. A plain function runs in a thread, and is handed over a `SyncRunContext` where it is given the run.
        What it raises ends the step as failed and comes out here.

        `async with run.step(name) as step:` makes a step of a block; see `Step`.
        """
        return Step(self._journal, name, None if function is None else StepCall(function, args, kwargs))

    async def sleep(self, seconds: float) -> None:
        """Wait, without a worker's slot. The time counts from the first attempt, and goes on while no worker runs."""
        if not _is_figure(seconds):
            raise InvalidInputError(f"can't sleep {seconds!r} seconds: give a number, 0 or more", field="seconds")
        await self._journal.sleep_until(None, seconds=seconds, step_id=current_step.get())

    async def sleep_until(self, moment: datetime) -> None:
        """Wait until then; the moment must have a time zone."""
        if moment.tzinfo is None:
            raise InvalidInputError("a moment needs a time zone: datetime(…, tzinfo=UTC)", field="moment")
        await self._journal.sleep_until(moment, seconds=0, step_id=current_step.get())

    # What it says

    def emit(self, event_type: str, payload: Mapping[str, Any], *, step_id: str | None = None) -> None:
        """Tell watchers something; never waits. Inside a step the event belongs to it, unless another is named.

        Raises:
            InvalidInputError: the type isn't one that runners emit, or the payload isn't JSON.
            TooLargeError: the event passes `max_event_bytes`.

        """
        # Fast path: every token may pass here, so its type is looked up once.
        known_type = _EMITTABLE.get(event_type)
        if known_type is None:
            known = ", ".join(sorted(_EMITTABLE))
            raise InvalidInputError(f"a runner can't emit {event_type!r}; use one of {known}", field="type")
        self._journal.write(known_type, payload, step_id=step_id or current_step.get())

    def message(self, name: str | None = None) -> Message:
        """`async with run.message() as answer: answer.write(token)`: text, as it comes. See `Message`."""
        return Message(self._journal, name, step_id=current_step.get(), delta_seconds=self._delta_seconds)

    async def stream(self, stream: Any, name: str | None = None) -> str:
        """Tell watchers what a model's stream says, as it comes, and return the text: of the SDKs of OpenAI and
        Anthropic, of pydantic-ai, or any iterator of strings. A message that an earlier attempt has completed is not
        asked for again by this alone: call the model in a step for that.

        Raises:
            StreamError: the stream broke off, or says that the answer has failed.
            InvalidInputError: it isn't a stream that is known.

        """
        return await relay(stream, self, name=name)

    def progress(self, value: float, total: float | None = None, message: str | None = None) -> None:
        """How far the run has got; inside a step, how far that has. Without a total watchers see that it moves.

        Raises:
            InvalidInputError: the value is no number from 0 to the total.

        """
        if not _is_figure(value) or not (total is None or (_is_figure(total) and value <= total)):
            told = f"{value!r}" if total is None else f"{value!r} of {total!r}"
            raise InvalidInputError(f"progress can't be {told}: give a number from 0 to the total", field="value")
        payload = {"value": value, "total": total, "message": message}
        event_type = EventType.PROGRESS if current_step.get() is None else EventType.STEP_PROGRESS
        self.emit(event_type, {key: each for key, each in payload.items() if each is not None})

    def log(self, message: str, level: str = "info", **data: Any) -> None:
        """A line for whoever wants to know more; `level` is debug, info, warning or error."""
        if level not in _LEVELS:
            raise InvalidInputError(f"{level!r} is no level: use one of {', '.join(_LEVELS)}", field="level")
        self.emit(EventType.LOG, {"level": level, "message": message, **({"data": to_json(data)} if data else {})})

    def usage(self, **figures: Any) -> None:
        """What it has used: `run.usage(model="…", inputTokens=12, outputTokens=34)`. Readers add numbers up.

        Raises:
            InvalidInputError: a value is neither text nor a number, 0 or more.

        """
        for name, value in figures.items():
            if not isinstance(value, str) and not _is_figure(value):
                raise InvalidInputError(f"usage {name}={value!r}: give a number, 0 or more, or a text", field=name)
        self.emit(EventType.USAGE, to_json(figures))

    async def artifact(
        self,
        name: str,
        *,
        data: bytes | str | None = None,
        path: str | Path | None = None,
        url: str | None = None,
        content_type: str | None = None,
    ) -> Artifact:
        """Keep a file that the run has made, from memory or from a path, or link one by its URL; give one of them.

        Raises:
            InvalidInputError: the name or the source can't be used.
            TooLargeError: it passes the size limit.

        """
        if [data is None, path is None, url is None].count(False) != 1:
            raise InvalidInputError("an artifact has one source: data, path or url", field="data")
        return await self._journal.add_artifact(
            name,
            data=data.encode() if isinstance(data, str) else data,
            path=None if path is None else Path(path),
            url=url,
            content_type=content_type,
            step_id=current_step.get(),
        )

    # Whom it asks

    async def approve(
        self,
        prompt: str,
        *,
        preview: Any = None,
        steps: Sequence[int] | None = None,
        timeout_seconds: float | None = None,
    ) -> Approval:
        """Ask somebody whether to go on. `preview` shows what it is about, `steps` are indexes of a plan's steps, of
        which some may be approved: `preview={"steps": ["write", "send"]}, steps=[0, 1]`.

        Raises:
            InvalidInputError: the steps aren't indexes.
            TimeoutError: nobody has decided in time.

        """
        answer = await self._journal.ask(
            RequestKind.APPROVAL,
            prompt,
            _approval_schema(steps),
            preview=to_json(preview),
            timeout_seconds=timeout_seconds,
            step_id=current_step.get(),
        )
        chosen = answer.value.get("steps", steps)
        return Approval(
            approved=answer.value["approved"],
            steps=None if chosen is None else tuple(chosen),
            comment=answer.value.get("comment"),
            by=answer.by,
        )

    @overload
    async def ask(
        self, prompt: str, *, schema: type[T], preview: Any = None, timeout_seconds: float | None = None
    ) -> T: ...
    @overload
    async def ask(
        self,
        prompt: str,
        *,
        schema: Mapping[str, Any] | None = None,
        preview: Any = None,
        timeout_seconds: float | None = None,
    ) -> Any: ...

    async def ask(
        self, prompt: str, *, schema: Any = None, preview: Any = None, timeout_seconds: float | None = None
    ) -> Any:
        """Ask somebody for something: a text, or what a type or a JSON Schema describes. Gives the checked answer.

        Raises:
            TimeoutError: nobody has answered in time.

        """
        is_type = schema is not None and not isinstance(schema, Mapping)
        adapter: pydantic.TypeAdapter[Any] | None = pydantic.TypeAdapter(schema) if is_type else None
        described = adapter.json_schema() if adapter else (schema or {"type": "string", "minLength": 1})
        answer = await self._journal.ask(
            RequestKind.INPUT,
            prompt,
            described,
            preview=to_json(preview),
            timeout_seconds=timeout_seconds,
            step_id=current_step.get(),
        )
        return adapter.validate_python(answer.value) if adapter else answer.value

    # Whom it sets to work

    async def start(self, runner: str | Callable[..., Any], /, **value: Any) -> ChildRun:
        """Start another run with this input, once in all attempts; canceling this run cancels it."""
        name, function = (runner, None) if isinstance(runner, str) else (runner.__name__, runner)
        run_id = await self._journal.start_child(name, to_json(value), step_id=current_step.get())
        return ChildRun(run_id, self._journal, function=function)

    async def call(self, runner: str | Callable[..., Any], /, **value: Any) -> Any:
        """Start another run and return its output: see `ChildRun.result`.

        Raises:
            ChildFailedError: it ended otherwise than as done.

        """
        child = await self.start(runner, **value)
        return await child.result()

    async def mark(self, name: str) -> int:
        """The attempt that has first got to this place of the present step, committed: whoever must not do something
        twice learns here whether an earlier attempt may have done it.
        """
        return await self._journal.mark(name, step_id=current_step.get())

    async def list_undoable(self, run_id: str) -> list[tuple[str, Undo]]:
        """For the built-in undo: a run's committed steps that can be undone, the last first."""
        return await self._journal.list_undoable(run_id)


def _is_figure(value: Any) -> bool:
    # Of the JSON encoder's kinds only: it refuses others, and says NaN as null. True is an int to Python.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and _is_figure(value)


def _approval_schema(steps: Sequence[int] | None) -> dict[str, Any]:
    properties: dict[str, Any] = {"approved": {"type": "boolean"}, "comment": {"type": "string", "maxLength": 2_000}}
    if steps is not None:
        if not steps or not all(map(_is_index, steps)) or len(set(steps)) < len(steps):
            raise InvalidInputError(
                f"steps={steps!r}: give indexes, each once, such as [0, 1]; what they stand for goes into the preview:"
                ' preview={"steps": ["write", "send"]}',
                field="steps",
            )
        item = {"type": "integer", "enum": list(steps)}
        properties["steps"] = {"type": "array", "items": item, "uniqueItems": True}
    return {"type": "object", "properties": properties, "required": ["approved"], "additionalProperties": False}
