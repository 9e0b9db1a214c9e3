"""What runs ask people: kept, answered once, and when a run that waits for an answer is due."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, exists, func, or_, select, update

from runcast.backends.sql import rows
from runcast.backends.sql.schema import UtcTime, requests, runs
from runcast.backends.sql.statement import Statement, any_of
from runcast.backends.sql.writing import change_run, lock_run, upsert
from runcast.core.lifecycle import PARKABLE, is_parked
from runcast.errors import RequestClosedError, RequestNotFoundError, RunNotFoundError
from runcast.events import RunStatus
from runcast.records import Answer, Request, Run

_PUT: Final = upsert(requests, keeping=("answer", "answered_at", "answered_by"))


def is_answered() -> ColumnElement[bool]:
    """Whether a request has an answer that its run doesn't know of yet."""
    return and_(requests.c.answered_at.is_not(None), requests.c.resolution.is_(None))


_HAS_ANSWER: Final = exists().where(requests.c.run_id == runs.c.id, is_answered())
_WAKE: Final = Statement(
    update(runs)
    .where(runs.c.id == bindparam("run"))
    .where(
        or_(
            runs.c.cancel_requested_at.is_not(None),
            and_(any_of(runs.c.status, PARKABLE), _HAS_ANSWER),
        )
    )
    .values(due_at=bindparam("now", type_=UtcTime))
)
_IS_OF_RUN: Final = requests.c.run_id == bindparam("run")
_IS_ASKED: Final = and_(_IS_OF_RUN, requests.c.id == bindparam("request"))
_ASKED: Final = select(*rows.REQUEST_COLUMNS)
_LIST_REQUESTS: Final = Statement(
    _ASKED.where(_IS_OF_RUN).order_by(requests.c.asked_at, func.length(requests.c.id), requests.c.id)
)
_FIND_REQUEST: Final = Statement(_ASKED.where(_IS_ASKED))
_ANSWER: Final = Statement(
    update(requests)
    .where(_IS_ASKED)
    .values({name: bindparam(name) for name in ("answer", "answered_at", "answered_by")})
)
_LIST_UNRESOLVED: Final = Statement(
    select(requests.c.answered_at, requests.c.expires_at).where(_IS_OF_RUN, requests.c.resolution.is_(None))
)


def put_requests(connection: Connection, given: Sequence[Request]) -> None:
    """Write requests. One that is there keeps the answer that it has."""
    _PUT.run_each(connection, [rows.row_of_request(request) for request in given])


def list_requests(connection: Connection, run_id: str) -> Sequence[Request]:
    """See `RunStore.list_requests`."""
    return [rows.request_of(row) for row in _LIST_REQUESTS.all(connection, {"run": run_id})]


def answer_request(connection: Connection, run_id: str, request_id: str, answer: Answer) -> Run:
    """See `RunStore.answer_request`. The run is locked first: its holder can't park it between look and answer."""
    run = lock_run(connection, run_id)
    if run is None:
        raise RunNotFoundError(run_id)
    _check_open(run, _find(connection, run_id, request_id), answer.at)
    _ANSWER.run(connection, {"run": run_id, "request": request_id, **rows.row_of_answer(answer)})
    if not is_parked(run.status, run.worker_id):
        return run
    return change_run(connection, run_id, {"due_at": answer.at})


def wake_if_answered(connection: Connection, run_id: str, *, now: datetime) -> None:
    """Make a run that nobody holds due at once if it was answered, or its cancel requested, just before."""
    _WAKE.run(connection, {"run": run_id, "now": now})


def due_when_parked(connection: Connection, run: Run, *, planned: datetime | None, now: datetime) -> datetime | None:
    """When a waiting run goes on that its worker can't park any more."""
    unresolved = _LIST_UNRESOLVED.all(connection, {"run": run.id})
    if run.cancel_requested_at is not None or any(answered_at is not None for answered_at, _ in unresolved):
        return now
    moments: list[datetime | None] = [planned, run.due_at, *(expires_at for _, expires_at in unresolved)]
    known = [moment for moment in moments if moment is not None]
    if not known and run.status is RunStatus.DELAYED:
        return now  # nobody knows until when: the runner does
    return min(known, default=None)


def _find(connection: Connection, run_id: str, request_id: str) -> Request:
    row = _FIND_REQUEST.first(connection, {"run": run_id, "request": request_id})
    if row is None:
        raise RequestNotFoundError(run_id, request_id)
    return rows.request_of(row)


def _check_open(run: Run, request: Request, at: datetime) -> None:
    if request.answer is not None:
        raise RequestClosedError(request.id, "it was answered")
    if request.is_resolved or (request.expires_at is not None and request.expires_at <= at):
        raise RequestClosedError(request.id, "it has expired")
    if run.status.is_final:
        raise RequestClosedError(request.id, f"the run ended as {run.status}")
