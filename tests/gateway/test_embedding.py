"""Runcast inside somebody else's application: its own authentication in front, its own process for the worker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import uvicorn
from fastapi import FastAPI, HTTPException
from starlette.requests import HTTPConnection
from starlette.types import Message
from structlog.testing import capture_logs
from uvicorn.config import WSProtocolType
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from runcast import Runcast, RunContext
from runcast.asgi import MountedGateway, Principal
from runcast.assembly import migrate
from runcast.client import RuncastClient
from runcast.config import Settings
from runcast.errors import ConfigurationError, RuncastError, UnauthorizedError
from runcast.services.processor import RunProcessor
from tests.cli.processes import eventually
from tests.support.redis_server import start_redis
from tests.support.stack import free_port

USERS = {"a-token": "ada", "b-token": "bob"}


async def authorize(connection: HTTPConnection) -> Principal | str | None:
    """Who has a token, in a header or in a cookie. Bob may look, but start nothing."""
    token = connection.headers.get("x-token") or connection.cookies.get("session", "")
    name = USERS.get(token)
    if name == "bob" and connection.scope.get("method") == "POST":
        raise HTTPException(403, "bob may only look", headers={"x-reason": "role"})
    return Principal(name) if name == "ada" else name


def greeter(word: str = "Hello") -> Runcast:
    app = Runcast()

    @app.runner
    async def greet(run: RunContext, name: str) -> str:
        return await run.step("compose", lambda: f"{word} {name}")

    @app.runner
    async def ask(run: RunContext) -> dict[str, Any]:
        approval = await run.approve("Go on?")
        return {"approved": approval.approved, "by": approval.by}

    return app


@asynccontextmanager
async def serving(
    gateway: MountedGateway, *others: Callable[[], AbstractAsyncContextManager[None]], ws: WSProtocolType = "auto"
) -> AsyncIterator[str]:
    """A FastAPI app with the gateway below /live, served by uvicorn in this process; yields the prefix's address."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(gateway.lifespan())
            for other in others:
                await stack.enter_async_context(other())
            yield

    site = FastAPI(lifespan=lifespan)
    site.mount("/live", gateway)
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(site, port=port, ws=ws, log_config=None, lifespan="on", timeout_graceful_shutdown=3)
    )
    task = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started or task.done(), "the site is up")
        assert server.started
        yield f"http://127.0.0.1:{port}/live"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def settings(redis_url: str, tmp_path: Path) -> Settings:
    settings = Settings.load(redis_url=redis_url, data_dir=tmp_path, shutdown_seconds=1.0)
    await migrate(settings)
    return settings


async def test_a_worker_runs_inside_the_site(settings: Settings) -> None:
    """One process is site, gateway and worker: a run is created, executed and followed in it."""
    app = greeter()
    async with serving(app.asgi(settings), lambda: app.worker(settings)) as url, RuncastClient(url) as client:
        created = await client.create_run(runner="greet", input={"name": "Ada"})
        async with asyncio.timeout(20):
            seqs = [event.seq async for event in client.watch(created.run_id)]
        assert seqs == list(range(1, len(seqs) + 1))
        assert (await client.get_run(created.run_id)).output == "Hello Ada"


async def test_the_site_says_who_may_come_in(settings: Settings) -> None:
    """Its own check decides over requests and WebSockets alike; nobody needs a key, and any host name is answered."""
    gateway = greeter().asgi(settings, authorize=authorize)
    async with serving(gateway) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for path in ("/runs", "/runs/x", "/runners", "/runs/stats"):
            answer = await http.get(path)
            assert (path, answer.status_code, answer.json()["code"]) == (path, 401, "unauthorized")
            assert answer.json()["title"] == "Nobody is signed in"
        assert (await http.get("/healthz")).status_code == 200
        named = {"x-token": "a-token", "host": "runs.example.com"}
        created = await http.post("/runners/greet/runs", json={"input": {"name": "x"}}, headers=named)
        assert created.status_code == 201
        refused = await http.post("/runners/greet/runs", json={"input": {"name": "x"}}, headers={"x-token": "b-token"})
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        assert (refused.json()["detail"], refused.headers["x-reason"]) == ("bob may only look", "role")
        assert (await http.get("/runs", headers={"x-token": "b-token"})).status_code == 200

        address = f"ws{url.removeprefix('http')}/ws/runs/{created.json()['runId']}"
        with pytest.raises(InvalidStatus) as unknown:
            async with connect(address):
                pass
        assert unknown.value.response.status_code == 401
        async with connect(address, additional_headers={"cookie": "session=b-token"}) as socket:
            assert "connected" in str(await socket.recv())


