"""A small real server that speaks Runcast's HTTP and WebSocket, and misbehaves as a test tells it to."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from runcast.events import EventType, RunEvent, RunStatus, encode_control, encode_event

RUN_ID = "run-1"
TS = "2026-01-01T00:00:00.000Z"

Script = Callable[[ServerConnection, str], Awaitable[None]]
"""What one connection does: it is given the connection and the cursor that was asked for."""


@dataclass
class Gateway:
    """Connections run the scripts one after the other; the last script serves all further ones."""

    scripts: list[Script] = field(default_factory=list)
    answers: dict[str, tuple[int, object]] = field(default_factory=dict)
    url: str = ""
    cursors: list[str] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    async def serve_connection(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        cursor = parse_qs(urlsplit(connection.request.path).query)["after"][0]
        script = self.scripts[min(len(self.cursors), len(self.scripts) - 1)]
        self.cursors.append(cursor)
        await script(connection, cursor)

    def answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append(request.headers)
        self.paths.append(request.path)
        path = urlsplit(request.path).path
        if path.startswith("/ws/") and path not in self.answers:
            return None
        status, body = self.answers.get(path, (404, {"title": "Not found"}))
        response = connection.respond(HTTPStatus(status), msgspec.json.encode(body).decode())
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/json"
        return response


@asynccontextmanager
async def gateway(*scripts: Script) -> AsyncIterator[Gateway]:
    served = Gateway(list(scripts))
    async with serve(served.serve_connection, "127.0.0.1", 0, process_request=served.answer_http) as server:
        served.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield served


def connected(last_seq: int = 0, status: RunStatus = RunStatus.RUNNING) -> str:
    payload = {"status": "connected", "lastSeq": last_seq, "runStatus": status, "final": status.is_final}
    return encode_control(EventType.RUN_STATUS, RUN_ID, payload, TS).decode()


def event(seq: int, *, attempt: int = 1) -> str:
    return _encode(EventType.LOG, {"message": f"event {seq} of {attempt}"}, seq, attempt)


def ended(seq: int, *, attempt: int = 1) -> str:
    return _encode(EventType.RUN_COMPLETED, {"status": "done", "output": {"ok": True}}, seq, attempt)


def step_succeeded(seq: int, step_id: str) -> str:
    return _encode(EventType.STEP_SUCCEEDED, {"stepId": step_id, "output": None, "ms": 1500}, seq, 1)


def failed(seq: int, *, attempt: int = 1) -> str:
    payload = {"status": "failed", "error": {"code": "boom", "message": "it broke"}}
    return _encode(EventType.RUN_STATUS, payload, seq, attempt)


def _encode(event_type: EventType, payload: Mapping[str, object], seq: int, attempt: int) -> str:
    one = RunEvent(type=event_type, payload=payload, ts=TS, run_id=RUN_ID, seq=seq, attempt=attempt)
    return encode_event(one).decode()


def sends(*frames: str, close: tuple[int, str] | None = (1000, "run finished")) -> Script:
    """Send the frames, then close; with `close=None` the connection is torn off without a goodbye."""

    async def script(connection: ServerConnection, _cursor: str) -> None:
        for frame in frames:
            await connection.send(frame)
        if close is None:
            connection.transport.abort()
        else:
            await connection.close(*close)

    return script


async def stays_silent(connection: ServerConnection, _cursor: str) -> None:
    await connection.wait_closed()
