"""What may go wrong on the way, and what a user sees of it: never a page that has to be reloaded."""

import asyncio
import os
import signal

import httpx
import pytest
from playwright.async_api import expect

from tests.cli.processes import eventually
from tests.e2e.gates import Gates
from tests.e2e.server import Server
from tests.e2e.tab import Tab

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_runner_that_raises_fails_its_run_alone(tab: Tab, server: Server) -> None:
    """The page shows the error with its step, and the next run works."""
    await tab.open_run(await server.create("explode"))
    await tab.ends_as("failed")
    await tab.shows_steps("failed")
    await expect(tab.part("run-error")).to_contain_text("the powder was dry")
    await expect(tab.part("run-error")).to_contain_text("ValueError")

    await tab.open_home()
    await tab.submit("wait 1 ms")
    await tab.ends_as("done")


async def test_200_runs_at_once_all_finish_with_complete_logs(server: Server) -> None:
    """None is lost or mixed up: each log counts 1, 2, 3 … up to the end of its own run."""
    numbers = range(200)
    run_ids = await asyncio.gather(*(server.create("count", number=number, tags=["crowd"]) for number in numbers))

    async def are_done() -> bool:
        return len((await server.get("/runs?tag=crowd&status=done&limit=200"))["runs"]) == 200

    await eventually(are_done, "200 runs are done")
    logs = await asyncio.gather(*map(server.read_events, run_ids))
    for number, run_id, events in zip(numbers, run_ids, logs, strict=True):
        assert {event["runId"] for event in events} == {run_id}
        assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
        assert [event["type"] for event in events] == [
            "run_status",
            "run_status",
            "step_started",
            "step_succeeded",
            "run_completed",
        ]
        assert events[-1]["payload"] == {"status": "done", "output": {"next": number + 1}}


@pytest.mark.parametrize(
    ("request_line", "body", "status", "code"),
    [
        ("POST /runs", b'{"prompt": ', 400, "invalid_json"),
        ("POST /runs", b'{"promt": "wait 1 ms"}', 422, "invalid_input"),
        ("POST /runs", b"{}", 422, "invalid_input"),
        ("POST /runs", b'{"prompt": "%b"}' % (b"a" * 20_001), 413, "too_large"),
        ("POST /runs", b'{"prompt": "%b"}' % (b"a" * 1_048_577), 413, "too_large"),
        ("POST /runners/nobody/runs", b"{}", 404, "runner_not_found"),
        ("POST /runners/hold/runs", b'{"input": {}}', 422, "invalid_input"),
        ("GET /runs/no-such-run", None, 404, "run_not_found"),
        ("GET /runs/no-such-run/events", None, 404, "run_not_found"),
        ("POST /runs/no-such-run/cancel", None, 404, "run_not_found"),
    ],
)
async def test_a_request_that_cant_work_gets_a_problem(
    server: Server, request_line: str, body: bytes | None, status: int, code: str
) -> None:
    """A 4xx as application/problem+json that says what is wrong."""
    headers = {"content-type": "application/json"} if body is not None else {}
    method, path = request_line.split()
    answer = await server.http.request(method, path, content=body, headers=headers)
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["title"]
    assert problem["detail"]


async def test_the_page_tells_of_an_oversized_prompt_and_keeps_it(tab: Tab) -> None:
    """What was typed stays, beside the reason why it isn't taken."""
    await tab.open_home()
    prompt = "a" * 20_001
    await tab.part("prompt-input").fill(prompt)
    await tab.part("prompt-submit").click()
    await expect(tab.page.get_by_role("alert")).to_contain_text("20000")
    await expect(tab.part("prompt-input")).to_have_value(prompt)
    assert tab.loads == 1


async def test_the_page_of_an_unknown_run_says_so(tab: Tab) -> None:
    """No endless loading, and a way back."""
    await tab.open_run("no-such-run")
    await expect(tab.page.get_by_role("heading", level=1)).to_have_text("There is no such run")
    await tab.page.get_by_role("link", name="All runs", exact=True).click()
    await expect(tab.part("prompt-input")).to_be_visible()


