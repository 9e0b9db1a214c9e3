"""`runcast up app.py` while its code is written: every process real, the files changed as an editor would."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runcast import reload, stack
from runcast.cli import cli
from runcast.client import RuncastClient
from runcast.reload import Generations, Plan, watch_code
from runcast.supervisor import ChildSpec, Supervisor
from tests.cli.processes import eventually, is_running, runcast
from tests.cli.test_up import Up, running

APP = """
import asyncio
from pathlib import Path
from runcast import Runcast, RunContext
from words import WORD
app = Runcast()

@app.runner
async def say(run: RunContext, gate: str) -> str:
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    return WORD
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Locks of ports stay behind; not in the machine's own folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An application of two files, and a gate that is open."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "words.py").write_text("WORD = 'old'\n")
    (tmp_path / "open").touch()
    return tmp_path


def workers_of(up: Up) -> list[int]:
    return [child.pid for child in up.children() if "runcast worker" in " ".join(child.cmdline())]


def gateways_of(up: Up) -> list[int]:
    return [child.pid for child in up.children() if "runcast api" in " ".join(child.cmdline())]


async def say(client: RuncastClient, gate: Path) -> str:
    return (await client.create_run(runner="say", input={"gate": str(gate)})).run_id


async def output_of(client: RuncastClient, run_id: str) -> Any:
    async for _ in client.watch(run_id):
        pass
    return (await client.get_run(run_id)).output


async def test_a_run_finishes_on_the_code_that_it_was_begun_with(folder: Path) -> None:
    """A new run uses the new code meanwhile, the watcher of the old one misses nothing, and the old worker ends."""
    async with running(folder, "app.py") as up, RuncastClient(up.url) as client:
        old_workers, old_gateways = workers_of(up), gateways_of(up)
        run_id = await say(client, folder / "later")
        seqs: list[int | None] = []

        async def watch() -> None:
            async for event in client.watch(run_id):
                seqs.append(event.seq)  # noqa: PERF401  # it is looked at meanwhile

        watching = asyncio.create_task(watch())
        await eventually(lambda: len(seqs) > 1, "the run is running")

        (folder / "words.py").write_text("WORD = 'new'\n")
        await eventually(lambda: not any(map(is_running, old_gateways)), "the old gateway is replaced")
        assert await output_of(client, await say(client, folder / "open")) == "new"
        assert [pid for pid in old_workers if is_running(pid)] == old_workers

        (folder / "later").touch()
        async with asyncio.timeout(20):
            await watching
        run = await client.get_run(run_id)
        assert (run.output, run.attempt) == ("old", 1)
        assert seqs == list(range(1, len(seqs) + 1))
        await eventually(lambda: not any(map(is_running, old_workers)), "the old worker ends")
        assert len(workers_of(up)) == len(gateways_of(up)) == 1
        children = [child.pid for child in up.children()]
        up.process.terminate()
        assert await up.process.wait() == 0
        assert [pid for pid in children if is_running(pid)] == []


async def test_code_that_does_not_load_replaces_nothing(folder: Path) -> None:
    """One line says where it is broken, the old code goes on, and the next change that loads comes up."""
    async with running(folder, "app.py") as up, RuncastClient(up.url) as client:
        before = workers_of(up), gateways_of(up)
        (folder / "words.py").write_text("WORD = 'broken'\nif True print(1)\n")
        await eventually(lambda: "the old goes on" in (folder / "log").read_text(), "the log tells of it")
        lines = [line for line in (folder / "log").read_text().splitlines() if "SyntaxError" in line]
        assert len(lines) == 1
        assert "words.py:2: SyntaxError: invalid syntax: if True print(1)" in lines[0]
        assert await output_of(client, await say(client, folder / "open")) == "old"
        assert (workers_of(up), gateways_of(up)) == before

        (folder / "words.py").write_text("WORD = 'fixed'\n")
        await eventually(lambda: not any(map(is_running, before[1])), "the old gateway is replaced")
        assert await output_of(client, await say(client, folder / "open")) == "fixed"


async def test_a_stop_does_not_wait_for_runs_on_old_code(folder: Path) -> None:
    """Whoever stops `up` while an old worker finishes its runs gets the usual stop: the runs are given back."""
    async with running(folder, "app.py") as up, RuncastClient(up.url) as client:
        run_id = await say(client, folder / "never")
        await eventually(lambda: _is_running(client, run_id), "the run is running")
        old_gateways = gateways_of(up)
        (folder / "words.py").write_text("WORD = 'new'\n")
        await eventually(lambda: not any(map(is_running, old_gateways)), "the old gateway is replaced")
        assert len(workers_of(up)) == 2
        children = [child.pid for child in up.children()]
        up.process.terminate()
        async with asyncio.timeout(15):
            assert await up.process.wait() == 0
        assert [pid for pid in children if is_running(pid)] == []


async def _is_running(client: RuncastClient, run_id: str) -> bool:
    return (await client.get_run(run_id)).status == "running"


async def test_what_is_saved_before_anybody_asks_counts(folder: Path) -> None:
    """The code is watched from the call on: the processes that have just begun to start may load the old."""
    changes = watch_code(folder, ignored=folder / ".runcast")
    await asyncio.sleep(0)  # the loop has taken it up
    (folder / "words.py").write_text("WORD = 'new'\n")
    async with asyncio.timeout(20):
        assert await anext(changes) == {folder / "words.py"}
    await changes.aclose()


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop()


