"""What anybody may ask of runs that wait, are limited, or have ended: over REST, with a real worker."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runcast import Limit, Runcast, RunContext
from runcast.client import RuncastClient
from runcast.records import Job
from runcast.services.runs import run_id_of
from tests.cli.test_commands import watched
from tests.gateway.test_api import assert_problem, wait_for_status
from tests.support.stack import Stack, start_stack

app = Runcast()
undone: list[str] = []


def take_back(what: str) -> str:
    undone.append(what)
    return what


@app.step(undo=take_back)
def put(what: str) -> str:
    return what


@app.runner
async def ask(run: RunContext, times: int = 1) -> dict[str, Any]:
    """Asks for numbers, all at once."""
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(run.ask(f"How many, {number}?", schema=int)) for number in range(times)]
    return {"numbers": [each.result() for each in asked]}


@app.runner
async def shop(run: RunContext) -> dict[str, Any]:
    """Does two things that can be undone."""
    return {"put": [await run.step("put", put, what) for what in ("a", "b")]}


@app.runner
async def parent(run: RunContext) -> dict[str, Any]:
    """Starts one that asks, and waits for it."""
    child = await run.start("ask")
    return {"child": await child.result()}


@app.runner
async def quick(run: RunContext) -> dict[str, Any]:
    """Does nothing."""
    return {"attempt": run.attempt}


@app.runner(limit=Limit(most=1, key="user", on_full="reject"))
async def only(run: RunContext, user: str) -> dict[str, Any]:
    """One per user; a second one is turned down."""
    return {"number": await run.ask("How many?", schema=int), "user": user}


@app.runner(limit=Limit(most=1, on_full="cancel_older"))
async def latest(run: RunContext) -> dict[str, Any]:
    """The newest counts."""
    return {"number": await run.ask("How many?", schema=int)}


@pytest.fixture(params=[60, 0], ids=["held", "parked"])
async def stack(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    undone.clear()
    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path, park_seconds=request.param) as stack:
        yield stack


async def answer(stack: Stack, run_id: str, **body: Any) -> Any:
    return await stack.http.post(f"/runs/{run_id}/input", json=body)


async def test_an_answer_is_checked_and_counts_once(stack: Stack) -> None:
    """A wrong one changes nothing; the right one is shown with who gave it; a second one is late."""
    run_id = await stack.create("ask")
    run = await wait_for_status(stack, run_id, "awaiting_input")
    (asked,) = run["requests"]
    assert (asked["requestId"], asked["kind"], asked["prompt"]) == ("request-1", "input", "How many, 0?")
    assert (asked["answer"], asked["resolved"]) == (None, False)

    wrong = assert_problem(await answer(stack, run_id, value="many"), 422, "invalid_input")
    assert wrong["field"].startswith("value")
    assert_problem(await answer(stack, run_id, by="Ada"), 422, "invalid_input")
    assert_problem(await answer(stack, run_id, value=1, by="A" * 201), 422, "invalid_input")
    assert_problem(await answer(stack, run_id, value=1, requestId="request-2"), 404, "request_not_found")
    assert_problem(await answer(stack, "nobody", value=1), 404, "run_not_found")
    assert (await answer(stack, run_id, value=7, by="Ada")).status_code == 202
    again = await answer(stack, run_id, value=8, requestId="request-1")
    assert_problem(again, 409, "request_closed")

    run = await wait_for_status(stack, run_id, "done")
    assert run["output"] == {"numbers": [7]}
    (asked,) = run["requests"]
    assert (asked["answer"]["value"], asked["answer"]["by"], asked["resolved"]) == (7, "Ada", True)
    assert_problem(await answer(stack, run_id, value=8), 409, "request_closed")


async def test_of_several_open_requests_one_has_to_be_named(stack: Stack) -> None:
    """The problem lists them; with one left it needs no name."""
    run_id = await stack.create("ask", times=2)
    async with asyncio.timeout(15):
        while len((await stack.get(f"/runs/{run_id}"))["requests"]) < 2:
            await asyncio.sleep(0.01)
    several = assert_problem(await answer(stack, run_id, value=1), 422, "invalid_input")
    assert several["field"] == "requestId"
    assert "request-1, request-2" in several["detail"]
    assert (await answer(stack, run_id, value=2, requestId="request-2")).status_code == 202
    assert (await answer(stack, run_id, value=1)).status_code == 202
    assert (await wait_for_status(stack, run_id, "done"))["output"] == {"numbers": [1, 2]}


async def test_an_ended_run_is_undone_once_and_backwards(stack: Stack) -> None:
    """In a run of its own; the run that is undone stays as it was."""
    run_id = await stack.create("shop")
    before = await wait_for_status(stack, run_id, "done")
    assert [step["hasUndo"] for step in before["steps"]] == [True, True]
    first = await stack.http.post(f"/runs/{run_id}/undo")
    again = await stack.http.post(f"/runs/{run_id}/undo")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["runId"] == again.json()["runId"]
    undo = await wait_for_status(stack, first.json()["runId"], "done")
    assert (undo["runner"], undo["parentId"]) == ("undo", run_id)
    assert undone == ["b", "a"]
    after = await stack.get(f"/runs/{run_id}")
    assert after["children"] == [{"runId": undo["runId"], "runner": "undo", "status": "done"}]
    assert after["steps"] == before["steps"]


async def test_what_cant_be_undone_says_why(stack: Stack) -> None:
    """It hasn't ended, has nothing to undo, or isn't there."""
    waiting, done = await stack.create("ask"), await stack.create("quick")
    await wait_for_status(stack, waiting, "awaiting_input")
    await wait_for_status(stack, done, "done")
    assert_problem(await stack.http.post(f"/runs/{waiting}/undo"), 409, "run_not_ended")
    assert_problem(await stack.http.post(f"/runs/{done}/undo"), 422, "invalid_input")
    assert_problem(await stack.http.post("/runs/nobody/undo"), 404, "run_not_found")


async def test_a_cancel_reaches_the_children(stack: Stack) -> None:
    """They end with the run that has started them."""
    run_id = await stack.create("parent")
    async with asyncio.timeout(15):
        while not (children := (await stack.get(f"/runs?parent={run_id}"))["runs"]):
            await asyncio.sleep(0.01)
    child = children[0]["runId"]
    await wait_for_status(stack, child, "awaiting_input")
    assert (await stack.http.post(f"/runs/{run_id}/cancel")).status_code == 202
    await wait_for_status(stack, run_id, "canceled")
    await wait_for_status(stack, child, "canceled")


async def test_a_delayed_run_says_when_and_starts_then(stack: Stack) -> None:
    """By a delay or a time; meanwhile it can be canceled."""
    body = {"delaySeconds": 0.2, "priority": 7}
    receipt = (await stack.http.post("/runners/quick/runs", json=body)).json()
    assert receipt["status"] == "delayed"
    run = await wait_for_status(stack, receipt["runId"], "done")
    assert (run["priority"], run["dueAt"]) == (7, None)
    created, started = (datetime.fromisoformat(run[name]) for name in ("createdAt", "startedAt"))
    assert started - created >= timedelta(seconds=0.199)
    events = (await stack.get(f"/runs/{run['runId']}/events"))["events"]
    assert events[0]["payload"]["status"] == "delayed"
    assert datetime.fromisoformat(events[0]["payload"]["dueAt"]) > created

    due = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    later = (await stack.http.post("/runs", json={"runner": "quick", "dueAt": due})).json()
    assert (await stack.http.post(f"/runs/{later['runId']}/cancel")).json()["status"] == "canceled"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"delaySeconds": 0}, "delaySeconds"),
        ({"delaySeconds": 400 * 86_400}, "delaySeconds"),
        ({"delaySeconds": 1, "dueAt": "2026-01-01T00:00:00Z"}, "dueAt"),
        ({"dueAt": "2026-01-01T00:00:00"}, "dueAt"),
        ({"dueAt": "2999-01-01T00:00:00Z"}, "dueAt"),
        ({"priority": 101}, "priority"),
        ({"priority": -1}, "priority"),
        ({"mode": "approval"}, "mode"),
        ({"mode": "other"}, "mode"),
    ],
)
async def test_what_cant_be_is_refused(stack: Stack, body: dict[str, Any], field: str) -> None:
    """422 with the field."""
    problem = assert_problem(await stack.http.post("/runners/quick/runs", json=body), 422, "invalid_input")
    assert problem["field"] == field


async def test_one_too_many_is_turned_down(stack: Stack) -> None:
    """Until the one under way has ended; a known key still gives its run."""
    body = {"input": {"user": "ada"}, "idempotencyKey": "k"}
    first = (await stack.http.post("/runners/only/runs", json=body)).json()["runId"]
    assert_problem(await stack.http.post("/runners/only/runs", json={"input": {"user": "ada"}}), 409, "limit_reached")
    assert (await stack.http.post("/runners/only/runs", json=body)).json()["runId"] == first
    await stack.create("only", user="bob")
    await wait_for_status(stack, first, "awaiting_input")
    await answer(stack, first, value=1)
    await wait_for_status(stack, first, "done")
    await stack.create("only", user="ada")


async def test_the_newest_takes_the_place_of_the_older(stack: Stack) -> None:
    """The older is canceled, and the newest starts."""
    first = await stack.create("latest")
    await wait_for_status(stack, first, "awaiting_input")
    second = await stack.create("latest")
    await wait_for_status(stack, first, "canceled")
    await wait_for_status(stack, second, "awaiting_input")


async def test_runners_say_how_they_are_executed(stack: Stack) -> None:
    """Retries, time, limit and schedule."""
    runners = {runner["name"]: runner for runner in (await stack.get("/runners"))["runners"]}
    assert runners["only"]["limit"] == {"most": 1, "key": "user", "onFull": "reject"}
    plain = runners["quick"]
    assert (plain["retries"], plain["timeoutSeconds"], plain["limit"], plain["cron"]) == (0, None, None, None)


async def test_the_client_speaks_of_it_all(stack: Stack) -> None:
    """Creates with options, answers, undoes, and reads what is asked."""
    async with RuncastClient(str(stack.http.base_url)) as client:
        delayed = await client.create_run(runner="shop", delay_seconds=0.01, priority=3)
        await wait_for_status(stack, delayed.run_id, "done")
        undo = await client.undo_run(delayed.run_id)
        assert (await client.get_run(undo.run_id)).parent_id == delayed.run_id
        asking = await client.create_run(runner="ask")
        await wait_for_status(stack, asking.run_id, "awaiting_input")
        (asked,) = (await client.get_run(asking.run_id)).requests
        await client.answer_run(asking.run_id, 3, request_id=asked.request_id, by="Ada")
        await wait_for_status(stack, asking.run_id, "done")
        (asked,) = (await client.get_run(asking.run_id)).requests
        assert asked.answer is not None
        assert (asked.answer.value, asked.answer.by) == (3, "Ada")


async def test_the_command_answers_cancels_and_undoes(stack: Stack) -> None:
    """Each in one line; what the server refuses is told in its words."""
    url = str(stack.http.base_url)
    run_id = await stack.create("ask")
    await wait_for_status(stack, run_id, "awaiting_input")
    assert await watched("answer", run_id, "--value", '"x"', url=url) == (
        2,
        "",
        "runcast: value: 'x' is not of type 'integer'\n",
    )
    assert await watched("answer", run_id, "--value", "7", "--by", "Ada", "--request", "request-1", url=url) == (
        0,
        "",
        "",
    )
    await wait_for_status(stack, run_id, "done")
    code, output, _ = await watched("run", "--runner", "shop", "--delay", "0.01", "--priority", "5", url=url)
    shopped = output.split()[0]
    assert code == 0
    assert (await wait_for_status(stack, shopped, "done"))["priority"] == 5
    code, output, _ = await watched("undo", shopped, url=url)
    assert code == 0
    await wait_for_status(stack, output.split()[0], "done")
    waiting = await stack.create("ask")
    assert await watched("cancel", waiting, url=url) == (0, "", "")
    await wait_for_status(stack, waiting, "canceled")


def test_a_job_of_a_schedule_is_one_run_per_time() -> None:
    """Its id is the same whenever it comes, and another at another time."""
    times = [Job(id=f"repeat:runcast-report:{ms}", name="report", added_ms=ms) for ms in (1_000, 1_000, 2_000)]
    first, again, other = (run_id_of(job) for job in times)
    assert first == again != other
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", first)
