"""Workers that are killed in each phase of a run: what resumes, what is done again, and what never is.

The application kills its own worker, with SIGKILL, the first time that a run gets to the phase in question.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from runcast.client import RuncastClient
from runcast.events import RunEvent
from tests.cli.processes import clean_environment, eventually

APP = '''
import os
import pathlib
import signal

from runcast import Runcast, RunContext
from runcast.backends.redis_log import RedisPubSubService
from runcast.backends.sql.store import SqlRunStore

HERE = pathlib.Path(__file__).parent
app = Runcast()


def note(what):
    with (HERE / "notes").open("a") as file:
        file.write(what + "\\n")
    return what


def die(phase):
    mark = HERE / f"died-{phase}"
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def undo_work(output):
    note(f"undo {output}")
    if output.startswith("undoing"):
        die("undoing")


@app.step(undo=undo_work)
def work(phase, part):
    note(f"{phase} {part}")
    if (phase, part) == ("in-step", 2):
        die(phase)
    return f"{phase} {part}"


@app.runner
async def crash(run: RunContext, phase: str) -> dict:
    """Gets to a phase."""
    if phase == "claimed":
        die(phase)
    await run.step("first", work, phase, 1)
    async with run.message() as text:
        text.write(f"said in {phase}")
    if phase == "between":
        die(phase)
    if phase == "waiting":
        await run.approve("Go on?")
    if phase == "message":
        async with run.message() as text:
            text.write("half")
            die(phase)
    await run.step("second", work, phase, 2)
    return {"phase": phase}


def dying_before(method, phase, is_meant):
    async def wrapped(self, *args):
        if is_meant(*args):
            die(phase)
        return await method(self, *args)

    return wrapped


def ends(phase):
    return lambda commit: bool(commit.change and commit.change.output == {"phase": phase})


SqlRunStore.commit = dying_before(SqlRunStore.commit, "committing", ends("committing"))
RedisPubSubService.append_all = dying_before(
    RedisPubSubService.append_all,
    "publishing",
    lambda appends, tell: any(
        b'"output":{"phase":"publishing"}' in event.raw for _, events in appends for event in events
    ),
)
'''


class Server:
    """A running `runcast up` with one worker."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", url: str) -> None:
        self.folder = folder
        self.process = process
        self.url = url

    @property
    def notes(self) -> list[str]:
        """What the application's functions have done, in order."""
        return (self.folder / "notes").read_text().splitlines()

    def kill_worker(self) -> None:
        """As the kernel does when memory runs out."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if "worker" in child.cmdline() and "runcast" in child.cmdline():
                os.kill(child.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("crashes")
    (folder / "app.py").write_text(APP)
    settings = {"RUNCAST_LEASE_SECONDS": "1", "RUNCAST_SHUTDOWN_SECONDS": "1", "RUNCAST_LOG_FORMAT": "json"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runcast", "up", "app.py", "--port", "0", "--web-port", "0"],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=clean_environment(settings),
        )
    try:
        assert process.stdout is not None
        summary = ""
        while "Ctrl-C stops it." not in summary:
            line = process.stdout.readline().decode()
            assert line, (folder / "log").read_text()
            summary += line
        yield Server(folder, process, re.findall(r"API +(http://localhost:\d+)\n", summary)[0])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=40)


async def follow(server: Server, run_id: str) -> list[RunEvent]:
    """All of a run's events, each checked to be the next."""
    async with RuncastClient(server.url) as client, asyncio.timeout(60):
        events = [event async for event in client.watch(run_id)]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return events


async def create(server: Server, phase: str) -> str:
    async with RuncastClient(server.url) as client:
        created = await client.create_run(runner="crash", input={"phase": phase})
    return created.run_id


def parts(server: Server, phase: str) -> list[str]:
    """Which parts of the work were done, in order, repetitions included."""
    return [line.removeprefix(f"{phase} ") for line in server.notes if line.startswith(phase)]


def texts(events: list[RunEvent]) -> list[Any]:
    return [event.payload["text"] for event in events if event.type == "message_completed"]


@pytest.mark.parametrize(
    ("phase", "done"),
    [
        ("claimed", ["1", "2"]),
        ("in-step", ["1", "2", "2"]),  # the step in flight: at least once
        ("between", ["1", "2"]),
        ("message", ["1", "2"]),
        ("committing", ["1", "2"]),  # the end isn't committed: the runner is executed again, its steps are not
        ("publishing", ["1", "2"]),  # the end is committed, and nobody was told yet
    ],
)
async def test_a_run_whose_worker_is_killed_goes_on(server: Server, phase: str, done: list[str]) -> None:
    """A committed step is never done again, what was said to its end is said once, and the end comes once."""
    events = await follow(server, await create(server, phase))
    assert (server.folder / f"died-{phase}").exists()
    assert parts(server, phase) == done
    assert (events[-1].type, events[-1].payload["output"]) == ("run_completed", {"phase": phase})
    assert [event.type for event in events].count("run_completed") == 1
    assert texts(events).count(f"said in {phase}") == 1


async def test_a_run_that_waits_for_input_outlives_its_worker(server: Server) -> None:
    """No loss is counted; the answer, given while no worker has the run, is what it goes on with."""
    run_id = await create(server, "waiting")
    async with httpx.AsyncClient(base_url=server.url) as http:

        async def is_waiting() -> bool:
            return bool((await http.get(f"/runs/{run_id}")).json()["status"] == "awaiting_approval")

        await eventually(is_waiting, "the run asks")
        server.kill_worker()
        answer = await http.post(f"/runs/{run_id}/input", json={"value": {"approved": True}})
        assert answer.status_code == 202, answer.text
        events = await follow(server, run_id)
        run = (await http.get(f"/runs/{run_id}")).json()
    assert parts(server, "waiting") == ["1", "2"]
    assert (run["status"], run["losses"]) == ("done", 0)
    assert [event.type for event in events].count("input_requested") == 1


async def test_undoing_goes_on_where_its_worker_was_killed(server: Server) -> None:
    """Backwards; what was undone and committed isn't undone again."""
    run_id = await create(server, "undoing")
    await follow(server, run_id)
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post(f"/runs/{run_id}/undo")
        assert answer.status_code == 201, answer.text
        again = await http.post(f"/runs/{run_id}/undo")
        assert (again.status_code, again.json()["runId"]) == (200, answer.json()["runId"])
    events = await follow(server, answer.json()["runId"])
    assert events[-1].payload["output"] == {"runId": run_id, "undone": ["second", "first"]}
    assert [line for line in server.notes if line.startswith("undo ")] == [
        "undo undoing 2",  # it died in this one, so it is done again
        "undo undoing 2",
        "undo undoing 1",
    ]
