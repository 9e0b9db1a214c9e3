"""Records as rows and rows as records: the one place that knows both."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from runcast.backends.sql import schema
from runcast.events import Cursor, LoggedEvent, RequestKind, RunStatus, StepStatus, read_event
from runcast.records import Answer, NewRun, Request, Run, RunError, RunLimit, StatusChange, Step, Undo

_UNSEEN: Final = {"idempotency_key", "changed_at", "search_text"}  # the table's own: no record has them

RUN_COLUMNS: Final = tuple(column for column in schema.runs.c if column.name not in _UNSEEN)
"""What `run_of` reads, in its order."""

STEP_COLUMNS: Final = tuple(schema.steps.c)
"""What `step_of` reads, in its order."""

UNBORN: Final = {
    "output",
    "error",
    "worker_id",
    "cancel_requested_at",
    "started_at",
    "ended_at",
    "losses",
    "failures",
}
"""The columns that `row_of_new` leaves to their defaults."""

REQUEST_COLUMNS: Final = tuple(schema.requests.c)
"""What `request_of` reads, in its order."""

_STEP_NAMES: Final = [column.name for column in STEP_COLUMNS]
_NO_ANSWER: Final = {"answer": None, "answered_at": None, "answered_by": None}
_REQUEST_NAMES: Final = [column.name for column in REQUEST_COLUMNS]


def run_of(row: Sequence[Any]) -> Run:
    """The run in a row of `RUN_COLUMNS`."""
    # Fast path: by place and not by name, for every start, claim and look reads one.
    id_, runner, status, attempt, last_attempt, last_seq, given, created_at, prompt, tags, output, error, *rest = row
    worker_id, cancel_requested_at, started_at, ended_at, due_at, priority, parent_id, losses, failures, key, most = (
        rest
    )
    return Run(
        id=id_,
        runner=runner,
        status=RunStatus(status),
        attempt=attempt,
        last=Cursor(last_attempt, last_seq),
        input=given,
        created_at=created_at,
        prompt=prompt,
        tags=tuple(tags),
        output=output,
        error=_error_of(error),
        worker_id=worker_id,
        cancel_requested_at=cancel_requested_at,
        started_at=started_at,
        ended_at=ended_at,
        priority=priority,
        due_at=due_at,
        parent_id=parent_id,
        losses=losses,
        failures=failures,
        limit=None if key is None else RunLimit(key, most),
    )


def row_of_new(run: NewRun, first: LoggedEvent) -> dict[str, Any]:
    """A new run's row."""
    is_delayed = run.due_at is not None and run.due_at > run.created_at
    return {
        "id": run.id,
        "runner": run.runner,
        "status": RunStatus.DELAYED.value if is_delayed else RunStatus.QUEUED.value,
        "attempt": 0,
        "last_attempt": first.cursor.attempt,
        "last_seq": first.cursor.seq,
        "input": run.input,
        "created_at": run.created_at,
        "prompt": run.prompt,
        "tags": run.tags,
        "idempotency_key": run.idempotency_key,
        "changed_at": run.created_at,
        "search_text": fold("\n".join((run.id, run.runner, run.prompt or ""))),
        "due_at": run.due_at if is_delayed else None,
        "priority": run.priority,
        "parent_id": run.parent_id,
        "concurrency_key": run.limit.key if run.limit else None,
        "concurrency_limit": run.limit.most if run.limit else None,
    }


def step_of(row: Sequence[Any]) -> Step:
    """The step in a row of `STEP_COLUMNS`."""
    values = dict(zip(_STEP_NAMES, row, strict=True))
    undo = values["undo"]
    return Step(
        **{
            **values,
            "status": StepStatus(values["status"]),
            "error": _error_of(values["error"]),
            "undo": None if undo is None else Undo(undo["function"], undo["args"]),
        }
    )


def row_of_step(step: Step) -> dict[str, Any]:
    """A step's row."""
    return {
        "run_id": step.run_id,
        "id": step.id,
        "name": step.name,
        "index": step.index,
        "status": step.status.value,
        "attempt": step.attempt,
        "input": step.input,
        "output": step.output,
        "error": row_of_error(step.error),
        "started_at": step.started_at,
        "ended_at": step.ended_at,
        "parent_id": step.parent_id,
        "undo": None if step.undo is None else {"function": step.undo.function, "args": step.undo.args},
    }


def request_of(row: Sequence[Any]) -> Request:
    """The request in a row of `REQUEST_COLUMNS`."""
    values = dict(zip(_REQUEST_NAMES, row, strict=True))
    value, at, by = (values.pop(name) for name in _NO_ANSWER)
    resolution = values.pop("resolution")
    return Request(
        **{
            **values,
            "kind": RequestKind(values["kind"]),
            # An answer that came while its request was told to have expired: nobody has heard it, or will.
            "answer": None if at is None or resolution == "expired" else Answer(value, at, by),
            "is_resolved": resolution is not None,
        }
    )


def row_of_request(request: Request) -> dict[str, Any]:
    """A request's row."""
    told = "expired" if request.answer is None else "answered"
    return {
        "run_id": request.run_id,
        "id": request.id,
        "kind": request.kind.value,
        "prompt": request.prompt,
        "schema": request.schema,
        "preview": request.preview,
        "asked_at": request.asked_at,
        "expires_at": request.expires_at,
        **(row_of_answer(request.answer) if request.answer else _NO_ANSWER),
        "resolution": told if request.is_resolved else None,
    }


def row_of_answer(answer: Answer) -> dict[str, Any]:
    """An answer's columns in its request's row."""
    return {"answer": answer.value, "answered_at": answer.at, "answered_by": answer.by}


def event_of(body: bytes) -> LoggedEvent:
    """The event with these bytes."""
    return read_event(body)


def parameters_of(change: StatusChange) -> dict[str, Any]:
    """A change of status, under the names that `commits.commit` binds."""
    return {"new_output": change.output, "new_error": row_of_error(change.error), "at": change.at}


def row_of_error(error: RunError | None) -> Mapping[str, str] | None:
    """An error as its column has it."""
    return None if error is None else {"code": error.code, "message": error.message}


def fold(text: str) -> str:
    """Text as the search compares it: without case, in every alphabet."""
    return text.casefold()


def _error_of(value: Mapping[str, str] | None) -> RunError | None:
    return None if value is None else RunError(code=value["code"], message=value["message"])
