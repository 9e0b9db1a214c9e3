"""A stand-in for Anthropic's Messages API, streamed as server-sent events as published.

async with anthropic_server([Turn(text=["Hello", "."])]) as server:
    settings = Settings(model="anthropic:claude-test", model_url=server.base_url, model_api_key=KEY)
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.support.model_script import ModelServer, Turn
from tests.support.service import serve

KEY: Final = "sk-anthropic-key-for-tests"

Answer = Callable[[Request], Response | None]


@contextlib.asynccontextmanager
async def anthropic_server(turns: Sequence[Turn], *, answer: Answer | None = None) -> AsyncIterator[ModelServer]:
    """Serve the turns in their order. `answer` may answer in their stead."""
    server = ModelServer()

    async def create(request: Request) -> Response:
        body = await request.json()
        special = answer(request) if answer else None
        refusal = special or _check(request, body)
        if refusal is not None:
            return refusal
        server.asked.append(body)
        turn = turns[len(server.asked) - 1]
        return StreamingResponse(_stream(body, turn, len(server.asked)), media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/messages", create, methods=["POST"])])
    async with serve(app) as base_url:
        server.base_url = base_url
        yield server


def refuse(status: int, kind: str, message: str) -> Response:
    """An error in Anthropic's form."""
    return JSONResponse({"type": "error", "error": {"type": kind, "message": message}}, status)


def _check(request: Request, body: dict[str, Any]) -> Response | None:
    if f"Bearer {KEY}" not in (request.headers.get("authorization"), f"Bearer {request.headers.get('x-api-key')}"):
        return refuse(401, "authentication_error", "invalid API key")
    if "anthropic-version" not in request.headers or not isinstance(body.get("max_tokens"), int):
        return refuse(400, "invalid_request_error", "anthropic-version and max_tokens are required")
    if body.get("stream") is not True:
        return refuse(400, "invalid_request_error", "this stand-in streams")
    for message, following in zip(body["messages"], [*body["messages"][1:], None], strict=True):
        used = _ids(message, "tool_use", "id")
        answered = _ids(following, "tool_result", "tool_use_id") if following else set()
        if used - answered:
            return refuse(400, "invalid_request_error", f"tool_use without tool_result: {sorted(used - answered)}")
    return None


def _ids(message: dict[str, Any], kind: str, key: str) -> set[str]:
    content = message["content"]
    return set() if isinstance(content, str) else {block[key] for block in content if block["type"] == kind}


async def _stream(body: dict[str, Any], turn: Turn, number: int) -> AsyncIterator[bytes]:
    usage = {"input_tokens": 10 * number, "output_tokens": 1}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": [], "model": body["model"]}
    yield _event("message_start", message={**message, "stop_reason": None, "stop_sequence": None, "usage": usage})
    yield _event("ping")
    index = 0
    if turn.text:
        yield _event("content_block_start", index=index, content_block={"type": "text", "text": ""})
        for text in turn.text:
            yield _event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})
    await turn.pause()
    if turn.text:
        yield _event("content_block_stop", index=index)
        index += 1
    for place, (name, arguments) in enumerate(turn.calls, start=1):
        block = {"type": "tool_use", "id": f"toolu_{number}_{place}", "name": name, "input": {}}
        yield _event("content_block_start", index=index, content_block=block)
        text = json.dumps(arguments)
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            yield _event("content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece})
        yield _event("content_block_stop", index=index)
        index += 1
    reason = "max_tokens" if turn.is_cut else "tool_use" if turn.calls else "end_turn"
    yield _event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": number})
    yield _event("message_stop")


def _event(kind: str, **payload: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **payload})}\n\n".encode()
