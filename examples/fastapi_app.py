"""Runcast inside a FastAPI application, behind the application's own sign-in: one process, nothing beside it.

export REDIS_URL=redis://localhost:6379 RUNCAST_DATA_DIR=.runcast
runcast migrate
uvicorn --app-dir examples fastapi_app:site --timeout-graceful-shutdown 5

curl -c jar localhost:8000/sign-in -d '{"name": "ada"}' -H 'Content-Type: application/json'
curl -b jar localhost:8000/live/runners/greet/runs -d '{"input": {"name": "Ada"}}'
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Body, FastAPI, HTTPException, Request, Response
from starlette.requests import HTTPConnection

from runcast import Runcast, RunContext

SESSIONS: dict[str, str] = {}
"""Who is signed in, by session. In place of yours."""

app = Runcast()


@app.runner
async def greet(run: RunContext, name: str = "world") -> str:
    """Greets somebody."""
    return await run.step("compose", "Hello {}".format, name)


async def who_is_it(connection: HTTPConnection) -> str | None:
    """Asked for each request and each WebSocket: a name lets them in, None is answered with 401."""
    name = SESSIONS.get(connection.cookies.get("session", ""))
    if name == "guest" and connection.scope.get("method") == "POST":
        raise HTTPException(403, "guests may watch, and start nothing")
    return name


gateway = app.asgi(authorize=who_is_it)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """What starts and ends with the site. Leave the worker out if workers run elsewhere."""
    async with gateway.lifespan(), app.worker():
        yield


site = FastAPI(lifespan=lifespan)


@site.post("/sign-in")
async def sign_in(response: Response, name: Annotated[str, Body(embed=True)]) -> dict[str, str]:
    """A sign-in that believes everybody. In place of yours."""
    session = secrets.token_urlsafe()
    SESSIONS[session] = name
    response.set_cookie("session", session, httponly=True, samesite="lax")
    return {"name": name}


@site.get("/")
async def home(request: Request) -> dict[str, str | None]:
    """The site's own routes are where they were."""
    return {"name": SESSIONS.get(request.cookies.get("session", ""))}


site.mount("/live", gateway)


# ruff: noqa: INP001 - an example is a file of its own, not part of a package
