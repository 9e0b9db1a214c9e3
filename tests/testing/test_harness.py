"""The harness that users test their runners with."""

import asyncio
from collections.abc import Callable

import pydantic
import pytest
import structlog

from runcast import Runcast, RunContext
from runcast.app import SyncRunContext
from runcast.errors import InvalidInputError
from runcast.testing import RunHarness

app = Runcast()
calls: list[str] = []

Harness = Callable[..., RunHarness]


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


def note(what: str) -> str:
    calls.append(what)
    return what


def unnote(what: str) -> None:
    calls.append(f"not {what}")


@app.step(undo=unnote)
def send(what: str) -> str:
    return note(what)


@app.runner
async def research(run: RunContext, topic: str) -> dict[str, bool]:
    """Finds, writes, asks, sends."""
    found = await run.step("search", note, topic)
    async with run.message() as answer:
        for word in ("All ", "about ", found):
            answer.write(word)
    if not await run.approve("Send it?", preview=answer.text):
        return {"sent": False}
    await run.step("send", send, answer.text)
    return {"sent": True}


@app.runner
async def sleepy(run: RunContext, days: int) -> str:
    """Sleeps."""
    await run.sleep(days * 86_400)
    return "awake"


@app.runner(retries=2)
async def flaky(run: RunContext) -> int:
    """Fails in its first attempts."""
    if run.attempt < 3:
        raise LookupError("not yet")
    return run.attempt


@app.runner
async def family(run: RunContext) -> list[str]:
    """Two children, one of which sleeps."""
    children = [await run.start(sleepy, days=1), await run.start("name")]
    return [await child.result() for child in children]


class Page(pydantic.BaseModel):
    title: str


@app.runner
async def fetch(_: RunContext, title: str) -> Page:
    """Gives a model."""
    return Page(title=title)


@app.runner
def fetch_plainly(_: SyncRunContext, title: str) -> list[Page]:
    """Gives models."""
    return [Page(title=title)]


@app.runner
async def read(run: RunContext) -> list[str]:
    """Three children that give models, one of which is known only by its name."""
    page = await run.call(fetch, title="a")
    (other,) = await (await run.start(fetch_plainly, title="b")).result()
    return [page.title, other.title, (await run.call("fetch", title="c"))["title"]]


@app.runner
def read_plainly(run: SyncRunContext) -> str:
    """A child that gives a model."""
    title: str = run.call(fetch, title="d").title
    return title


@app.runner
async def name(run: RunContext) -> str:
    """Asks for a name."""
    return await run.ask("Who?", schema=str)


@app.runner
async def patient(run: RunContext) -> str:
    """Waits an hour for a decision."""
    try:
        await run.approve("Now?", timeout_seconds=3_600)
    except TimeoutError:
        return "nobody came"
    return "somebody came"


@app.runner
async def endless(run: RunContext) -> None:
    """Works until it is canceled."""
    run.log("begun")
    try:
        await asyncio.Event().wait()
    finally:
        note("cleaned up")


@app.runner
def plain(run: SyncRunContext, number: int) -> int:
    """A plain function."""
    run.progress(number, 10)
    return run.step("double", lambda: number * 2)


async def test_a_run_with_answers(run_harness: Harness) -> None:
    """One line executes it to its end; events, text and output are there to look at."""
    async with run_harness(app) as harness:
        result = await harness.run("research", topic="redis", answers=[True])
        assert (result.status, result.output, result.text) == ("done", {"sent": True}, "All about redis")
        assert [step.name for step in result.steps] == ["search", "send"]
        assert [event.seq for event in result.events] == list(range(1, len(result.events) + 1))
        assert "".join(event.payload["delta"] for event in result.events_of("message_delta")) == "All about redis"
        assert calls == ["redis", "All about redis"]  # once each, though it went on in a second attempt


async def test_without_answers_it_stops_where_it_asks(run_harness: Harness) -> None:
    """The test looks at the question, and then answers it."""
    async with run_harness(app) as harness:
        asking = await harness.run(research, topic="redis")
        assert asking.status == "awaiting_approval"
        assert [request.preview for request in asking.open_requests] == ["All about redis"]
        with pytest.raises(InvalidInputError):
            await harness.answer(asking.id, "perhaps")
        result = await harness.answer(asking.id, False, by="ada")
        assert (result.status, result.output) == ("done", {"sent": False})
        assert result.requests[0].answer is not None
        assert result.requests[0].answer.by == "ada"


