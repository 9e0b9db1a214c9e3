"""Several gateway processes on one port: real processes, real watchers, one of them killed."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any

import httpx
import pytest

from runcast.client import RuncastClient
from tests.cli.processes import clean_environment, eventually, is_running, runcast
from tests.cli.test_up import START_SECONDS, Up, answers, running
from tests.support.stack import free_port

WATCHERS = 40
EVENTS_PER_PART = 60

APP = """
import asyncio
from pathlib import Path
from runcast import Runcast, RunContext
app = Runcast()

@app.runner
async def count(run: RunContext, parts: list[str], events: int) -> dict[str, int]:
    for part in parts:
        while not Path(part).exists():
            await asyncio.sleep(0.01)
        for number in range(events):
            run.emit("log", {"number": number})
            await asyncio.sleep(0.001)
    return {"parts": len(parts)}
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Locks of ports stay behind; not in the machine's own folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


class Watched:
    """What each watcher has seen of a run so far."""

    def __init__(self, url: str, run_id: str) -> None:
        self.seen: list[list[int]] = [[] for _ in range(WATCHERS)]
        self._tasks = [asyncio.create_task(self._watch(url, run_id, seen)) for seen in self.seen]

    @staticmethod
    async def _watch(url: str, run_id: str, seen: list[int]) -> None:
        async with RuncastClient(url) as client:
            async for event in client.watch(run_id):
                assert event.seq is not None
                seen.append(event.seq)

    async def finish(self) -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*self._tasks)


async def get_stats(url: str) -> dict[str, Any]:
    """Over a connection of its own: the kernel chooses anew who answers."""
    async with httpx.AsyncClient(trust_env=False) as client:
        stats: dict[str, Any] = (await client.get(f"{url}/runs/stats")).json()
        return stats


def gateways_of(up: Up) -> list[int]:
    return sorted(child.pid for child in up.children() if "runcast api" in " ".join(child.cmdline()))


def pid_of(gateway: dict[str, Any]) -> int:
    return int(gateway["id"].split("-")[-2])


