"""`runcast up` as a process of its own, seen from outside: its addresses, its processes, its log."""

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.cli.processes import clean_environment, eventually, is_running
from tests.support.stack import free_port

START_SECONDS = 30
STOP_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server."""

    process: Process
    url: str  # the console's
    http: httpx.AsyncClient  # speaks to the API's port
    log: Path

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def find(self, words: str) -> int | None:
        """The pid of the process whose command line has the words."""
        found = [child.pid for child in self.children() if words in _command_line(child)]
        return found[0] if found else None

    def read_log(self, run_id: str) -> list[dict[str, Any]]:
        """Each log line so far that names the run."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if run_id in line]
        return [line for line in lines if line.get("run_id") == run_id]

    async def get(self, path: str) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def create(self, runner: str, *, tags: Sequence[str] = (), **value: Any) -> str:
        answer = await self.http.post(f"/runners/{runner}/runs", json={"input": value, "tags": tags})
        assert answer.status_code == 201, answer.text
        run_id: str = answer.json()["runId"]
        return run_id

    async def read_events(self, run_id: str) -> list[dict[str, Any]]:
        """The whole log of a run that has ended, page by page as the API hands it out."""
        events: list[dict[str, Any]] = []
        cursor = "0-0"

        async def is_complete() -> bool:
            nonlocal cursor
            page = await self.get(f"/runs/{run_id}/events?after={cursor}")
            events.extend(page["events"])
            cursor = page["cursor"]
            return bool(page["final"])

        await eventually(is_complete, f"the log of {run_id} is complete")
        return events

    async def becomes(self, run_id: str, status: str) -> None:
        async def is_so() -> bool:
            return bool((await self.get(f"/runs/{run_id}"))["status"] == status)

        await eventually(is_so, f"{run_id} becomes {status}")

    async def has_no_watchers(self) -> None:
        async def is_so() -> bool:
            stats = await self.get("/runs/stats")
            return bool(stats["activeConnections"] == stats["redis"]["handlers"] == 0)

        await eventually(is_so, "the last watcher is gone")


@asynccontextmanager
async def run_up(folder: Path, app: str, **settings: str) -> AsyncIterator[Server]:
    """Start everything, and stop it by SIGTERM: it has to end well, and with it all that it started."""
    log = folder / "log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "runcast", "up", app),
            *("--port", "0", "--web-port", str(free_port()), "--data-dir", str(folder / "data")),
            *("--log-level", "debug", "--log-format", "json"),
            stdout=PIPE,
            stderr=stderr,
            env=clean_environment({"RUNCAST_SHUTDOWN_SECONDS": "1", **settings}),
        )
    try:
        places = await _read_places(process)
        async with httpx.AsyncClient(base_url=places["API"], timeout=20, trust_env=False) as http:
            yield Server(process=process, url=places["Console"], http=http, log=log)
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        async with asyncio.timeout(STOP_SECONDS):
            assert await process.wait() == 0
        assert [pid for pid in children if is_running(pid)] == []
    except BaseException:
        print(_tail(log))  # noqa: T201 - pytest shows it beside the failure
        raise
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _read_places(process: Process) -> dict[str, str]:
    """The addresses that it announces."""
    assert process.stdout is not None
    async with asyncio.timeout(START_SECONDS):
        summary = (await process.stdout.readuntil(b"Ctrl-C stops it.\n")).decode()
    return dict(re.findall(r"(\w+) +(http://\S+)", summary))


def _tail(log: Path) -> str:
    return log.read_text()[-2000:]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
