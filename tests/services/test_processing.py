"""Executing runs, against a whole server: failures, crowds, foreign producers, workers that stop or die."""

import asyncio
import contextlib
import sqlite3
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bullmq import Queue
from structlog.testing import capture_logs

from runcast import RunContext
from runcast.backends.redis_client import open_redis
from runcast.backends.sql import open_store
from runcast.records import Job, is_run_id
from runcast.services.runs import run_id_of
from tests.gateway.conftest import Gates, app, gates, stack  # noqa: F401 - fixtures
from tests.gateway.test_api import wait_for_status
from tests.support.stack import Stack


@pytest.mark.parametrize(
    ("where", "code", "message"),
    [
        ("runner", "RuntimeError", "boom"),
        ("step", "ValueError", "boom in a step"),
        ("output", "invalid_input", "a result isn't JSON"),
    ],
)
async def test_a_runner_that_raises_fails_its_run_and_no_other(
    stack: Stack,  # noqa: F811
    where: str,
    code: str,
    message: str,
) -> None:
    """The run ends as failed with its error; the next one works."""
    frames = await stack.follow(await stack.create("explode", where=where))
    assert frames[-1]["type"] == "run_status"
    assert frames[-1]["payload"]["status"] == "failed"
    assert frames[-1]["payload"]["error"]["code"] == code
    assert message in frames[-1]["payload"]["error"]["message"]
    assert (await stack.follow(await stack.create("greet", name="Ada")))[-1]["payload"]["status"] == "done"


async def test_a_runners_exception_is_logged_with_its_place_and_our_own_without(stack: Stack) -> None:  # noqa: F811
    """Whoever wrote the runner has to find the line; a refusal says all there is to say."""
    with capture_logs() as lines:
        await stack.follow(await stack.create("explode", where="step"))
        await stack.follow(await stack.create("prompt", prompt="make me a sandwich"))
    boom, refusal = (line["exc_info"] for line in lines if line["event"] == "run failed")
    assert "bang" in "".join(traceback.format_exception(boom))
    assert refusal is None


async def test_a_prompt_that_is_not_understood_fails_with_help(stack: Stack) -> None:  # noqa: F811
    """The error says what can be done instead."""
    answer = await stack.http.post("/runs", json={"prompt": "make me a sandwich"})
    run = await wait_for_status(stack, answer.json()["runId"], "failed")
    assert "LinkedIn" in run["error"]["message"]


async def test_two_hundred_runs_at_once_all_finish_with_whole_logs(stack: Stack) -> None:  # noqa: F811
    """None lost, none mixed up, every log complete."""
    run_ids = await asyncio.gather(*(stack.create("greet", name=f"n{number}", times=2) for number in range(200)))
    logs = await asyncio.gather(*(stack.follow(run_id) for run_id in run_ids))
    for number, (run_id, frames) in enumerate(zip(run_ids, logs, strict=True)):
        assert {frame["runId"] for frame in frames} == {run_id}
        assert [frame["seq"] for frame in frames[1:]] == list(range(1, 8))
        assert frames[-1]["payload"]["output"] == {"words": [f"hello n{number}"] * 2}
    assert (await stack.get("/runs/stats"))["runs"] == {"done": 200}


async def test_a_job_of_a_foreign_producer_becomes_a_run(stack: Stack, redis_url: str) -> None:  # noqa: F811
    """Whoever adds a job with a prompt to our queue gets a run, once, under an id of its own."""
    client = open_redis(redis_url, decode=True)
    queue = Queue("runs", {"connection": client})
    await queue.add("any name", {"prompt": "wait 1 ms", "tags": ["node"]})
    await queue.add("greet", {"runId": "my-run", "input": {"name": "Ada"}})
    await queue.add("greet", {"input": {"nonsense": 1}})
    odd = await queue.add("greet", {"runId": "user@x.com/7", "input": {"name": "Ada"}})
    run = await wait_for_status(stack, "my-run", "done")
    assert run["output"] == {"words": ["hello Ada"]}
    async with asyncio.timeout(15):
        while not (tagged := (await stack.get("/runs?tag=node&status=done"))["runs"]):
            await asyncio.sleep(0.01)
        while not await odd.isFailed():
            await asyncio.sleep(0.01)
    assert tagged[0]["runner"] == "prompt"
    assert len((await stack.get("/runs"))["runs"]) == 2
    reason = str(await client.hget(f"bull:runs:{odd.id}", "failedReason"))
    assert "'user@x.com/7' can't be a run's id" in reason
    await client.aclose()


async def test_a_stopping_worker_gives_its_runs_to_the_next(stack: Stack, gates: Gates) -> None:  # noqa: F811
    """The run goes on as another attempt, and its watcher sees one gapless log."""
    run_id = await stack.create("hold", gate="a")
    await wait_for_status(stack, run_id, "running")
    following = asyncio.create_task(stack.follow(run_id))
    await stack.stop_worker()
    gates["a"].set()
    stack.start_worker()
    frames = await following
    assert [frame["seq"] for frame in frames[1:]] == list(range(1, len(frames)))
    assert {frame["attempt"] for frame in frames[1:]} == {0, 1, 2}
    statuses = [frame["payload"]["status"] for frame in frames if "status" in frame["payload"]]
    assert statuses == ["connected", "queued", "running", "retrying", "running", "done"]


