"""A stand-in for an OpenAI-compatible endpoint: chat completions, streamed as server-sent events as published.

async with openai_server([Turn(calls=[("wait", {"seconds": 1})]), Turn(text=["Done", "."])]) as server:
    settings = Settings(model="openai:gpt-test", model_url=server.base_url, model_api_key=KEY)
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

KEY: Final = "sk-openai-key-for-tests"

Answer = Callable[[Request], Response | None]


@contextlib.asynccontextmanager
async def openai_server(turns: Sequence[Turn], *, answer: Answer | None = None) -> AsyncIterator[ModelServer]:
    """Serve the turns in their order. `answer` may answer in their stead."""
    server = ModelServer()

    async def complete(request: Request) -> Response:
        body = await request.json()
        special = answer(request) if answer else None
        refusal = special or _check(request, body)
        if refusal is not None:
            return refusal
        server.asked.append(body)
        turn = turns[len(server.asked) - 1]
        return StreamingResponse(_stream(body, turn, len(server.asked)), media_type="text/event-stream")

    app = Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])
    async with serve(app) as base_url:
        server.base_url = f"{base_url}/v1"
        yield server


def refuse(status: int, message: str) -> Response:
    """An error in OpenAI's form."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status)


def _check(request: Request, body: dict[str, Any]) -> Response | None:
    if request.headers.get("authorization") not in (f"Bearer {KEY}", "Bearer none"):
        return refuse(401, f"Incorrect API key provided: {request.headers.get('authorization')}")
    if body.get("stream") is not True:
        return refuse(400, "this stand-in streams")
    open_calls: set[str] = set()
    for message in body["messages"]:  # a call that isn't answered before anybody speaks again is refused
        if message["role"] == "tool":
            open_calls.discard(message["tool_call_id"])
        elif open_calls:
            return refuse(400, f"tool calls without an answer: {sorted(open_calls)}")
        open_calls |= {call["id"] for call in message.get("tool_calls") or ()}
    return refuse(400, f"tool calls without an answer: {sorted(open_calls)}") if open_calls else None


async def _stream(body: dict[str, Any], turn: Turn, number: int) -> AsyncIterator[bytes]:
    def chunk(choices: list[dict[str, Any]], **more: Any) -> bytes:
        about = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1_760_000_000}
        return _event({**about, "model": body["model"], "choices": choices, **more})

    def delta(value: dict[str, Any], finish_reason: str | None = None) -> bytes:
        return chunk([{"index": 0, "delta": value, "finish_reason": finish_reason}])

    yield delta({"role": "assistant", "content": ""})
    for text in turn.text:
        yield delta({"content": text})
    await turn.pause()
    for index, (name, arguments) in enumerate(turn.calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        call = {"index": index, "id": f"call_{number}_{index + 1}", "type": "function"}
        yield delta({"tool_calls": [{**call, "function": {"name": name, "arguments": ""}}]})
        for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
            yield delta({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield delta({}, "length" if turn.is_cut else "tool_calls" if turn.calls else "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        yield chunk([], usage={"prompt_tokens": 10 * number, "completion_tokens": number, "total_tokens": 11 * number})
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