async def test_watchers_of_a_killed_gateway_go_on_at_another(tmp_path: Path) -> None:
    """Two gateways share 40 watchers; one is killed amid the events; each watcher still gets every event once."""
    (tmp_path / "app.py").write_text(APP)
    async with running(tmp_path, "app.py", "--gateways", "2") as up:
        pids = gateways_of(up)
        assert len(pids) == 2
        gates = [tmp_path / f"gate-{number}" for number in (1, 2)]
        async with RuncastClient(up.url) as client:
            value = {"parts": [str(gate) for gate in gates], "events": EVENTS_PER_PART}
            run_id = (await client.create_run(runner="count", input=value)).run_id
        watched = Watched(up.url, run_id)
        shares: dict[int, int] = {}

        async def are_spread() -> bool:
            stats = await get_stats(up.url)
            shares.update({pid_of(each): each["activeConnections"] for each in stats["gateways"]})
            return bool(stats["activeConnections"] == sum(shares.values()) == WATCHERS)

        await eventually(are_spread, "the stats tell of all the watchers")
        assert sorted(shares) == pids
        assert min(shares.values()) > 0

        gates[0].touch()
        await eventually(lambda: all(len(seen) > EVENTS_PER_PART // 2 for seen in watched.seen), "events flow")
        os.kill(pids[0], signal.SIGKILL)
        await eventually(lambda: answers(up.url), "the other serves on")
        gates[1].touch()
        await watched.finish()
        last = watched.seen[0][-1]
        assert last > 2 * EVENTS_PER_PART
        assert watched.seen == [list(range(1, last + 1))] * WATCHERS

        await eventually(lambda: set(gateways_of(up)) - set(pids) != set(), "it is started again")

        async def are_the_living_known() -> bool:
            return sorted(map(pid_of, (await get_stats(up.url))["gateways"])) == gateways_of(up)

        await eventually(are_the_living_known, "the stats tell of the new one, and no more of the dead")
        result = await asyncio.to_thread(runcast, "stats", env={"RUNCAST_URL": up.url})
        assert (result.returncode, result.stdout.count('"id"')) == (0, 2)

        children = [child.pid for child in up.children()]
        up.process.terminate()
        assert await up.process.wait() == 0
        assert [pid for pid in children if is_running(pid)] == []


async def start(folder: Path, *arguments: str, **environment: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "runcast", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        stdin=DEVNULL,
        cwd=folder,
        env=clean_environment({"RUNCAST_SHUTDOWN_SECONDS": "1", **environment}),
    )


async def test_of_two_ups_at_once_on_one_port_one_is_refused(tmp_path: Path) -> None:
    """Though the kernel would have let their gateways share it, and mix two installations."""
    port = free_port()
    arguments = ("up", "--port", str(port), "--web-port", "0", "--gateways", "2", "--data-dir")
    ups = [await start(tmp_path, *arguments, name) for name in ("one", "two")]
    waiting = [asyncio.create_task(up.wait()) for up in ups]
    async with asyncio.timeout(START_SECONDS):
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        refused, kept = sorted(ups, key=lambda up: up.returncode is None)
        assert kept.returncode is None
        assert refused.stderr is not None
        said = (await refused.stderr.read()).decode()
        assert said == (
            f"runcast: port {port} on 127.0.0.1 is taken: stop what uses it, or choose another with --port\n"
        )
        assert refused.returncode == 2
        kept.terminate()
        await kept.communicate()
    await asyncio.gather(*waiting)
    assert kept.returncode == 0


async def test_api_processes_share_a_port_if_they_are_told_to(tmp_path: Path) -> None:
    """`runcast api` is one process; with RUNCAST_GATEWAYS above 1 it joins others, without it is refused."""
    async with running(tmp_path) as up:
        port, data_dir = free_port(), tmp_path / ".runcast"
        environment = {
            "REDIS_URL": f"unix://{data_dir / 'redis' / 'redis.sock'}",
            "RUNCAST_DATA_DIR": str(data_dir),
            "RUNCAST_PORT": str(port),
            "RUNCAST_WEB_PORT": "0",
        }
        url = f"http://127.0.0.1:{port}"
        apis = [await start(tmp_path, "api", RUNCAST_GATEWAYS="2", **environment) for _ in range(2)]

        async def are_both_known() -> bool:
            if not await answers(url):
                return False
            return {api.pid for api in apis} <= {pid_of(each) for each in (await get_stats(url))["gateways"]}

        await eventually(are_both_known, "both are up")
        refused = await asyncio.to_thread(runcast, "api", env=environment, cwd=str(tmp_path))
        assert (refused.returncode, "is taken" in refused.stderr) == (2, True)
        for api in apis:
            api.terminate()
            await api.communicate()
        assert [api.returncode for api in apis] == [0, 0]
        assert is_running(up.process.pid)


async def test_api_says_that_it_is_ready(tmp_path: Path) -> None:
    """A newline on the descriptor that a supervisor names: then this very process serves."""
    async with running(tmp_path):
        reader, writer = os.pipe()
        data_dir, port = tmp_path / ".runcast", free_port()
        api = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "runcast", "api", "--ready-fd", str(writer)),
            pass_fds=(writer,),
            stderr=DEVNULL,
            cwd=tmp_path,
            env=clean_environment(
                {
                    "REDIS_URL": f"unix://{data_dir / 'redis' / 'redis.sock'}",
                    "RUNCAST_DATA_DIR": str(data_dir),
                    "RUNCAST_PORT": str(port),
                    "RUNCAST_WEB_PORT": "0",
                }
            ),
        )
        os.close(writer)
        async with asyncio.timeout(START_SECONDS):
            assert await asyncio.to_thread(os.read, reader, 10) == b"\n"
        with socket.create_connection(("127.0.0.1", port)):
            pass
        os.close(reader)
        api.terminate()
        assert await api.wait() == 0


def test_a_descriptor_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    """Told at once, not when all is up."""
    environment = {"REDIS_URL": "redis://127.0.0.1:1", "RUNCAST_WEB_PORT": "0", "RUNCAST_PORT": str(free_port())}
    result = runcast("api", "--ready-fd", "99", env=environment, cwd=str(tmp_path))
    assert (result.returncode, result.stderr) == (2, "runcast: --ready-fd 99: Bad file descriptor\n")
