"""Errors as answers: RFC 9457 `application/problem+json` for HTTP, a close code with a reason for WebSocket."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from runcast.errors import InvalidInputError, RuncastError, UnauthorizedError
from runcast.logs import get_logger

log = get_logger()

MEDIA_TYPE: Final = "application/problem+json"
_MAX_REASON_BYTES: Final = 123  # of a WebSocket close frame
_HTTP_CODES: Final = {
    401: UnauthorizedError.code,
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
}
Handler = Callable[[Request, Any], Awaitable[JSONResponse]]


def problem(status: int, *, code: str, title: str, detail: str, field: str | None = None) -> JSONResponse:
    """A problem as a response."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    if field is not None:
        body["field"] = field
    headers = {"www-authenticate": "Bearer"} if status == 401 else None  # noqa: PLR2004 - RFC 9110 asks for it
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def problem_of(error: RuncastError) -> JSONResponse:
    """One of our own errors as a response."""
    field = error.field if isinstance(error, InvalidInputError) else None
    return problem(error.http_status, code=error.code, title=error.title, detail=str(error), field=field)


def problem_of_http(error: HTTPException) -> JSONResponse:
    """One of the framework's errors as a response, with the headers that it brings."""
    code = _HTTP_CODES.get(error.status_code, "http_error")
    answer = problem(error.status_code, code=code, title=error.detail, detail=error.detail)
    answer.headers.update(error.headers or {})
    return answer


def close_reason(error: RuncastError) -> str:
    """One of our own errors as the reason of a close frame, cut to what fits."""
    return str(error).encode()[:_MAX_REASON_BYTES].decode(errors="ignore")


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the app as a problem."""
    app.add_exception_handler(RuncastError, _on_runcast_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_exception)


async def _on_runcast_error(_: Request, error: Any) -> JSONResponse:
    return problem_of(error)


async def _on_validation_error(_: Request, error: Any) -> JSONResponse:
    first = error.errors()[0]
    if first["type"] == "missing" and first["loc"] == ("body",):
        return problem_of(InvalidInputError("the body is empty: send a JSON object"))
    is_json = first["type"] != "json_invalid"
    place = ".".join(str(part) for part in first["loc"] if part not in {"body", "query", "path"})
    detail = f"{place}: {first['msg']}" if place and is_json else str(first["msg"])
    return problem(
        422 if is_json else 400,
        code="invalid_input" if is_json else "invalid_json",
        title="The input is not valid" if is_json else "The body is not JSON",
        detail=detail,
        field=place or None if is_json else None,
    )


async def _on_http_exception(_: Request, error: Any) -> JSONResponse:
    if isinstance(error.__cause__, RuncastError):  # raised while the body was read, and wrapped by the framework
        return problem_of(error.__cause__)
    return problem_of_http(error)


async def _on_exception(request: Request, error: Any) -> JSONResponse:
    log.error("❌ a request failed unexpectedly", path=request.url.path, exc_info=error)
    return problem(500, code="internal_error", title="Something went wrong inside Runcast", detail="see the log")
