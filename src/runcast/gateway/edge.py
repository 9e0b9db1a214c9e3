"""The edge: every request passes here once. Where does it come from, who sends it, is its body too large?

Sets `scope["principal"]` where a key is asked for: at everything that tells of runs or changes them. The console's own
files, the probes and the API's description tell nothing. Where a request comes from is always checked. An application
that Runcast is embedded in may say itself who asks; then it is asked in the key's stead.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runcast.core.access import AccessPolicy, Credentials, Principal
from runcast.errors import RuncastError, SignInNeededError, TooLargeError
from runcast.gateway.console import is_page
from runcast.gateway.mounting import path_in
from runcast.gateway.problems import problem_of, problem_of_http

Authorize = Callable[[HTTPConnection], Awaitable[Principal | str | None]]
"""Says who sends a request or opens a WebSocket: a name, or None for somebody unknown. May raise `HTTPException`."""

_KEYED_PREFIXES: Final = ("/runs", "/runners", "/ws")
_CLOSE_REFUSED: Final = 1008
_GOODBYE_SECONDS: Final = 1.0
_SECURITY_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)


class Edge:
    """ASGI middleware, the outermost."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        policy: AccessPolicy,
        max_body_bytes: int,
        has_pages: bool = True,
        authorize: Authorize | None = None,
    ) -> None:
        self._app: Final = app
        self._policy: Final = policy
        self._max_body_bytes: Final = max_body_bytes
        self._authorize: Final = authorize
        self._has_pages: Final = has_pages  # without them what looks like a page is data, and needs the key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer why not."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refusal = await self._refuse(scope)
        if refusal is not None and scope["type"] == "websocket":
            await _deny(refusal, scope, receive, send)
        elif refusal is not None:
            await refusal(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._app(scope, receive, send)
        else:
            await self._app(_as_json(scope), _bounded(receive, self._max_body_bytes), _with_security_headers(send))

    async def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        credentials = Credentials(
            host=headers.get("host"),
            origin=headers.get("origin"),
            authorization=headers.get("authorization"),
            subprotocols=scope.get("subprotocols", ()),
        )
        if (refusal := self._policy.check_origin(credentials)) is not None:
            return problem_of(refusal)
        if self._needs_key(scope):
            try:
                scope["principal"] = await self._identify(scope, credentials)
            except RuncastError as error:
                return problem_of(error)
            except HTTPException as error:
                return problem_of_http(error)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_body_bytes:
            return problem_of(_too_large(self._max_body_bytes))
        return None

    async def _identify(self, scope: Scope, credentials: Credentials) -> Principal:
        if self._authorize is None:
            known = self._policy.identify(credentials)
            if isinstance(known, RuncastError):
                raise known
            return known
        # What it raises besides HTTPException goes through to the application: nobody comes in by a mistake.
        found = await self._authorize(HTTPConnection(scope))
        if not found:
            raise SignInNeededError("sign in first, in the way of the application that this is part of")
        return Principal(found) if isinstance(found, str) else found

    def _needs_key(self, scope: Scope) -> bool:
        return path_in(scope).startswith(_KEYED_PREFIXES) and not (self._has_pages and is_page(scope))


async def _deny(refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the request for a WebSocket with HTTP."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": _CLOSE_REFUSED})  # all that such a server can say: 403
        return
    await refusal(scope, receive, send)
    # uvicorn's default takes the handshake for forgotten if we return before the connection is closed, and logs an
    # error: https://github.com/Kludex/uvicorn/pull/3138. It tells us twice that it is: when we answer, and then.
    with contextlib.suppress(TimeoutError, RuntimeError):  # others tell it once, and may not like to be asked again
        async with asyncio.timeout(_GOODBYE_SECONDS):
            for _ in range(3):  # the request itself comes first
                await receive()


def _as_json(scope: Scope) -> Scope:
    """The API takes nothing but JSON, so a body is read as JSON whatever it is called: `curl -d` calls it a form."""
    if scope["method"] != "POST":
        return scope
    others = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
    return {**scope, "headers": [*others, (b"content-type", b"application/json")]}


def _bounded(receive: Receive, limit: int) -> Receive:
    """A body without a length is counted as it comes."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large(limit)
        return message

    return bounded


def _too_large(limit: int) -> TooLargeError:
    return TooLargeError(f"the body passes the limit of {limit} bytes")


def _with_security_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_SECURITY_HEADERS]
        await send(message)

    return sending
