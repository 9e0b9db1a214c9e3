"""A stand-in for LinkedIn that speaks its published Posts API, and refuses what LinkedIn would.

async with linkedin_server() as linkedin:
    settings = Settings(linkedin_url=linkedin.base_url, linkedin_access_token=TOKEN, linkedin_author=AUTHOR)
    ...
    assert linkedin.received[0].path == "/rest/posts"
"""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.service import ReceivedRequest, Service, serve

TOKEN: Final = "linkedin-token-for-tests"
AUTHOR: Final = "urn:li:person:tEst-4uthor"
MAX_CHARS: Final = 3_000

_UNESCAPED: Final = re.compile(r"(?<!\\)(?:\\\\)*[|{}@\[\]()<>#*_~]")
_REQUIRED: Final = ("author", "commentary", "visibility", "distribution", "lifecycleState")

Answer = Callable[[ReceivedRequest], Response | None]


@contextlib.asynccontextmanager
async def linkedin_server(*, token: str = TOKEN, answer: Answer | None = None) -> AsyncIterator[Service]:
    """Serve the API on loopback. `answer` may answer in its stead; where it gives None the API does."""
    service = Service("")

    async def create_post(request: Request) -> Response:
        received = ReceivedRequest(request.method, request.url.path, dict(request.headers), await request.body())
        service.received.append(received)
        special = answer(received) if answer else None
        return special or _create_post(received, token, number=len(service.received))

    app = Starlette(routes=[Route("/rest/posts", create_post, methods=["POST"])])
    async with serve(app) as base_url:
        service.base_url = base_url
        yield service


def too_many_requests(_: ReceivedRequest) -> Response:
    """An `answer`: the limit of calls is reached."""
    body = {"status": 429, "code": "TOO_MANY_REQUESTS", "message": "Resource level throttle limit reached"}
    return JSONResponse(body, status_code=429, headers={"Retry-After": "60"})


def _create_post(received: ReceivedRequest, token: str, *, number: int) -> Response:
    problem = _check_headers(received, token) or _check_body(received)
    if problem is not None:
        status, message = problem
        return JSONResponse({"status": status, "serviceErrorCode": 100, "message": message}, status_code=status)
    return Response(status_code=201, headers={"x-restli-id": f"urn:li:share:{7_000_000_000 + number}"})


def _check_headers(received: ReceivedRequest, token: str) -> tuple[int, str] | None:
    headers = received.headers
    if headers.get("authorization") != f"Bearer {token}":
        return 401, "Invalid access token"
    if not re.fullmatch(r"20\d{2}(0[1-9]|1[0-2])", headers.get("linkedin-version", "")):
        return 426, "A version must be present and active"
    if headers.get("x-restli-protocol-version") != "2.0.0":
        return 400, "The protocol version must be 2.0.0"
    if not headers.get("content-type", "").startswith("application/json"):
        return 415, "The content must be JSON"
    return None


def _check_body(received: ReceivedRequest) -> tuple[int, str] | None:
    body: Any = json.loads(received.body)
    missing = [key for key in _REQUIRED if key not in body]
    if missing:
        return 422, f"ERROR :: /{missing[0]} :: field is required but not found"
    if not re.fullmatch(r"urn:li:(person|organization):[\w-]+", body["author"]):
        return 422, "ERROR :: /author :: is not a URN of a person or organization"
    if body["visibility"] not in ("PUBLIC", "CONNECTIONS") or body["lifecycleState"] != "PUBLISHED":
        return 422, "ERROR :: /visibility :: is not known"
    if body["distribution"].get("feedDistribution") != "MAIN_FEED":
        return 422, "ERROR :: /distribution :: is not known"
    return _check_commentary(body["commentary"])


def _check_commentary(commentary: str) -> tuple[int, str] | None:
    shown = re.sub(r"\\(.)", r"\1", commentary, flags=re.DOTALL)
    if len(shown) > MAX_CHARS:
        return 422, f"ERROR :: /commentary :: length {len(shown)} is greater than {MAX_CHARS}"
    if _UNESCAPED.search(commentary):
        return 422, "ERROR :: /commentary :: a reserved character is not escaped"
    return None
