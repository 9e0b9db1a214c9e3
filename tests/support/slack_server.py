"""A stand-in for Slack's incoming webhooks: it answers `ok`, or refuses in Slack's words.

async with slack_server() as slack:
    settings = Settings(slack_webhook_url=slack.base_url + WEBHOOK_PATH)
    ...
    assert json.loads(slack.received[0].body) == {"text": "Hello"}
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.support.service import ReceivedRequest, Service, serve

WEBHOOK_PATH: Final = "/services/T0TEST/B0TEST/webhook-secret-for-tests"
MAX_CHARS: Final = 40_000

Answer = Callable[[ReceivedRequest], Response | None]


@contextlib.asynccontextmanager
async def slack_server(*, path: str = WEBHOOK_PATH, answer: Answer | None = None) -> AsyncIterator[Service]:
    """Serve one webhook on loopback. `answer` may answer in its stead; where it gives None the webhook does."""
    service = Service("")

    async def receive_message(request: Request) -> Response:
        received = ReceivedRequest(request.method, request.url.path, dict(request.headers), await request.body())
        service.received.append(received)
        special = answer(received) if answer else None
        return special or _receive_message(received, path)

    app = Starlette(routes=[Route("/services/{rest:path}", receive_message, methods=["POST"])])
    async with serve(app) as base_url:
        service.base_url = base_url
        yield service


def too_many_requests(_: ReceivedRequest) -> Response:
    """An `answer`: more than about one message a second."""
    return PlainTextResponse("rate_limited", status_code=429, headers={"Retry-After": "30"})


def _receive_message(received: ReceivedRequest, path: str) -> Response:
    if received.path != path:
        return PlainTextResponse("no_service", status_code=404)
    if not received.headers.get("content-type", "").startswith("application/json"):
        return PlainTextResponse("invalid_payload", status_code=400)
    try:
        text = json.loads(received.body)["text"]
    except (ValueError, KeyError, TypeError):
        return PlainTextResponse("invalid_payload", status_code=400)
    if not isinstance(text, str) or not text.strip():
        return PlainTextResponse("no_text", status_code=400)
    if len(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")) > MAX_CHARS:
        return PlainTextResponse("msg_too_long", status_code=400)
    return PlainTextResponse("ok")