async def test_clients_of_ours_come_in_as_the_site_wants_it(settings: Settings) -> None:
    """By whatever header its check looks at; without, they say what the site says."""
    app = greeter()
    gateway = app.asgi(settings, authorize=authorize)
    async with serving(gateway, lambda: app.worker(settings)) as url:
        async with RuncastClient(url, headers={"x-token": "a-token"}) as client, asyncio.timeout(20):
            created = await client.create_run(runner="greet", input={"name": "Ada"})
            assert [event async for event in client.watch(created.run_id)][-1].type == "run_completed"
        async with RuncastClient(url) as client:
            for asking in (client.get_run(created.run_id), anext(client.watch(created.run_id))):
                with pytest.raises(UnauthorizedError, match="sign in first"):
                    await asking
        async with RuncastClient(url, headers={"x-token": "b-token"}) as client:
            with pytest.raises(RuncastError, match="bob may only look"):
                await client.create_run(runner="greet", input={"name": "Ada"})


@pytest.mark.parametrize("ws", ["auto", "websockets-sansio"])
async def test_a_refused_socket_is_no_error_of_the_sites(
    settings: Settings, ws: WSProtocolType, caplog: pytest.LogCaptureFixture
) -> None:
    """The server has been answered, and has nothing to complain of."""
    async with serving(greeter().asgi(settings, authorize=authorize), ws=ws) as url:
        for _ in range(3):
            with pytest.raises(InvalidStatus) as unknown:
                async with connect(f"ws{url.removeprefix('http')}/ws/runs"):
                    pass
            assert unknown.value.response.status_code == 401
            assert b"sign in first" in (unknown.value.response.body or b"")
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_server_that_can_only_close_does(settings: Settings) -> None:
    """Without ASGI's extension for answers a refused WebSocket is closed before it is open."""
    gateway = greeter().asgi(settings, authorize=authorize)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async with gateway.lifespan():
        scope = {"type": "websocket", "path": "/ws/runs", "headers": [], "query_string": b"", "subprotocols": []}
        await gateway(scope, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_other_sites_pages_stay_outside(settings: Settings) -> None:
    """A cookie comes along with a foreign page's WebSocket, so its Origin is checked before anybody is asked."""
    gateway = greeter().asgi(settings, authorize=authorize)
    async with serving(gateway) as url:
        headers = {"cookie": "session=a-token"}
        with pytest.raises(InvalidStatus) as refused:
            async with connect(
                f"ws{url.removeprefix('http')}/ws/runs",
                origin=Origin("https://evil.example"),
                additional_headers=headers,
            ):
                pass
        assert refused.value.response.status_code == 403


async def test_a_mistake_in_the_check_lets_nobody_in(settings: Settings) -> None:
    """What it raises is the site's to answer: 500, and no run is told of."""

    async def broken(_: HTTPConnection) -> str:
        raise LookupError("no database of users")

    async with serving(greeter().asgi(settings, authorize=broken)) as url, httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{url}/runs")).status_code == 500


async def test_an_answer_is_by_who_was_let_in(settings: Settings) -> None:
    """The name that the check gives is the one that stands at the answer."""
    app = greeter()
    gateway = app.asgi(settings, authorize=authorize)
    async with (
        serving(gateway, lambda: app.worker(settings)) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, headers={"x-token": "a-token"}) as http,
    ):
        run_id = (await http.post("/runners/ask/runs", json={"input": {}})).json()["runId"]

        async def has_status(status: str) -> bool:
            return bool((await http.get(f"/runs/{run_id}")).json()["status"] == status)

        await eventually(lambda: has_status("awaiting_approval"), "it asks")
        answer = await http.post(f"/runs/{run_id}/input", json={"value": {"approved": True}})
        assert answer.status_code == 202
        await eventually(lambda: has_status("done"), "it goes on")
        assert (await http.get(f"/runs/{run_id}")).json()["output"] == {"approved": True, "by": "ada"}