async def test_a_run_whose_workers_keep_dying_is_failed(stack: Stack) -> None:  # noqa: F811
    """After the last attempt the run ends as failed: `worker_lost`."""
    await stack.stop_worker()
    run_id = await stack.create("greet", name="Ada")
    store = await open_store(stack.settings.database)
    for number in range(stack.settings.max_attempts):
        assert await store.claim_run(run_id, f"dead-{number}", now=datetime.now(UTC)) is not None
    await store.close()
    stack.start_worker()
    run = await wait_for_status(stack, run_id, "failed")
    assert run["error"]["code"] == "worker_lost"


async def test_runs_without_redis_wait_and_are_swept_up(stack: Stack, redis_url: str) -> None:  # noqa: F811
    """A queue that lost everything is filled again from the database."""
    await stack.stop_worker()
    run_id = await stack.create("greet", name="Ada")
    client = open_redis(redis_url)
    await client.flushall()
    await client.aclose()
    object.__setattr__(stack, "settings", stack.settings.model_copy(update={"lease_seconds": 1.0}))
    stack.start_worker()
    run = await wait_for_status(stack, run_id, "done")
    frames: list[dict[str, Any]] = await stack.follow(run_id)
    assert run["lastSeq"] == frames[-1]["seq"] == len(frames) - 1


async def test_a_step_that_is_cut_short_ends_as_canceled(stack: Stack) -> None:  # noqa: F811
    """No step runs for ever on an ended run."""

    @stack.app.runner
    async def impatient(run: RunContext) -> dict[str, str]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await run.step("long", asyncio.sleep, 60)
        return {}

    run_id = await stack.create("impatient")
    frames = await stack.follow(run_id)
    assert [frame["payload"]["error"]["code"] for frame in frames if frame["type"] == "step_failed"] == ["canceled"]
    assert [step["status"] for step in (await stack.get(f"/runs/{run_id}"))["steps"]] == ["canceled"]


@pytest.mark.parametrize("data", [{"runId": "x" * 65}, {"runId": "user@x.com/7"}, {"runId": 7}, {}])
def test_every_job_has_a_run_id_that_can_be_asked_for(data: dict[str, Any]) -> None:
    """The same whenever the job comes, another for another job, however odd its own id is."""
    ids = ["1", "user@x.com/7", *(f"customer-{'0' * 60}-invoice-{number}" for number in range(3))]
    made = [run_id_of(Job(id=job_id, name="n", data=data, added_ms=1)) for job_id in ids]
    assert all(is_run_id(run_id) for run_id in made)
    assert len(set(made)) == len(ids)
    assert made == [run_id_of(Job(id=job_id, name="n", data=data, added_ms=1)) for job_id in ids]


async def test_a_runner_that_says_too_much_at_once_fails_with_the_reason(stack: Stack) -> None:  # noqa: F811
    """Its memory is bounded; the run still ends, once, and its log is whole."""

    @stack.app.runner
    async def flood(run: RunContext) -> dict[str, str]:
        for _ in range(100):
            run.emit("log", {"text": "x" * 500_000})
        return {}

    frames = await stack.follow(await stack.create("flood"))
    assert frames[-1]["payload"]["error"]["code"] == "unavailable"
    assert [frame["seq"] for frame in frames[1:]] == list(range(1, len(frames)))
    assert {frame["attempt"] for frame in frames[1:]} == {0, 1}


async def test_a_burst_reaches_the_log_whole(stack: Stack, redis_url: str) -> None:  # noqa: F811
    """A database that is faster than Redis is no reason to leave events out of the log."""
    run_id = await stack.create("talk", tokens=15_000)
    await stack.follow(run_id)
    client = open_redis(redis_url)
    assert await client.xlen(f"{{run:{run_id}}}:log") == 15_005
    await client.aclose()


async def test_an_attempt_that_breaks_is_followed_by_another(stack: Stack, tmp_path: Path) -> None:  # noqa: F811
    """A reason that nobody foresaw, here an archive that refuses an event, doesn't leave the run standing still."""
    run_id = await stack.create("hold", gate="never")
    await wait_for_status(stack, run_id, "running")
    with contextlib.closing(sqlite3.connect(tmp_path / "runcast.db")) as database:
        database.execute("CREATE TRIGGER refuse BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'refused'); END")
        database.commit()
        await stack.http.post(f"/runs/{run_id}/cancel")
        async with asyncio.timeout(15):
            while (await stack.get(f"/runs/{run_id}"))["attempt"] < 2:
                await asyncio.sleep(0.01)
        database.execute("DROP TRIGGER refuse")
        database.commit()
    frames = await stack.follow(run_id)
    assert frames[-1]["payload"]["status"] == "canceled"
    assert [frame["seq"] for frame in frames if "seq" in frame][-1] == (await stack.get(f"/runs/{run_id}"))["lastSeq"]
