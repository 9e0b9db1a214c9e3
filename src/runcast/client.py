"""The Python client: asks for runs, and watches them without gaps over any number of connections.

    async with RuncastClient("http://127.0.0.1:3000") as client:
        created = await client.create_run(prompt="wait 3 seconds then GET https://example.com")
        async for event in client.watch(created.run_id):
            print(event.type, event.payload)

Invariant of `watch`: events come as 1, 2, 3 … after the cursor, each once; `core.follower` decides. A connection that
is lost, silent or no longer good is made again from the cursor.
"""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Self, TypeVar, overload
from urllib.parse import quote, urlsplit

import httpx
import msgspec
import websockets
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from runcast.core.access import SUBPROTOCOL
from runcast.core.follower import ControlEvent, Follower, News
from runcast.core.pacing import Backoff
from runcast.errors import (
    ConfigurationError,
    ForbiddenOriginError,
    InvalidInputError,
    RuncastError,
    RunNotFoundError,
    UnauthorizedError,
    UnavailableError,
)
from runcast.events import START, Cursor, RunEvent

__all__ = [
    "DEFAULT_URL",
    "SILENCE_SECONDS",
    "AnswerView",
    "ChildView",
    "ControlEvent",
    "CreatedRun",
    "RequestView",
    "RunList",
    "RunView",
    "RuncastClient",
    "StepView",
]

T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:3000"
SILENCE_SECONDS: Final = 15.0
"""A connection without a frame for so long is dead: heartbeats come every 5 s at most."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_FINISHED: Final = (1000, "run finished")
_REFUSALS: Final = range(4400, 4500)  # close codes that say: trying again changes nothing
_NAME: Final = re.compile("[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # of a header, as RFC 9110 has it
_VALUE: Final = re.compile("(?:[!-~](?:[\t -~]*[!-~])?)?")  # of a header, without what is obsolete: bytes beyond ASCII
_OWN_HEADERS: Final = re.compile("connection|content-length|host|sec-websocket-.*|transfer-encoding|upgrade")
_MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
_TIMEOUT_SECONDS: Final = 30
_BACKOFF: Final = Backoff(base_seconds=0.1, cap_seconds=5)


class CreatedRun(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the API answers when a run is asked for."""

    run_id: str
    status: str
    links: Mapping[str, str] = {}


class StepView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A step as the API shows it."""

    step_id: str
    name: str
    index: int
    status: str
    attempt: int
    input: Any = None
    output: Any = None
    error: Mapping[str, str] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    parent_id: str | None = None
    has_undo: bool = False


class AnswerView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was answered, when and by whom."""

    value: Any
    at: datetime
    by: str | None = None


class RequestView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a run asks people; `schema` is the JSON Schema of the answer."""

    request_id: str
    kind: str
    prompt: str
    schema: Mapping[str, Any]
    asked_at: datetime
    preview: Any = None
    expires_at: datetime | None = None
    answer: AnswerView | None = None
    resolved: bool = False


class ChildView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A run that another has started."""

    run_id: str
    runner: str
    status: str


class RunView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A run as the API shows it. Lists leave `steps`, `requests` and `children` empty."""

    run_id: str
    runner: str
    status: str
    attempt: int
    last_seq: int
    created_at: datetime
    prompt: str | None = None
    input: Mapping[str, Any] = {}
    tags: tuple[str, ...] = ()
    output: Any = None
    error: Mapping[str, str] | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    priority: int = 0
    due_at: datetime | None = None
    parent_id: str | None = None
    losses: int = 0
    failures: int = 0
    steps: tuple[StepView, ...] = ()
    requests: tuple[RequestView, ...] = ()
    children: tuple[ChildView, ...] = ()


class RunList(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of runs, newest first. `next_before` asks for the next page."""

    runs: tuple[RunView, ...]
    next_before: str | None = None


class _Problem(msgspec.Struct, frozen=True, kw_only=True):
    title: str = ""
    detail: str = ""
    code: str = ""
    field: str | None = None


class ConnectionLostError(Exception):
    """A connection ended before the run was over."""


