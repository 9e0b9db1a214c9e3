"""What somebody asks for, as the run that is stored: read, checked, and given its place and limits. No I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from runcast.errors import InvalidInputError, TooLargeError
from runcast.records import Job, NewRun
from runcast.registry import RunnerRegistry
from runcast.runners import PROMPT_RUNNER, Runner

MAX_TAGS: Final = 20
MAX_TAG_CHARS: Final = 64
MAX_KEY_CHARS: Final = 200
MAX_PRIORITY: Final = 100
MAX_DELAY: Final = timedelta(days=366)
MODES: Final = ("auto", "approval", "preview")
_JOB_KEYS: Final = {name: name for name in ("prompt", "runner", "input", "tags", "priority")} | {
    "idempotency_key": "idempotencyKey"
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What somebody asks for: a prompt, or a runner with its input; now, or at a time to come."""

    prompt: str | None = None
    runner: str | None = None
    input: Mapping[str, Any] | None = None
    tags: Sequence[str] = ()
    idempotency_key: str | None = None
    priority: int = 0  # 0 to 100, the higher the sooner
    delay_seconds: float | None = None
    due_at: datetime | None = None
    mode: str | None = None  # of a prompt's plan
    parent_id: str | None = None


def request_of(job: Job, app: RunnerRegistry) -> RunRequest:
    """What a foreign producer asks for with a job.

    Raises:
        InvalidInputError: its data don't make a request.

    """
    data = {"runner": job.name, **job.data}
    if "prompt" in data and data["runner"] not in app.runners:
        del data["runner"]  # to other producers a job's name is a label of their own
    fields = {name: data[key] for name, key in _JOB_KEYS.items() if data.get(key) is not None}
    try:
        return msgspec.convert(fields, RunRequest)
    except msgspec.ValidationError as error:
        raise InvalidInputError(f"the job's data: {error}") from None


def read_request(
    request: RunRequest, run_id: str, *, app: RunnerRegistry, now: datetime, max_prompt_chars: int
) -> NewRun:
    """The run that is asked for.

    Raises:
        InvalidInputError, RunnerNotFoundError, TooLargeError: it can't be executed.

    """
    _check_labels(request)
    value = _read_input(request, max_prompt_chars)
    runner = app.get_runner(request.runner or PROMPT_RUNNER)
    value = runner.validate(value)
    return NewRun(
        id=run_id,
        runner=runner.name,
        input=value,
        created_at=now,
        prompt=request.prompt,
        tags=tuple(request.tags),
        idempotency_key=request.idempotency_key,
        priority=request.priority,
        due_at=_read_due(request, now),
        parent_id=request.parent_id,
        limit=runner.limit_for(value),
        is_rejected_when_full=runner.on_full == "reject",
    )


def has_input(runner: Runner, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether a stored input is what is asked for now, an input that the runner has just checked."""
    try:
        # What the signature has got since then, with a default, is no difference.
        stored = runner.validate(stored)
    except InvalidInputError:
        return False
    first, second = (msgspec.json.decode(msgspec.json.encode(value)) for value in (stored, asked))
    return bool(first == second)


def _read_input(request: RunRequest, max_prompt_chars: int) -> dict[str, Any]:
    value = dict(request.input or {})
    if request.prompt is not None:
        if not request.prompt.strip():
            raise InvalidInputError("the prompt is empty", field="prompt")
        if len(request.prompt) > max_prompt_chars:
            raise TooLargeError(f"the prompt has {len(request.prompt)} characters; {max_prompt_chars} may be")
        value.setdefault("prompt", request.prompt)
    elif request.runner is None:
        raise InvalidInputError("give a prompt, or a runner and its input", field="prompt")
    if request.mode is not None:
        if request.mode not in MODES:
            raise InvalidInputError(f"a mode is one of {', '.join(MODES)}", field="mode")
        if (request.runner or PROMPT_RUNNER) != PROMPT_RUNNER:
            raise InvalidInputError("only a prompt has a mode", field="mode")
        value["mode"] = request.mode
    return value


def _read_due(request: RunRequest, now: datetime) -> datetime | None:
    if request.delay_seconds is not None:
        if request.due_at is not None:
            raise InvalidInputError("give a delay or the time when the run is due, not both", field="dueAt")
        if not 0 < request.delay_seconds <= MAX_DELAY.total_seconds():
            raise InvalidInputError("a delay is more than 0 seconds and at most a year", field="delaySeconds")
        return now + timedelta(seconds=request.delay_seconds)
    if request.due_at is not None:
        if request.due_at.tzinfo is None:
            raise InvalidInputError("the time when a run is due needs a time zone", field="dueAt")
        if request.due_at > now + MAX_DELAY:
            raise InvalidInputError("a run is due within a year", field="dueAt")
    return request.due_at


def _check_labels(request: RunRequest) -> None:
    if len(request.tags) > MAX_TAGS or any(not 1 <= len(tag) <= MAX_TAG_CHARS for tag in request.tags):
        raise InvalidInputError(f"at most {MAX_TAGS} tags of 1 to {MAX_TAG_CHARS} characters", field="tags")
    key = request.idempotency_key
    if key is not None and not 1 <= len(key) <= MAX_KEY_CHARS:
        raise InvalidInputError(f"an idempotency key has 1 to {MAX_KEY_CHARS} characters", field="idempotencyKey")
    if not 0 <= request.priority <= MAX_PRIORITY:
        raise InvalidInputError(f"a priority is 0 to {MAX_PRIORITY}", field="priority")