async def test_a_reload_in_the_middle_keeps_everything(tab: Tab, gates: Gates, server: Server) -> None:
    """The page comes back as it was and goes on; no word is shown twice, none is missing."""
    run_id = await server.create("talk", gate=gates.url_of("reload"))
    await tab.open_run(run_id)
    await gates["reload"].reached()
    half = " ".join(f"word{number}" for number in range(20))
    await expect(tab.part("run-text")).to_have_text(half)

    await tab.page.reload()
    await expect(tab.part("run-text")).to_have_text(half)
    await tab.shows_steps("running")
    gates["reload"].open()
    await tab.ends_as("done")
    await expect(tab.part("run-text")).to_have_text(" ".join(f"word{number}" for number in range(40)))
    await tab.shows_steps("succeeded")
    await expect(tab.part("run-text").locator("p")).to_have_count(1)


async def test_a_run_outlives_its_gateway(tab: Tab, gates: Gates, server: Server) -> None:
    """The gateway is killed and the run goes on: the page catches up, without a reload and without a repeat."""
    run_id = await server.create("talk", gate=gates.url_of("gateway"))
    await tab.open_run(run_id)
    await gates["gateway"].reached()
    await tab.shows("running")
    api = server.find("runcast api")
    assert api is not None
    os.kill(api, signal.SIGKILL)
    await expect(tab.part("connection-state")).to_have_text("reconnecting")
    gates["gateway"].open()
    await tab.ends_as("done")
    await expect(tab.part("run-text")).to_have_text(" ".join(f"word{number}" for number in range(40)))
    assert tab.loads == 1


async def test_a_run_outlives_its_worker(tab: Tab, gates: Gates, server: Server) -> None:
    """The worker is killed in the middle: the page tells of the new attempt, and of its end."""
    run_id = await server.create("hold", gate=gates.url_of("worker"))
    await tab.open_run(run_id)
    await gates["worker"].reached()
    await tab.shows_steps("running")
    worker = server.find("runcast worker")
    assert worker is not None
    os.kill(worker, signal.SIGKILL)

    await gates["worker"].reached()  # the new attempt
    await tab.shows_steps("running")
    gates["worker"].open()
    await tab.ends_as("done")
    await tab.shows_steps("succeeded", "succeeded")
    assert tab.loads == 1
    events = tab.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    statuses = [(event["payload"]["status"], event["attempt"]) for event in events if event["type"] == "run_status"]
    assert statuses == [("queued", 0), ("running", 1), ("retrying", 2), ("running", 2)]
    retrying = next(event for event in events if event["payload"].get("status") == "retrying")
    assert retrying["payload"]["reason"] == "worker_lost"
    first_step = [event["type"] for event in events if event.get("stepId") == "step-1"]
    assert first_step == ["step_started", "step_reset", "step_started", "step_succeeded"]
    assert (events[-1]["type"], events[-1]["attempt"]) == ("run_completed", 2)


async def test_a_run_outlives_redis(tab: Tab, gates: Gates, server: Server) -> None:
    """Redis is killed in the middle: it comes back, the page gets the rest, and a run after it works as well."""
    run_id = await server.create("hold", gate=gates.url_of("redis"))
    await tab.open_run(run_id)
    await gates["redis"].reached()
    await tab.shows_steps("running")
    redis = server.find("valkey-server")
    assert redis is not None
    os.kill(redis, signal.SIGKILL)
    await eventually(lambda: server.find("valkey-server") not in {None, redis}, "Redis is back")
    gates["redis"].open()
    await tab.ends_as("done")
    assert tab.loads == 1
    assert tab.events() == await server.read_events(run_id)

    await eventually(lambda: _is_ready(server.http), "the server is ready again")
    await tab.open_home()
    await tab.submit("wait 1 ms")
    await tab.ends_as("done")


async def _is_ready(http: httpx.AsyncClient) -> bool:
    return (await http.get("/readyz")).is_success
