"""A stand-in for Slack's Web API: `chat.postMessage` as published, with its channels and its ways to refuse.

async with slack_api_server() as slack:
    settings = Settings(slack_url=slack.base_url + "/api", slack_bot_token=TOKEN)
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.service import ReceivedRequest, Service, serve

TOKEN: Final = "xoxb-token-for-tests"
CHANNELS: Final = {"#general": "C0GENERAL", "C0GENERAL": "C0GENERAL"}

Answer = Callable[[ReceivedRequest], Response | None]


@contextlib.asynccontextmanager
async def slack_api_server(*, answer: Answer | None = None) -> AsyncIterator[Service]:
    """Serve the API on loopback. `answer` may answer in its stead; where it gives None the API does."""
    service = Service("")

    async def post_message(request: Request) -> Response:
        received = ReceivedRequest(request.method, request.url.path, dict(request.headers), await request.body())
        service.received.append(received)
        special = answer(received) if answer else None
        return special or JSONResponse(_post_message(received))

    app = Starlette(routes=[Route("/api/chat.postMessage", post_message, methods=["POST"])])
    async with serve(app) as base_url:
        service.base_url = base_url
        yield service


def _post_message(received: ReceivedRequest) -> dict[str, Any]:
    if "authorization" not in received.headers:
        return {"ok": False, "error": "not_authed"}
    if received.headers["authorization"] != f"Bearer {TOKEN}":
        return {"ok": False, "error": "invalid_auth"}
    if received.headers.get("content-type") != "application/json; charset=utf-8":
        return {"ok": False, "error": "invalid_post_type"}
    body = json.loads(received.body)
    channel = CHANNELS.get(body.get("channel"))
    if channel is None:
        return {"ok": False, "error": "channel_not_found"}
    if not body.get("text", "").strip():
        return {"ok": False, "error": "no_text"}
    return {"ok": True, "channel": channel, "ts": "1503435956.000247", "message": {"text": body["text"]}}