class RuncastClient:
    """A client of one Runcast server. Close it, or use it as an async context manager.

    `headers` go with every request and every WebSocket, to this server alone: what signs one in where the gateway is
    part of an application.

    Raises:
        ConfigurationError: the address is none, or a header can't be sent.

    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        patience_seconds: float = 600,
        silence_seconds: float = SILENCE_SECONDS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(f"RUNCAST_URL: {url!r} is not an http:// or https:// address")
        if "?" in url or "#" in url:
            # What stands there may be a secret: it isn't repeated.
            raise ConfigurationError("RUNCAST_URL: leave out ? and #; what signs a client in is sent as a header")
        self.url: Final = url.rstrip("/")
        self._headers: Final = _read_headers(headers or {}, api_key)
        self._patience_seconds: Final = patience_seconds  # how long `watch` tries to reach a server it once reached
        self._silence_seconds: Final = silence_seconds
        self._jitter: Final = jitter
        self._uses_proxy: Final = parts.hostname not in _LOOPBACK  # a proxy can't reach this machine's loopback
        self._http: Final = httpx.AsyncClient(
            base_url=self.url, headers=self._headers, timeout=_TIMEOUT_SECONDS, trust_env=self._uses_proxy
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def create_run(
        self,
        *,
        prompt: str | None = None,
        runner: str | None = None,
        input: Mapping[str, Any] | None = None,  # noqa: A002  # the wire's word
        tags: Sequence[str] = (),
        idempotency_key: str | None = None,
        priority: int = 0,
        delay_seconds: float | None = None,
        due_at: datetime | None = None,
        mode: str | None = None,
    ) -> CreatedRun:
        """Ask for a run: of a prompt, or of a runner with an input; now, after a delay, or at a time with a zone."""
        if (prompt is None) == (runner is None):
            raise InvalidInputError("give either a prompt or a runner", field="prompt")
        body: dict[str, Any] = {"prompt": prompt} if runner is None else {"input": dict(input or {})}
        body |= {"tags": list(tags)} if tags else {}
        options = {
            "idempotencyKey": idempotency_key or None,
            "priority": priority or None,
            "delaySeconds": delay_seconds,
            "dueAt": due_at.isoformat() if due_at else None,
            "mode": mode,
        }
        body |= {name: value for name, value in options.items() if value is not None}
        path = "/runs" if runner is None else f"/runners/{quote(runner, safe='')}/runs"
        return _read(await self._send("POST", path, json=body), CreatedRun)

    async def get_run(self, run_id: str) -> RunView:
        """One run with its steps."""
        return _read(await self._send("GET", f"/runs/{quote(run_id, safe='')}"), RunView)

    async def list_runs(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        text: str | None = None,
        parent: str | None = None,
        limit: int | None = None,
        before: str | None = None,
    ) -> RunList:
        """A page of runs, newest first."""
        query = {"status": status, "tag": tag, "q": text, "parent": parent, "limit": limit, "before": before}
        params = {name: value for name, value in query.items() if value is not None}
        return _read(await self._send("GET", "/runs", params=params), RunList)

    async def cancel_run(self, run_id: str) -> None:
        """Ask a run to stop; its events tell when it has."""
        await self._send("POST", f"/runs/{quote(run_id, safe='')}/cancel")

    async def answer_run(
        self, run_id: str, value: Any, *, request_id: str | None = None, by: str | None = None
    ) -> None:
        """Answer what a run asks: the request named, else its only open one."""
        body = {"value": value, "requestId": request_id, "by": by}
        given = {name: each for name, each in body.items() if each is not None or name == "value"}
        await self._send("POST", f"/runs/{quote(run_id, safe='')}/input", json=given)

    async def undo_run(self, run_id: str) -> CreatedRun:
        """Have the steps of an ended run undone; the answer is the run that does it."""
        return _read(await self._send("POST", f"/runs/{quote(run_id, safe='')}/undo"), CreatedRun)

    async def get_stats(self) -> dict[str, Any]:
        """The server's stats: connections, channels, handlers."""
        return _read(await self._send("GET", "/runs/stats"), dict[str, Any])

    @overload
    def watch(
        self, run_id: str, *, after: str | Cursor | None = None, control: Literal[False] = False
    ) -> AsyncGenerator[RunEvent]: ...
    @overload
    def watch(
        self, run_id: str, *, after: str | Cursor | None = None, control: Literal[True]
    ) -> AsyncGenerator[RunEvent | ControlEvent]: ...

    async def watch(
        self, run_id: str, *, after: str | Cursor | None = None, control: bool = False
    ) -> AsyncGenerator[RunEvent | ControlEvent]:
        """The run's events after a cursor, until it has ended; with `control` the connection's own frames, too.

        A lost connection is made again from the last event; leaving the loop never stops the run.

        Raises:
            RunNotFoundError: there is no such run.
            UnauthorizedError: a key is needed, or this one is wrong.
            UnavailableError: the server couldn't be reached at first, or not again within `patience_seconds`.

        """
        follower = Follower(after=Cursor.parse(after) if isinstance(after, str) else after or START)
        clock = asyncio.get_running_loop().time
        contact: float | None = None  # when the last frame came
        failures = 0
        while not follower.is_ended:
            before = follower.cursor
            try:
                async with contextlib.aclosing(self._receive(run_id, follower)) as received:
                    async for news in received:
                        contact = clock()
                        for event in news:
                            if control or isinstance(event, RunEvent):
                                yield event
            except ConnectionLostError as lost:
                if contact is None or clock() - contact > self._patience_seconds:
                    raise UnavailableError(f"{self.url} can't be reached: {lost}") from lost
            else:
                return
            failures = 1 if follower.cursor != before else failures + 1
            await asyncio.sleep(_BACKOFF.delay_seconds(failures, jitter=self._jitter()))

    async def _receive(self, run_id: str, follower: Follower) -> AsyncGenerator[Sequence[News]]:
        """What one connection brings; ends when the run is over.

        Raises:
            ConnectionLostError: the connection is no longer of use, but another may be.

        """
        follower.begin()
        address = f"ws{self.url.removeprefix('http')}/ws/runs/{quote(run_id, safe='')}?after={follower.cursor}"
        try:
            async with _Connect(
                address,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                additional_headers=self._headers,
                proxy=True if self._uses_proxy else None,
                max_size=_MAX_FRAME_BYTES,
                ping_interval=None,  # the server's heartbeats tell more
                close_timeout=1,
            ) as socket:
                yield ()  # the server is there
                async for frame in _frames(socket.recv, silence_seconds=self._silence_seconds):
                    received = follower.receive_message(frame)
                    yield received.news
                    if not received.is_sound:
                        raise ConnectionLostError("what came doesn't follow the last event")
                    if follower.is_ended:
                        return
        except websockets.ConnectionClosed as closed:
            _raise_if_refused(closed, run_id)
            if closed.rcvd is None or (closed.rcvd.code, closed.rcvd.reason) != _FINISHED:
                raise ConnectionLostError(str(closed)) from closed
        except websockets.InvalidStatus as refusal:
            raise _refused_handshake(refusal.response.status_code, refusal.response.body or b"") from refusal
        except (OSError, TimeoutError, websockets.InvalidHandshake) as error:
            raise ConnectionLostError(str(error) or "no answer in time") from error

    async def _send(self, method: str, path: str, **options: Any) -> bytes:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UnavailableError(f"{self.url} can't be reached: {reason}") from error
        if response.is_success:
            return response.content
        raise _to_error(response.status_code, response.content)


