"""A model's service on loopback: it answers each request with the next of the streams that it was given.

`chat`, `responses` and `messages` write a stream in the format of OpenAI's chat completions, OpenAI's Responses and
Anthropic's messages; a test may leave out its end, or put in what doesn't belong there.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tests.support.service import ReceivedRequest, Service, serve

_CHAT = {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": "tiny-1"}
_RESPONSE: dict[str, Any] = {
    "id": "response-1",
    "object": "response",
    "created_at": 1,
    "model": "tiny-2",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
}


@contextlib.asynccontextmanager
async def stream_server(*streams: Sequence[str]) -> AsyncIterator[Service]:
    """Serve these streams, each a list of server-sent blocks, one for each request in turn."""
    service = Service("")

    async def answer(request: Request) -> Response:
        received = ReceivedRequest(request.method, request.url.path, dict(request.headers), await request.body())
        service.received.append(received)
        blocks = streams[len(service.received) - 1]
        return StreamingResponse(_each(blocks), media_type="text/event-stream")

    async with serve(Starlette(routes=[Route("/{rest:path}", answer, methods=["POST"])])) as base_url:
        service.base_url = base_url
        yield service


def chat(*deltas: Mapping[str, Any], finish: str | None = "stop", usage: tuple[int, int] | None = (7, 3)) -> list[str]:
    """Chunks with these deltas, the reason why the answer ends, and what it has used."""
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    if finish is not None:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage is not None:
        counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        chunks.append({"choices": [], "usage": counts})
    blocks = [data(_CHAT | chunk) for chunk in chunks]
    return [*blocks, "data: [DONE]\n\n"] if finish is not None else blocks


def chat_call(call_id: str, tool: str, *pieces: str, index: int = 0) -> Iterator[dict[str, Any]]:
    """Deltas that call a tool, the arguments in pieces."""
    yield {"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": {"name": tool}}]}
    for piece in pieces:
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def responses(*events: Mapping[str, Any], end: Mapping[str, Any] | None = None) -> list[str]:
    """Events of a response. It is completed, unless another end is given; an empty one is none."""
    usage = {
        "input_tokens": 7,
        "output_tokens": 3,
        "total_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    completed = {"type": "response.completed", "response": _RESPONSE | {"status": "completed", "usage": usage}}
    created = {"type": "response.created", "response": _RESPONSE | {"status": "in_progress"}}
    last = [completed] if end is None else [end] if end else []
    numbered: list[Mapping[str, Any]] = [created, *events, *last]
    return [named({"sequence_number": number, **event}) for number, event in enumerate(numbered)]


def response_with(**more: Any) -> dict[str, Any]:
    return _RESPONSE | more


def messages(*events: Mapping[str, Any], stop: str | None = "end_turn") -> list[str]:
    """Events of a message between its start and its end."""
    message = {"id": "m-1", "type": "message", "role": "assistant", "model": "tiny-3", "content": []}
    started = message | {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 7, "output_tokens": 1}}
    all_events: list[Mapping[str, Any]] = [{"type": "message_start", "message": started}, {"type": "ping"}, *events]
    if stop is not None:
        delta = {"stop_reason": stop, "stop_sequence": None}
        all_events += [
            {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}},
            {"type": "message_stop"},
        ]
    return [named(event) for event in all_events]


def block(index: int, start: Mapping[str, Any], *deltas: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A block of a message's content."""
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def data(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"


def named(event: Mapping[str, Any]) -> str:
    return f"event: {event['type']}\n{data(event)}"


async def _each(blocks: Sequence[str]) -> AsyncIterator[str]:
    for each in blocks:
        yield each
