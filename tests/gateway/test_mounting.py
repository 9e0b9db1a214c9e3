"""The gateway below a prefix of somebody's own FastAPI app, run by plain uvicorn on its own WebSocket."""

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from runcast import Runcast
from runcast.asgi import create_gateway
from runcast.assembly import migrate
from runcast.client import RuncastClient
from runcast.config import Settings
from runcast.errors import ConfigurationError
from tests.cli.processes import clean_environment, eventually
from tests.support.stack import Stack, free_port

SITE = """
from fastapi import FastAPI
from runcast import Runcast, RunContext
from runcast.asgi import create_gateway

app = Runcast()

@app.runner
async def greet(run: RunContext, name: str) -> dict[str, str]:
    return {"text": await run.step("compose", str.upper, name)}

gateway = create_gateway(app=app)
site = FastAPI(lifespan=gateway.lifespan)

@site.get("/")
async def home() -> str:
    return "mine"

site.mount("/live", gateway)
"""


class Site:
    """The site as a process, with a worker beside it."""

    def __init__(self, process: Process, stack: Stack, port: int) -> None:
        self.process = process
        self.stack = stack
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/live"
        self.http = httpx.AsyncClient(base_url=self.url, trust_env=False)


@asynccontextmanager
async def start_site(
    redis_url: str, folder: Path, *, api_key: str = "", reference: str = "site_app:site"
) -> AsyncIterator[Site]:
    (folder / "site_app.py").write_text(SITE)
    settings = Settings.load(redis_url=redis_url, data_dir=folder, shutdown_seconds=1.0)
    await migrate(settings)
    environment = {"REDIS_URL": redis_url, "RUNCAST_DATA_DIR": str(folder), "RUNCAST_API_KEY": api_key}
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", reference, "--port", str(port), "--app-dir", str(folder)),
        *("--timeout-graceful-shutdown", "3"),
        cwd=folder,
        env=clean_environment(environment),
        stdin=DEVNULL,
    )
    app = Runcast()

    @app.runner
    async def greet(run: Any, name: str) -> dict[str, str]:
        return {"text": await run.step("compose", str.upper, name)}

    site = Site(process, Stack(app, settings), port)
    site.stack.start_worker()
    try:
        await eventually(lambda: _answers(site), "the site answers")
        yield site
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        await site.stack.close()
        await site.http.aclose()


async def _answers(site: Site) -> bool:
    assert site.process.returncode is None
    try:
        await site.http.get(site.root)
    except httpx.TransportError:
        return False
    return True


async def test_a_gateway_serves_below_a_prefix(redis_url: str, tmp_path: Path) -> None:
    """REST, WebSocket and event stream are there, links lead below the prefix, and the site's own routes stay."""
    async with start_site(redis_url, tmp_path) as site:
        assert (await site.http.get(f"{site.root}/")).json() == "mine"
        assert (await site.http.get(f"{site.root}/runs")).status_code == 404
        assert (await site.http.get("/readyz")).json()["status"] == "ok"
        created = await site.http.post("/runs", json={"runner": "greet", "input": {"name": "ada"}})
        run_id = created.json()["runId"]
        assert created.headers["location"] == created.json()["links"]["self"] == f"/live/runs/{run_id}"
        assert created.json()["links"]["watch"] == f"/live/ws/runs/{run_id}"
        async with asyncio.timeout(20), RuncastClient(site.url) as client:
            seqs = [event.seq async for event in client.watch(run_id)]
        assert seqs == list(range(1, len(seqs) + 1))
        stream = await site.http.get(f"/runs/{run_id}/events", headers={"accept": "text/event-stream"})
        assert stream.text.count("\nid: ") == len(seqs)
        assert (await site.http.get("/openapi.json")).json()["servers"] == [{"url": "/live"}]
        assert (await site.http.get("/runs/stats")).json()["complete"] is True
        site.process.terminate()
        assert await site.process.wait() == -signal.SIGTERM  # uvicorn ends by the signal, once all is closed


async def test_the_key_is_asked_for_below_the_prefix_too(redis_url: str, tmp_path: Path) -> None:
    """Also of who claims to be a browser that wants a page: there are no pages."""
    async with start_site(redis_url, tmp_path, api_key="s3cret") as site:
        for path in ("/runs", "/runs/x", "/runners", "/runs/stats"):
            answer = await site.http.get(path, headers={"accept": "text/html"})
            assert (path, answer.status_code) == (path, 401)
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws{site.url.removeprefix('http')}/ws/runs"):
                pass
        assert refused.value.response.status_code == 401
        assert (await site.http.get("/runs", headers={"authorization": "Bearer s3cret"})).status_code == 200


async def test_a_stopping_server_lets_watchers_go(redis_url: str, tmp_path: Path) -> None:
    """They are told to come back, and the server ends."""
    async with start_site(redis_url, tmp_path) as site:
        await site.stack.stop_worker()
        run_id = (await site.http.post("/runs", json={"prompt": "wait 1 second"})).json()["runId"]
        async with connect(f"ws{site.url.removeprefix('http')}/ws/runs/{run_id}") as socket:
            await socket.recv()
            site.process.terminate()
            await socket.wait_closed()
        assert socket.close_code == 1012
        assert await site.process.wait() == -signal.SIGTERM  # uvicorn ends by the signal, once all is closed


async def test_a_gateway_may_be_the_whole_app(redis_url: str, tmp_path: Path) -> None:
    """Then the server itself tells it of start and stop."""
    async with start_site(redis_url, tmp_path, reference="site_app:gateway") as site:
        answer = await site.http.get(f"{site.root}/readyz")
        assert answer.json()["status"] == "ok"


async def test_a_gateway_that_was_not_started_says_how() -> None:
    """Mounting alone isn't enough: the server tells only the outermost app of its start."""
    site = FastAPI()
    site.mount("/live", create_gateway(Settings()))
    transport = httpx.ASGITransport(site)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        with pytest.raises(ConfigurationError, match=r"FastAPI\(lifespan=gateway.lifespan\)"):
            await http.get("/live/runs")


async def test_a_gateway_is_started_once_at_a_time(redis_url: str, tmp_path: Path) -> None:
    """After its end it may be started again."""
    settings = Settings.load(redis_url=redis_url, data_dir=tmp_path)
    await migrate(settings)
    gateway = create_gateway(settings)
    for _ in range(2):
        async with gateway.lifespan():
            with pytest.raises(ConfigurationError, match="started already"):
                async with gateway.lifespan():
                    pass