@pytest.fixture
def unconfigured() -> Iterator[None]:
    """Structlog as in a process where nobody has configured it."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


async def greet_once(settings: Settings) -> None:
    app = greeter()
    async with serving(app.asgi(settings), lambda: app.worker(settings)) as url, RuncastClient(url) as client:
        created = await client.create_run(runner="greet", input={"name": "Ada"})
        async with asyncio.timeout(20):
            assert [event async for event in client.watch(created.run_id)]


@pytest.mark.parametrize(
    ("level", "levels"),
    [("error", set()), ("info", {"info"}), ("debug", {"debug", "info"})],
    ids=["error", "info", "debug"],
)
@pytest.mark.usefixtures("unconfigured")
async def test_the_log_level_holds_where_nobody_has_configured_logging(
    settings: Settings, level: str, levels: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """For lines of ours; the site's own loggers say what they said."""
    await greet_once(settings.model_copy(update={"log_level": level}))
    lines = capsys.readouterr().out.splitlines()
    assert {line.partition("[")[2].partition("]")[0].strip() for line in lines} == levels
    structlog.get_logger().debug("mine")
    assert "mine" in capsys.readouterr().out


@pytest.mark.usefixtures("unconfigured")
async def test_a_site_that_has_configured_logging_decides_itself(settings: Settings) -> None:
    """It gets every line that it wants, whatever the level of Runcast."""
    with capture_logs() as lines:
        await greet_once(settings.model_copy(update={"log_level": "error"}))
    assert {"debug", "info"} <= {line["log_level"] for line in lines}


async def test_applications_side_by_side(settings: Settings, tmp_path: Path) -> None:
    """Two applications, each with its own Redis and database, work in one process and don't meet."""
    with start_redis() as other_redis:
        other = Settings.load(redis_url=other_redis.url, data_dir=tmp_path / "other", shutdown_seconds=1.0)
        (tmp_path / "other").mkdir()
        await migrate(other)
        first, second = greeter("Hello"), greeter("Ahoy")
        async with (
            serving(first.asgi(settings), lambda: first.worker(settings)) as one,
            serving(second.asgi(other), lambda: second.worker(other)) as two,
        ):
            outputs = []
            for url in (one, two):
                async with RuncastClient(url) as client, asyncio.timeout(20):
                    created = await client.create_run(runner="greet", input={"name": "Ada"})
                    assert [event async for event in client.watch(created.run_id)]
                    outputs.append((await client.get_run(created.run_id)).output)
        assert outputs == ["Hello Ada", "Ahoy Ada"]


async def test_a_worker_that_can_not_start_says_why(tmp_path: Path) -> None:
    """Before the block is entered."""
    with pytest.raises(ConfigurationError, match="REDIS_URL is not set"):
        async with greeter().worker(Settings(redis_url=None, data_dir=tmp_path)):
            pytest.fail("it is entered")


async def test_a_worker_that_breaks_comes_back(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks it breaks neither the process around it nor the runs that wait."""
    runs = 0
    work = RunProcessor.run

    async def break_once(self: RunProcessor, **options: Any) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("out of luck")
        await work(self, **options)

    monkeypatch.setattr(RunProcessor, "run", break_once)
    app = greeter()
    async with serving(app.asgi(settings), lambda: app.worker(settings)) as url, RuncastClient(url) as client:
        created = await client.create_run(runner="greet", input={"name": "Ada"})
        async with asyncio.timeout(20):
            assert [event async for event in client.watch(created.run_id)]
        assert (await client.get_run(created.run_id)).output == "Hello Ada"
        assert runs == 2
