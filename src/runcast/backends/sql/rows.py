"""Records as rows and rows as records: the one place that knows both."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Row

from runcast.backends.sql import schema
from runcast.events import Cursor, LoggedEvent, RunStatus, StepStatus, read_event
from runcast.records import NewRun, Run, RunError, StatusChange, Step

_UNSEEN: Final = {"idempotency_key", "changed_at", "search_text"}  # the table's own: no record has them

RUN_COLUMNS: Final = tuple(column for column in schema.runs.c if column.name not in _UNSEEN)
"""What `run_of` reads, in its order."""

STEP_COLUMNS: Final = tuple(schema.steps.c)
"""What `step_of` reads, in its order."""

_RUN_NAMES: Final = [column.name for column in RUN_COLUMNS]
_STEP_NAMES: Final = [column.name for column in STEP_COLUMNS]


def run_of(row: Row[Any]) -> Run:
    """The run in a row of `RUN_COLUMNS`."""
    values = dict(zip(_RUN_NAMES, row, strict=True))
    last = Cursor(values.pop("last_attempt"), values.pop("last_seq"))
    return Run(
        **{
            **values,
            "last": last,
            "status": RunStatus(values["status"]),
            "tags": tuple(values["tags"]),
            "error": _error_of(values["error"]),
        }
    )


def row_of_new(run: NewRun, first: LoggedEvent) -> dict[str, Any]:
    """A new run's row."""
    return {
        "id": run.id,
        "runner": run.runner,
        "status": RunStatus.QUEUED.value,
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
    }


def step_of(row: Row[Any]) -> Step:
    """The step in a row of `STEP_COLUMNS`."""
    values = dict(zip(_STEP_NAMES, row, strict=True))
    return Step(**{**values, "status": StepStatus(values["status"]), "error": _error_of(values["error"])})


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
    }


def event_of(body: bytes) -> LoggedEvent:
    """The event with these bytes."""
    return read_event(body)


def parameters_of(change: StatusChange) -> dict[str, Any]:
    """A change of status, under the names that `operations.commit` binds."""
    return {"new_output": change.output, "new_error": row_of_error(change.error), "at": change.at}


def row_of_error(error: RunError | None) -> Mapping[str, str] | None:
    """An error as its column has it."""
    return None if error is None else {"code": error.code, "message": error.message}


def fold(text: str) -> str:
    """Text as the search compares it: without case, in every alphabet."""
    return text.casefold()


def _error_of(value: Mapping[str, str] | None) -> RunError | None:
    return None if value is None else RunError(code=value["code"], message=value["message"])
