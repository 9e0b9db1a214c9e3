"""Each example does what it says."""

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from runcast.assembly import migrate
from runcast.config import Settings
from runcast.events import RunStatus
from runcast.loading import load_app
from runcast.registry import RunnerRegistry
from runcast.testing import RunHarness
from tests.support.stream_server import chat, stream_server

EXAMPLES = Path(__file__).parents[2] / "examples"
Harness = Callable[..., RunHarness]


@pytest.fixture(autouse=True)
def _own_modules() -> Any:
    """What loading an example leaves behind goes again."""
    modules, path = dict(sys.modules), list(sys.path)
    yield
    for name in sys.modules.keys() - modules.keys():
        if name in {file.stem for file in EXAMPLES.glob("*.py")}:
            del sys.modules[name]
    sys.path[:] = path


def load(name: str) -> tuple[RunnerRegistry, ModuleType]:
    app = load_app(str(EXAMPLES / f"{name}.py"))
    return app, sys.modules[name]


async def test_hello(run_harness: Harness) -> None:
    """It streams its greeting."""
    async with run_harness(load("hello")[0]) as harness:
        result = await harness.run("hello", name="Ada")
    assert result.text == "Hello Ada, nice to see you live"
    assert result.output == {"said": result.text}


async def test_chat(run_harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is asked once for each answer, though the worker dies and the run is parked in between."""
    first = chat({"content": "It is "}, {"content": "a server."})
    second = chat({"content": "You are welcome."})
    app, _ = load("chat")
    async with stream_server(first, second) as model, run_harness(app) as harness:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{model.base_url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("CHAT_MODEL", "tiny-1")
        asking = await harness.run("chat", question="What is Redis?", crash_after=["answer"])
        assert (asking.status, asking.text) == ("awaiting_input", "It is a server.")
        again = await harness.answer(asking.id, "Thanks")
        assert again.text == "It is a server.You are welcome."
        result = await harness.answer(again.id, "")
    assert result.status is RunStatus.DONE
    assert [turn["content"] for turn in result.output] == [
        "What is Redis?",
        "It is a server.",
        "Thanks",
        "You are welcome.",
    ]
    assert len(model.received) == 2
    assert result.events_of("usage")


async def test_import_rows(run_harness: Harness, tmp_path: Path) -> None:
    """What was imported isn't imported again after the worker's death; what is wrong is in the artifact."""
    app, module = load("import_rows")
    file = tmp_path / "people.csv"
    people = [f"p{number},{number}" for number in range(2_500)]
    file.write_text("\n".join(["name,age", *people, "Bob,?"]) + "\n")
    parts: list[int] = []
    work = module.import_part

    def import_part(rows: list[dict[str, str]]) -> list[str]:
        parts.append(len(rows))
        wrong: list[str] = work(rows)
        return wrong

    module.import_part = import_part  # type: ignore[attr-defined]
    async with run_harness(app) as harness:
        result = await harness.run("import_rows", file=str(file), crash_after=["rows 1001 to 2000"])
        assert (result.status, result.output) == ("done", {"imported": 2_500, "wrong": 1})
        assert parts == [1_000, 1_000, 501]
        assert len(module.DATABASE) == 2_500
        last = result.events_of("progress")[-1].payload
        assert last == {"value": 2_501, "total": 2_501, "message": "rows imported"}
        assert [event.payload["name"] for event in result.events_of("artifact")] == ["wrong-rows.txt"]

        missing = await harness.run("import_rows", file=str(tmp_path / "nowhere.csv"))
        assert missing.status is RunStatus.FAILED


async def test_approval(run_harness: Harness) -> None:
    """It shows what it is about to do, waits, does it, and can take it back."""
    app, module = load("approval")
    async with run_harness(app) as harness:
        asking = await harness.run("announce", topic="cake")
        assert asking.open_requests[0].preview == {"notice": "News about cake!"}
        assert module.BOARD == []
        result = await harness.answer(asking.id, True, by="Ada")
        assert result.output == {"published": True, "by": "Ada"}
        assert module.BOARD == ["News about cake!"]
        assert (await harness.undo(result.id)).status is RunStatus.DONE
        assert module.BOARD == []

        refused = await harness.run("announce", topic="rain", answers=[False])
        assert refused.output["published"] is False
        late = await harness.run("announce", topic="snow")
        await harness.advance(86_401)
        assert (await harness.settle(late.id)).output == {"published": False, "by": None}
        assert module.BOARD == []


async def test_fan_out(run_harness: Harness) -> None:
    """Each word is a run; one that fails is told of, and the others count."""
    async with run_harness(load("fan_out")[0], concurrency=1) as harness:
        result = await harness.run("census", words=["redis", "4", "sqlite"])
    assert result.output == {"redis": 5, "sqlite": 6}
    assert [child.status for child in result.children] == ["done", "failed", "done"]
    assert [event.payload["level"] for event in result.events_of("log")] == ["warning"]


@pytest.fixture
async def site(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("RUNCAST_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("RUNCAST_SHUTDOWN_SECONDS", "1")
    await migrate(Settings.load())
    _, module = load("fastapi_app")
    async with module.site.router.lifespan_context(module.site):
        yield module.site


async def test_fastapi_app(site: Any) -> None:
    """Who is signed in starts a run in the site's own process; guests may watch; others stay outside."""
    transport = httpx.ASGITransport(site)
    async with httpx.AsyncClient(transport=transport, base_url="http://site.example") as http:
        assert (await http.get("/live/runs")).status_code == 401
        await http.post("/sign-in", json={"name": "ada"})
        assert (await http.get("/")).json() == {"name": "ada"}
        created = await http.post("/live/runners/greet/runs", json={"input": {"name": "Ada"}})
        assert created.status_code == 201
        address = created.json()["links"]["events"]
        async with http.stream("GET", address, headers={"accept": "text/event-stream"}) as stream:
            assert [line async for line in stream.aiter_lines()]
        assert (await http.get(created.json()["links"]["self"])).json()["output"] == "Hello Ada"
        await http.post("/sign-in", json={"name": "guest"})
        assert (await http.get("/live/runs")).status_code == 200
        assert (await http.post("/live/runners/greet/runs", json={"input": {}})).status_code == 403