async def test_days_pass_in_no_time(run_harness: Harness) -> None:
    """Sleeps, and waits before another attempt, are skipped."""
    async with run_harness(app) as harness:
        assert (await harness.run("sleepy", days=30, timeout_seconds=10)).output == "awake"
        result = await harness.run("flaky", timeout_seconds=10)
        assert result.output == 3
        assert len([event for event in result.events if event.payload.get("status") == "retrying"]) == 2


async def test_children_are_looked_after_too(run_harness: Harness) -> None:
    """What they wait for comes as well."""
    async with run_harness(app) as harness:
        result = await harness.run("family", answers=["Ada"])
        assert result.output == ["awake", "Ada"]
        assert [child.runner for child in result.children] == ["sleepy", "name"]


async def test_a_child_gives_the_type_that_its_runner_returns(run_harness: Harness) -> None:
    """If it was started by the function; by its name, JSON."""
    async with run_harness(app) as harness:
        assert (await harness.run("read")).output == ["a", "b", "c"]
        assert (await harness.run("read_plainly")).output == "d"


async def test_nobody_answers_in_time(run_harness: Harness) -> None:
    """A time-out comes when the test lets time pass."""
    async with run_harness(app) as harness:
        asking = await harness.run("patient")
        await harness.advance(3_601)
        assert (await harness.settle(asking.id)).output == "nobody came"


@pytest.mark.parametrize("step", ["search", "send"])
async def test_a_worker_dies_between_steps(step: str, run_harness: Harness) -> None:
    """What was committed isn't done again by the worker that goes on."""
    async with run_harness(app) as harness:
        result = await harness.run("research", topic="redis", answers=[True], crash_after=[step])
        assert (result.status, result.output, result.run.losses) == ("done", {"sent": True}, 1)
        assert calls == ["redis", "All about redis"]


async def test_a_worker_dies_at_work(run_harness: Harness) -> None:
    """A run that it had in hand is tried again by the next."""
    async with run_harness(app) as harness:
        run_id = await harness.start("endless")
        await harness.wait_for(run_id, "log")
        await harness.crash()
        while (await harness.look(run_id)).run.attempt < 2:
            await asyncio.sleep(0.01)
        result = await harness.cancel(run_id)
        assert (result.status, result.run.losses) == ("canceled", 1)


async def test_a_run_is_canceled(run_harness: Harness) -> None:
    """Its runner cleans up."""
    async with run_harness(app) as harness:
        run_id = await harness.start("endless")
        await harness.wait_for(run_id, "log")
        result = await harness.cancel(run_id)
        assert (result.status, calls) == ("canceled", ["cleaned up"])


async def test_a_run_is_undone(run_harness: Harness) -> None:
    """Undo is a run that can be looked at as well."""
    async with run_harness(app) as harness:
        result = await harness.run("research", topic="redis", answers=[True])
        undone = await harness.undo(result.id)
        assert undone.status == "done"
        assert calls[-1] == "not All about redis"


async def test_a_plain_function(run_harness: Harness) -> None:
    """Runs in its thread."""
    async with run_harness(app) as harness:
        assert (await harness.run("plain", number=4)).output == 8


async def test_a_test_is_quiet_unless_told(
    run_harness: Harness, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only warnings, or what the level asks for."""
    structlog.reset_defaults()
    async with run_harness(app) as harness:
        await harness.run("plain", number=4)
    assert capsys.readouterr().out == ""
    async with run_harness(app, log_level="debug") as harness:
        await harness.run("plain", number=4)
    assert "[debug" in capsys.readouterr().out
    monkeypatch.setenv("RUNCAST_LOG_LEVEL", "info")
    async with run_harness(app) as harness:
        await harness.run("plain", number=4)
    assert "[info" in capsys.readouterr().out


async def test_a_harness_brings_its_own_folder() -> None:
    """Without pytest's fixture there is one for the time that it lasts."""
    async with RunHarness(app) as harness:
        with pytest.raises(InvalidInputError):
            await harness.run("plain", number="four")
        assert (await harness.run("plain", number=1)).output == 2


async def test_a_test_that_tries_nothing_fails(run_harness: Harness) -> None:
    """Answers that nobody asks for, and a crash after a step that isn't there, are mistakes."""
    async with run_harness(app) as harness:
        with pytest.raises(AssertionError, match=r"has ended as done and has not asked for the answers \[True\]"):
            await harness.run("sleepy", days=1, answers=[True])
        with pytest.raises(AssertionError, match="has ended as done, and no step 'no such' was committed"):
            await harness.run("sleepy", days=1, crash_after=["no such"])