def stubborn(name: str, note: Path) -> ChildSpec:
    """A worker whose run never ends: told to retire it stays, told to stop it notes that and ends."""
    code = f"""import signal, sys, time
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: (open({str(note)!r}, 'a').write({name!r} + '\\n'), sys.exit(0)))
open({str(note) + name!r}, 'w')
time.sleep(600)"""

    started = Path(f"{note}{name}")

    async def is_ready() -> bool:
        return started.exists()  # noqa: ASYNC240  # a file of our own, in memory

    return ChildSpec(name=name, argv=(sys.executable, "-S", "-c", code), is_ready=is_ready)


async def test_old_generations_are_bounded(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the limit the oldest is stopped as at a stop: it gives its runs back."""
    monkeypatch.setattr(reload, "MAX_RETIRING", 2)
    note = tmp_path / "stopped"
    names = iter("abcde")

    async def check() -> str | None:
        return None

    generations = Generations(
        supervisor,
        make_plan=lambda: Plan(workers=[stubborn(next(names), note)], gateways=[], close=lambda: None),
        check=check,
        finish_seconds=600,
        shares_ports=True,
    )
    await generations.start()
    for _ in range(2):
        assert await generations.reload()
    assert not note.exists()
    assert await generations.reload()
    await eventually(note.exists, "one is stopped")
    assert note.read_text() == "a\n"
    assert [child.spec.name for child in supervisor.children] == ["b", "c", "d"]


async def test_workers_that_do_not_start_leave_the_old_ones(supervisor: Supervisor, tmp_path: Path) -> None:
    """What loads may still be unable to work: then, too, nothing is replaced."""

    async def never() -> bool:
        return False

    broken = ChildSpec(name="broken", argv=(sys.executable, "-S", "-c", "raise SystemExit(2)"), is_ready=never)
    plans = iter([stubborn("first", tmp_path / "note"), broken])

    async def check() -> str | None:
        return None

    generations = Generations(
        supervisor,
        make_plan=lambda: Plan(workers=[next(plans)], gateways=[], close=lambda: None),
        check=check,
        finish_seconds=600,
        shares_ports=True,
    )
    await generations.start()
    assert not await generations.reload()
    assert [child.spec.name for child in supervisor.children] == ["first"]
    assert supervisor.children[0].pid is not None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["app.py"], True),
        (["app.py:other"], True),
        (["module:app"], False),
        (["module:app", "--reload"], True),
        (["app.py", "--no-reload"], False),
        ([], False),
    ],
)
def test_a_file_is_reloaded_unless_told(
    arguments: list[str], *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module is, if it is asked for."""
    asked: list[bool] = []
    monkeypatch.setattr(stack, "up", lambda *_, is_reloaded, **__: asked.append(is_reloaded))
    monkeypatch.setattr("runcast.observe.logging.configure_logging", lambda **_: None)
    result = CliRunner().invoke(cli, ["up", *arguments])
    assert (result.exception, asked) == (None, [expected])


def test_reload_needs_an_application() -> None:
    """Without one there is no code to watch."""
    result = runcast("up", "--reload")
    assert (result.returncode, result.stderr) == (2, "runcast: --reload needs an APP: it is its code that is watched\n")


@pytest.mark.parametrize(
    ("files", "reference", "message"),
    [
        ({"app.py": "x = 1\ndef f(:\n"}, "app.py", "app.py:2: SyntaxError: invalid syntax: def f(:"),
        ({"app.py": "\nimport nowhere\n"}, "app.py", "app.py:2: ModuleNotFoundError: No module named 'nowhere'"),
        ({"app.py": "import own\n", "own.py": "\n1 / 0\n"}, "app.py", "own.py:2: ZeroDivisionError: division by zero"),
        ({"app.py": "import json\njson.loads('{')\n"}, "app.py", "app.py:2: JSONDecodeError: "),
        ({"app.py": "import sys\nsys.exit(3)\n"}, "app.py", "app.py:2: SystemExit: 3"),
        (
            {"app.py": "from runcast import Runcast\napp = Runcast()\n\n@app.runner\nasync def f(): pass\n"},
            "app.py",
            "app.py:4: runner 'f' must take the run as its first argument",
        ),
        (
            {"app.py": "from runcast import Runcast\nmain = Runcast()\n"},
            "app.py",
            "app.py: there is no 'app'; did you mean app.py:main?",
        ),
        ({"app.py": ""}, "app.py", "app.py: there is no 'app': write `app = Runcast()` in it"),
        ({"app.py": "app = 1"}, "app.py", "app.py: app is not a Runcast application"),
        ({}, "app.py", "app.py: no such file"),
        ({}, "nowhere_at_all:app", "there is no module 'nowhere_at_all' in "),
        ({"own_app.py": "\n\nraise KeyError('x')"}, "own_app:app", "own_app.py:3: KeyError: 'x'"),
    ],
)
def test_what_is_wrong_with_an_application_is_one_line(
    files: dict[str, str], reference: str, message: str, tmp_path: Path
) -> None:
    """It begins with file and line, in the author's own code."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    result = runcast("check", reference, cwd=str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.startswith(f"runcast: {message}")
    assert result.stderr.count("\n") == 1