class _Connect(connect):
    """Follows no redirect, as requests don't: what signs the client in is for the server that was named."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """See `connect`."""
        return exc


def _read_headers(headers: Mapping[str, str], api_key: str | None) -> dict[str, str]:
    """What goes with each request.

    Raises:
        ConfigurationError: something in it can't be sent. The message never has a value.

    """
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or _OWN_HEADERS.fullmatch(name.lower()):
            raise ConfigurationError(f"headers: {name!r} is not the name of a header that can be given")
        if not _VALUE.fullmatch(value):
            raise ConfigurationError(f"headers: the value of {name!r} is not ASCII without line breaks")
    if not api_key:
        return dict(headers)
    if "authorization" in {name.lower() for name in headers}:
        raise ConfigurationError("headers: give the API key or an Authorization header, not both")
    return {**headers, "Authorization": f"Bearer {api_key}"}


async def _frames(receive: Callable[[], Any], *, silence_seconds: float) -> AsyncIterator[str | bytes]:
    while True:
        try:
            yield await asyncio.wait_for(receive(), silence_seconds)
        except TimeoutError:
            raise ConnectionLostError(f"no frame for {silence_seconds:g} s") from None


def _raise_if_refused(closed: websockets.ConnectionClosed, run_id: str) -> None:
    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, "")
    if code == RunNotFoundError.close_code:
        raise RunNotFoundError(run_id) from closed
    for kind in (UnauthorizedError, ForbiddenOriginError):
        if code == kind.close_code:
            raise kind(reason or kind.title) from closed
    if code in _REFUSALS:
        raise InvalidInputError(reason or f"the server refused the connection with code {code}") from closed


def _refused_handshake(status: int, body: bytes | bytearray) -> Exception:
    if status >= 500 or status == 429:  # noqa: PLR2004  # the classes of HTTP; 429 passes with time
        return ConnectionLostError(f"HTTP {status}")
    return _to_error(status, body)


def _read(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise UnavailableError(f"the answer is not what a Runcast server says: {error}") from error


def _to_error(status: int, body: bytes | bytearray) -> RuncastError:
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem()
    if not problem.code:
        return _to_error_of_others(status, problem.detail)
    kind = _KINDS.get(problem.code, RuncastError)
    error = kind.__new__(kind)  # the server has made the sentence; the class's own constructor would make another
    error.args = (problem.detail or problem.title,)
    if isinstance(error, InvalidInputError):
        error.field = problem.field
    return error


def _to_error_of_others(status: int, detail: str) -> RuncastError:
    """What an answer means that isn't Runcast's: of an application around it, or a proxy before it."""
    if status == UnauthorizedError.http_status:
        return UnauthorizedError(detail or "the server wants to know who asks (HTTP 401)")
    if status == ForbiddenOriginError.http_status:
        return ForbiddenOriginError(detail or "the server doesn't answer to this address or key (HTTP 403)")
    return UnavailableError(f"this address is not a Runcast server (HTTP {status})")


def _tree(kind: type[RuncastError]) -> list[type[RuncastError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _tree(child))]


# Of several with one code the most general: the tree is walked from its leaves.
_KINDS: Final = {kind.code: kind for kind in reversed(_tree(RuncastError))}
