"""Which request an answer is for, and whether it fits. No I/O."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from jsonschema import Draft202012Validator, SchemaError
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from runcast.errors import InvalidInputError, RequestClosedError, RequestNotFoundError
from runcast.records import Request

MAX_NAME_CHARS: Final = 200
_NOTHING_ELSE: Final[Registry[Any]] = Registry()  # a schema refers to nothing but itself: nothing is fetched for it


def find_request(requests: Sequence[Request], run_id: str, request_id: str | None, *, now: datetime) -> Request:
    """The request that is meant: the one named, else the only one that is open.

    Raises:
        RequestNotFoundError: none has this id.
        RequestClosedError: without an id: none is open.
        InvalidInputError: without an id: several are open.

    """
    if request_id is not None:
        for request in requests:
            if request.id == request_id:
                return request
        raise RequestNotFoundError(run_id, request_id)
    open_ones = [request for request in requests if is_open(request, now=now)]
    if not open_ones:
        raise RequestClosedError(f"run {run_id}", "it asks for nothing now")
    if len(open_ones) > 1:
        names = ", ".join(request.id for request in open_ones)
        raise InvalidInputError(f"several requests are open: name one of {names}", field="requestId")
    return open_ones[0]


def is_open(request: Request, *, now: datetime) -> bool:
    """Whether a request still takes an answer, as far as it is up to it."""
    is_late = request.expires_at is not None and request.expires_at <= now
    return request.answer is None and not request.is_resolved and not is_late


def check_answer(schema: Mapping[str, Any], value: Any) -> None:
    """Check an answer by its request's JSON Schema.

    Raises:
        InvalidInputError: it doesn't fit; `field` names the first place. Or the schema itself can't be used.

    """
    try:
        Draft202012Validator.check_schema(schema)
        wrong = best_match(Draft202012Validator(schema, registry=_NOTHING_ELSE).iter_errors(value))
    except (SchemaError, Unresolvable, RecursionError) as error:
        raise InvalidInputError(f"the request's schema can't be used: {type(error).__name__}") from None
    if wrong is not None:
        place = ".".join(("value", *map(str, wrong.absolute_path)))
        raise InvalidInputError(f"{place}: {wrong.message[:500]}", field=place)


def check_name(by: str | None) -> None:
    """Check who is said to have answered."""
    if by is not None and not 1 <= len(by) <= MAX_NAME_CHARS:
        raise InvalidInputError(f"a name has 1 to {MAX_NAME_CHARS} characters", field="by")
