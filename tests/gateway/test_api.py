"""The REST API against a whole server: what it gives, and how it says no."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runcast import Runcast
from tests.support.stack import Stack, start_stack

PROMPT = "Post 'Hello from Quik.day!' on LinkedIn"


async def wait_for_status(stack: Stack, run_id: str, status: str) -> Any:
    async with asyncio.timeout(15):
        while (run := (await stack.http.get(f"/runs/{run_id}")).json())["status"] != status:
            await asyncio.sleep(0.01)
    return run


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]
    return problem


async def test_a_prompt_becomes_a_run(stack: Stack) -> None:
    """201 with the run's id and where to find it; the run is executed."""
    answer = await stack.http.post("/runs", json={"prompt": PROMPT, "tags": ["demo"]})
    assert answer.status_code == 201
    receipt = answer.json()
    assert answer.headers["location"] == receipt["links"]["self"] == f"/runs/{receipt['runId']}"
    assert receipt["status"] == "queued"
    run = await wait_for_status(stack, receipt["runId"], "done")
    assert (run["prompt"], run["runner"], run["tags"]) == (PROMPT, "prompt", ["demo"])
    assert [step["status"] for step in run["steps"]] == ["succeeded"]
    assert run["output"]["steps"][0]["output"]["dryRun"] is True


