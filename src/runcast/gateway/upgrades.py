"""Upgrades: who may have a WebSocket of our own, and what is served on it.

The same decisions that the edge takes for requests, before the handshake is answered; whatever is refused is answered
as a problem. What can only be known of the run is said afterwards, by a close code.
"""

from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

from starlette.responses import JSONResponse
from websockets.datastructures import Headers
from websockets.http11 import Response

from runcast.core.access import AccessPolicy
from runcast.errors import RuncastError
from runcast.gateway.handshakes import Handshake
from runcast.gateway.problems import problem, problem_of
from runcast.gateway.socket import GatewaySocket
from runcast.gateway.tags import RunTags
from runcast.gateway.websocket import WebSocketService

RUNS_PATH: Final = "/ws/runs"


class Upgrades:
    """The handler of every `GatewaySocket`."""

    def __init__(self, *, policy: AccessPolicy, sockets: WebSocketService, tags: RunTags) -> None:
        self._policy: Final = policy
        self._sockets: Final = sockets
        self._tags: Final = tags

    def __call__(self, socket: GatewaySocket, handshake: Handshake) -> Coroutine[Any, Any, None] | None:
        """See `Handler`: answer the request, and serve what it asks for."""
        path, _, query = handshake.target.partition("?")
        before, _, run_id = unquote(path).partition(f"{RUNS_PATH}/")
        has_run = not before and bool(run_id) and "/" not in run_id
        if (refusal := self._refuse(handshake)) is not None:
            socket.reject(refusal)
        elif has_run:
            if _accept(socket, handshake):
                return self._sockets.open_run(socket, run_id, query)
        elif path == RUNS_PATH:
            socket.listen()
            if _accept(socket, handshake):
                return self._sockets.open_runs(socket, self._tags)
        else:
            socket.reject(_as_response(_not_found(path)))
        return None

    def _refuse(self, handshake: Handshake) -> Response | None:
        credentials = handshake.credentials
        refusal = self._policy.check_origin(credentials)
        if refusal is None:
            principal = self._policy.identify(credentials)
            refusal = principal if isinstance(principal, RuncastError) else None
        return None if refusal is None else _as_response(problem_of(refusal))


def _accept(socket: GatewaySocket, handshake: Handshake) -> bool:
    refusal = socket.accept(handshake)
    if refusal is None:
        return True
    detail = (refusal.body or b"").decode(errors="replace").strip()
    answer = problem(refusal.status_code, code="bad_handshake", title="Not a WebSocket handshake", detail=detail)
    for name, value in refusal.headers.raw_items():
        if name.lower() in {"allow", "upgrade"}:
            answer.headers[name] = value
    socket.reject(_as_response(answer))
    return False


def _not_found(path: str) -> JSONResponse:
    return problem(HTTPStatus.NOT_FOUND, code="not_found", title="Not Found", detail=f"there is no WebSocket at {path}")


def _as_response(answer: JSONResponse) -> Response:
    headers = Headers(answer.headers.items())
    headers["Connection"] = "close"
    return Response(answer.status_code, HTTPStatus(answer.status_code).phrase, headers, bytes(answer.body))
