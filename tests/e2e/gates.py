"""Gates: places in other processes where a run waits until the test lets it go on.

A gate is an HTTP request that isn't answered before the test opens it. Runners of `app.py` ask for `/gates/{name}`; the
LinkedIn tool asks for `/rest/posts`, whose gate has the post's text for a name. Each is closed until it is opened.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.service import serve

DEADLINE_SECONDS = 20


class Gate:
    """One place to wait at."""

    def __init__(self) -> None:
        self.arrivals: asyncio.Queue[None] = asyncio.Queue()
        self._opened = asyncio.Event()
        self._left = asyncio.Event()

    def open(self) -> None:
        """Let through whoever waits and whoever comes."""
        self._opened.set()

    async def reached(self) -> None:
        """Return once somebody has come: each arrival counts once."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.arrivals.get()

    async def left(self) -> None:
        """Return once somebody has gone away without having been let through."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._left.wait()

    async def let_through(self, request: Request) -> None:
        self.arrivals.put_nowait(None)
        opened, gone = asyncio.create_task(self._opened.wait()), asyncio.create_task(_wait_gone(request))
        await asyncio.wait({opened, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not self._opened.is_set():
            self._left.set()
        opened.cancel()
        gone.cancel()


class Gates:
    """All gates by name, and where they are."""

    def __init__(self) -> None:
        self.url = ""
        self._gates: dict[str, Gate] = {}

    def __getitem__(self, name: str) -> Gate:
        return self._gates.setdefault(name, Gate())

    def url_of(self, name: str) -> str:
        return f"{self.url}/gates/{name}"

    def open_all(self) -> None:
        for gate in self._gates.values():
            gate.open()

    async def pass_gate(self, request: Request) -> Response:
        await self[request.path_params["name"]].let_through(request)
        return Response()

    async def create_post(self, request: Request) -> Response:
        """What LinkedIn answers to a post."""
        text = (await request.json())["commentary"]
        await self[text].let_through(request)
        return JSONResponse({}, status_code=201, headers={"x-restli-id": f"urn:li:share:{len(self._gates)}"})


@asynccontextmanager
async def serve_gates() -> AsyncIterator[Gates]:
    gates = Gates()
    routes = [
        Route("/gates/{name}", gates.pass_gate),
        Route("/rest/posts", gates.create_post, methods=["POST"]),
    ]
    async with serve(Starlette(routes=routes)) as url:
        gates.url = url
        yield gates
        gates.open_all()


async def _wait_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
