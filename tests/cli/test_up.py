"""`runcast up`, whole: every process real, seen from outside."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from runcast.client import RuncastClient
from tests.cli.processes import clean_environment, eventually, is_running, runcast

START_SECONDS = 60

APP = """
from runcast import Runcast, RunContext
app = Runcast()

@app.runner
async def greet(run: RunContext, name: str) -> dict[str, str]:
    \"\"\"Greets somebody.\"\"\"
    return {"text": await run.step("compose", str.upper, name)}
"""


@dataclass(frozen=True, kw_only=True)
class Up:
    """A running `runcast up`."""

    process: Process
    url: str
    summary: str

    def find(self, *words: str) -> int:
        """The pid of the child whose command line has the words; fails unless there is exactly one."""
        found = [child.pid for child in self.children() if all(word in _command_line(child) for word in words)]
        assert len(found) == 1, found
        return found[0]

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


async def launch(folder: Path, *arguments: str) -> Process:
    with (folder / "log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "runcast", "up", *arguments, "--port", "0", "--web-port", "0"),
            stdout=PIPE,
            stderr=log,
            cwd=folder,
            env=clean_environment({"RUNCAST_LOG_FORMAT": "json", "RUNCAST_SHUTDOWN_SECONDS": "1"}),
        )


@asynccontextmanager
async def running(folder: Path, *arguments: str) -> AsyncIterator[Up]:
    process = await launch(folder, *arguments)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            summary = (await process.stdout.readuntil(b"Ctrl-C stops it.\n")).decode()
        url = re.findall(r"API +(http://localhost:\d+)\n", summary)[0]
        yield Up(process=process, url=url, summary=summary)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def test_up_runs_everything_and_stops_cleanly(tmp_path: Path) -> None:
    """A prompt runs to its end, what dies comes back, and after SIGTERM nothing is left but the data."""
    async with running(tmp_path) as up:
        assert f"Stats     {up.url}/runs/stats\n" in up.summary
        assert f"Data      {tmp_path / '.runcast'}\n" in up.summary

        environment = {"RUNCAST_URL": up.url}
        result = await asyncio.to_thread(runcast, "run", "wait 0.1 seconds", "--watch", env=environment)
        assert (result.returncode, result.stderr) == (0, "")
        assert " done  " in result.stdout.splitlines()[-1]
        run_id = result.stdout.split()[0]

        for words in (("runcast worker",), ("valkey-server",), ("runcast api",)):
            before = up.find(*words)
            os.kill(before, signal.SIGKILL)
            await eventually(lambda words=words, before=before: up_again(up, words, before), f"{words} is back")
        await eventually(lambda: answers(up.url), "the API answers again")
        result = await asyncio.to_thread(runcast, "run", "wait 0.1 seconds", "--watch", env=environment)
        assert result.returncode == 0, result.stderr

        children = [child.pid for child in up.children()]
        up.process.terminate()
        assert await up.process.wait() == 0
        assert [pid for pid in children if is_running(pid)] == []

    async with running(tmp_path) as up, RuncastClient(up.url) as client:
        assert (await client.get_run(run_id)).status == "done"


async def test_an_application_brings_its_runners(tmp_path: Path) -> None:
    """`runcast up app.py` runs what the file registers, on as many workers as asked for."""
    (tmp_path / "app.py").write_text(APP)
    async with running(tmp_path, "app.py", "--workers", "2") as up:
        workers = [child for child in up.children() if "runcast worker app.py" in _command_line(child)]
        assert len(workers) == 2
        arguments = ("run", "--runner", "greet", "--input", '{"name": "ada"}', "--watch")
        result = await asyncio.to_thread(runcast, *arguments, env={"RUNCAST_URL": up.url})
        assert result.returncode == 0, result.stderr
        assert result.stdout.endswith('done  {"text": "ADA"}\n')


async def test_no_orphan_after_kill_9_and_the_next_up_takes_over(tmp_path: Path) -> None:
    """Whatever happens to the supervisor, its children end, and the data dir is free at once."""
    async with running(tmp_path) as up:
        children = [child.pid for child in up.children()]
        assert len(children) == 3
        refused = await asyncio.to_thread(runcast, "up", "--port", "0", "--web-port", "0", cwd=str(tmp_path))
        assert refused.returncode == 2
        assert refused.stderr == (
            f"runcast: data dir .runcast is in use by another `runcast up` (process {up.process.pid}):"
            " stop it, or choose another --data-dir\n"
        )
        up.process.kill()
        await up.process.wait()
    async with running(tmp_path):
        await eventually(lambda: not any(map(is_running, children)), "the orphans end")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import nowhere", "app.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        ("app = 1", "app.py: app is not a Runcast application"),
    ],
)
async def test_a_broken_application_is_one_line(content: str, reason: str, tmp_path: Path) -> None:
    """What is wrong with the file is told once, and nothing stays behind."""
    (tmp_path / "app.py").write_text(content)
    process = await launch(tmp_path, "app.py")
    output, _ = await process.communicate()
    assert (process.returncode, output) == (2, b"")
    assert (tmp_path / "log").read_text() == f"runcast: {reason}\n"


async def test_a_second_ctrl_c_kills_at_once(tmp_path: Path) -> None:
    """Whoever is in a hurry needn't wait for runs to finish."""
    async with running(tmp_path) as up:
        children = [child.pid for child in up.children()]
        up.process.send_signal(signal.SIGSTOP)  # both signals wait together, whatever the machine is doing
        up.process.send_signal(signal.SIGINT)
        up.process.send_signal(signal.SIGTERM)
        up.process.send_signal(signal.SIGCONT)
        assert await up.process.wait() == 130
        await eventually(lambda: not any(map(is_running, children)), "the children end")


def up_again(up: Up, words: tuple[str, ...], before: int) -> bool:
    found = [child.pid for child in up.children() if all(word in _command_line(child) for word in words)]
    return found != [] and before not in found


async def answers(url: str) -> bool:
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"{url}/readyz")).is_success
        except httpx.HTTPError:
            return False