async def test_the_same_key_gives_the_same_run(stack: Stack) -> None:
    """A program that doesn't know whether its request arrived may repeat it."""
    body = {"input": {"name": "Ada"}, "idempotencyKey": "k1"}
    first = await stack.http.post("/runners/greet/runs", json=body)
    again = await stack.http.post("/runners/greet/runs", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["runId"] == again.json()["runId"]


@pytest.mark.parametrize(
    ("body", "difference"),
    [
        ({"runner": "greet", "input": {"name": "Bob"}}, "input"),
        ({"runner": "greet", "input": {"name": "Ada", "times": 7}}, "input"),
        ({"prompt": "wait 1 ms"}, "runner"),
    ],
)
async def test_a_key_is_not_for_something_else(stack: Stack, body: dict[str, Any], difference: str) -> None:
    """Nobody takes another run for the one they have asked for; defaults that are spelled out are no difference."""
    first = {"runner": "greet", "input": {"name": "Ada"}, "idempotencyKey": "k1"}
    run_id = (await stack.http.post("/runs", json=first)).json()["runId"]
    problem = assert_problem(
        await stack.http.post("/runs", json={**body, "idempotencyKey": "k1"}), 409, "idempotency_conflict"
    )
    assert run_id in problem["detail"]
    assert f"another {difference}" in problem["detail"]
    spelled = {**first, "input": {"name": "Ada", "times": 1}, "tags": ["again"]}
    again = await stack.http.post("/runs", json=spelled)
    assert (again.status_code, again.json()["runId"]) == (200, run_id)
    assert [run["runId"] for run in (await stack.get("/runs"))["runs"]] == [run_id]


async def test_runs_are_listed_newest_first_in_pages(stack: Stack) -> None:
    """Each run comes once, and filters narrow."""
    created = [await stack.create("greet", name=str(number)) for number in range(5)]
    listed: list[str] = []
    page = await stack.get("/runs?limit=2")
    while True:
        listed += [run["runId"] for run in page["runs"]]
        if page["nextBefore"] is None:
            break
        page = await stack.get(f"/runs?limit=2&before={page['nextBefore']}")
    assert listed == created[::-1]
    assert (await stack.get("/runs?status=failed"))["runs"] == []
    assert [run["runId"] for run in (await stack.get(f"/runs?q={created[2]}"))["runs"]] == [created[2]]


async def test_events_come_in_pages_from_a_cursor(stack: Stack) -> None:
    """The cursor of one page is where the next goes on; the last one says so."""
    run_id = await stack.create("greet", name="Ada", times=3)
    await wait_for_status(stack, run_id, "done")
    seqs: list[int] = []
    page: dict[str, Any] = {"cursor": "0-0", "final": False}
    while not page["final"]:
        page = await stack.get(f"/runs/{run_id}/events?limit=2&after={page['cursor']}")
        seqs += [event["seq"] for event in page["events"]]
    assert seqs == list(range(1, 10))


async def test_a_running_run_is_really_stopped(stack: Stack) -> None:
    """Canceling reaches the runner; watchers see `canceling`, then `canceled`."""
    run_id = await stack.create("hold", gate="never")
    await wait_for_status(stack, run_id, "running")
    assert (await stack.http.post(f"/runs/{run_id}/cancel")).status_code == 202
    frames = await stack.follow(run_id)
    assert [frame["payload"].get("status") for frame in frames if frame["type"] == "run_status"] == [
        "connected",
        "queued",
        "running",
        "canceling",
        "canceled",
    ]
    assert (await stack.http.post(f"/runs/{run_id}/cancel")).status_code == 202


async def test_a_waiting_run_is_canceled_at_once(stack: Stack) -> None:
    """Nobody has it, so nobody has to be asked; a worker that comes later leaves it alone."""
    await stack.stop_worker()
    run_id = await stack.create("greet", name="Ada")
    assert (await stack.http.post(f"/runs/{run_id}/cancel")).json()["status"] == "canceled"
    frames = await stack.follow(run_id)
    assert [frame["payload"]["status"] for frame in frames] == ["connected", "queued", "canceled"]
    stack.start_worker()
    other = await stack.create("greet", name="Bob")
    await wait_for_status(stack, other, "done")
    assert (await stack.get(f"/runs/{run_id}"))["status"] == "canceled"


async def test_an_ended_run_cannot_be_canceled(stack: Stack) -> None:
    """It has a result; that doesn't change."""
    run_id = await stack.create("greet", name="Ada")
    await wait_for_status(stack, run_id, "done")
    assert_problem(await stack.http.post(f"/runs/{run_id}/cancel"), 409, "run_ended")


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 422, "invalid_input", "prompt"),
        ({"prompt": "   "}, 422, "invalid_input", "prompt"),
        ({"prompt": 7}, 422, "invalid_input", "prompt"),
        ({"prompt": "x" * 20_001}, 413, "too_large", None),
        ({"prompt": "x", "surprise": 1}, 422, "invalid_input", "surprise"),
        ({"prompt": "x", "tags": [""]}, 422, "invalid_input", "tags"),
        ({"prompt": "x", "tags": ["t"] * 21}, 422, "invalid_input", "tags"),
        ({"prompt": "x", "idempotencyKey": ""}, 422, "invalid_input", "idempotencyKey"),
        ({"runner": "nobody"}, 404, "runner_not_found", None),
        ({"runner": "greet"}, 422, "invalid_input", "input.name"),
        ({"runner": "greet", "input": {"name": "a", "times": "many"}}, 422, "invalid_input", "input.times"),
        ({"runner": "greet", "input": {"name": "a", "extra": 1}}, 422, "invalid_input", "input.extra"),
    ],
)
async def test_a_bad_request_says_what_is_wrong_and_where(
    stack: Stack, body: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    """4xx as problem+json, and no run comes of it."""
    problem = assert_problem(await stack.http.post("/runs", json=body), status, code)
    assert problem.get("field") == field
    assert (await stack.get("/runs"))["runs"] == []


async def test_a_body_that_is_no_json_or_too_large_is_refused(stack: Stack) -> None:
    """With a length it isn't even read; without one it is counted as it comes."""
    assert_problem(await stack.http.post("/runs", content=b"{nope"), 400, "invalid_json")
    empty = assert_problem(await stack.http.post("/runs"), 422, "invalid_input")
    assert empty["detail"] == "the body is empty: send a JSON object"
    large = b'{"prompt":"' + b"x" * 1_100_000 + b'"}'
    assert_problem(await stack.http.post("/runs", content=large), 413, "too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(large), 65_536):
            yield large[start : start + 65_536]

    assert_problem(await stack.http.post("/runs", content=chunks()), 413, "too_large")


@pytest.mark.parametrize("run_id", ["nobody", "%7Bx%7D", "x" * 64, "%00"])
async def test_an_unknown_run_is_not_found(stack: Stack, run_id: str) -> None:
    """On every route that names one."""
    for method, path in [("GET", ""), ("GET", "/events"), ("POST", "/cancel")]:
        assert_problem(await stack.http.request(method, f"/runs/{run_id}{path}"), 404, "run_not_found")


async def test_other_mistakes_are_problems_too(stack: Stack) -> None:
    """Unknown paths, wrong methods, bad parameters."""
    assert_problem(await stack.http.get("/nowhere"), 404, "not_found")
    assert_problem(await stack.http.delete("/runs"), 405, "method_not_allowed")
    assert_problem(await stack.http.get("/runs?limit=0"), 422, "invalid_input")
    assert_problem(await stack.http.get("/runs?status=odd"), 422, "invalid_input")
    run_id = await stack.create("greet", name="Ada")
    assert_problem(await stack.http.get(f"/runs/{run_id}/events?after=x"), 400, "invalid_cursor")


async def test_runners_describe_their_input(stack: Stack) -> None:
    """Name, first line of the docstring, JSON Schema of the arguments."""
    runners = {runner["name"]: runner for runner in (await stack.get("/runners"))["runners"]}
    assert set(runners) == {"greet", "hold", "talk", "explode", "prompt", "undo"}
    assert runners["greet"]["description"] == "Says hello."
    assert runners["greet"]["inputSchema"]["required"] == ["name"]


async def test_the_api_describes_itself(stack: Stack) -> None:
    """OpenAPI 3.1, with every route and errors as problems."""
    document = await stack.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert {"/runs", "/runs/{run_id}", "/runs/{run_id}/events", "/runs/stats", "/healthz", "/readyz"} <= set(
        document["paths"]
    )
    default = document["paths"]["/runs"]["post"]["responses"]["default"]
    assert list(default["content"]) == ["application/problem+json"]


async def test_the_console_is_at_the_root_whoever_asks(stack: Stack) -> None:
    """Only a run's page shares its address with data, and is told from it by what is accepted."""
    for accept in ("*/*", "text/html"):
        page = await stack.http.get("/", headers={"accept": accept})
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert_problem(await stack.http.get("/runs/nobody"), 404, "run_not_found")


async def test_health_and_readiness(stack: Stack) -> None:
    """The process lives; its parts answer."""
    assert await stack.get("/healthz") == {"status": "ok", "checks": {}}
    assert await stack.get("/readyz") == {"status": "ok", "checks": {"database": "ok", "redis": "ok"}}


async def test_a_foreign_host_or_origin_is_refused(stack: Stack) -> None:
    """Before anything is done."""
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}):
        assert_problem(await stack.http.post("/runs", json={"prompt": "x"}, headers=headers), 403, "forbidden_origin")


async def test_with_a_key_nothing_of_runs_is_told_without_it(app: Runcast, redis_url: str, tmp_path: Path) -> None:
    """API and WebSocket ask for it; pages, probes and the API's description don't."""
    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path, api_key="s3cret") as stack:
        for method, path in [("GET", "/runs"), ("POST", "/runs"), ("GET", "/runs/stats"), ("GET", "/runners")]:
            refused = await stack.http.request(method, path, headers={"accept": "text/html"})
            assert_problem(refused, 401, "unauthorized")
            assert refused.headers["www-authenticate"] == "Bearer"
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert (await stack.http.get(path)).status_code == 200
        bearer = {"authorization": "Bearer s3cret"}
        assert (await stack.http.get("/runs", headers=bearer)).status_code == 200
        assert_problem(await stack.http.get("/runs", headers={"authorization": "Bearer no"}), 401, "unauthorized")
        answer = await stack.http.post("/runners/greet/runs", json={"input": {"name": "Ada"}}, headers=bearer)
        async with stack.watch(answer.json()["runId"], additional_headers=bearer) as socket:
            assert await socket.recv()
