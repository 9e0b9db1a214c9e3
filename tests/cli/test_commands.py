"""The command: errors are one line, exit codes mean something, events can be read."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.cli.gateway import RUN_ID, connected, ended, event, failed, gateway, sends, step_succeeded
from tests.cli.processes import clean_environment, runcast
from tests.cli.test_client import stays_silent_after

RUN = {
    "runId": RUN_ID,
    "runner": "greet",
    "status": "running",
    "attempt": 1,
    "lastSeq": 3,
    "createdAt": "2026-01-01T00:00:00.000Z",
    "input": {"name": "Ada"},
}


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["up", "--port", "x"], "'x' is not a valid integer"),
        (["up", "--port", "70000"], "setting RUNCAST_PORT: Input should be less than or equal to 65535"),
        (["up", "--workers", "0"], "setting RUNCAST_WORKERS: Input should be greater than or equal to 1"),
        (["up", "--port", "4000", "--web-port", "4000"], "--port and --web-port are both 4000"),
        (["up", "--host", "0.0.0.0"], "refusing to listen on 0.0.0.0 without a key: set RUNCAST_API_KEY"),
        (["up", "--host", "192.0.2.1"], "refusing to listen on 192.0.2.1 without a key"),
        (["api", "--host", "0.0.0.0"], "refusing to listen on 0.0.0.0 without a key"),
        (["worker"], "`runcast worker` needs REDIS_URL"),
        (["check", "missing.py"], "missing.py: no such file"),
        (["run"], "give either a PROMPT or --runner NAME"),
        (["run", "prompt", "--input", "{}"], "--input belongs to --runner"),
        (["run", "--runner", "x", "--input", "[1]"], "--input must be a JSON object"),
        (["run", "prompt", "--priority", "101"], "101 is not in the range 0<=x<=100"),
        (["answer", "x"], "give --approve, --reject or --value JSON"),
        (["answer", "x", "--approve", "--value", "1"], "give --approve, --reject or --value JSON"),
        (["answer", "x", "--approve", "--reject"], "give --approve, --reject or --value JSON, one of them"),
        (["answer", "x", "--value", "{"], "--value is not JSON"),
        (["runs", "--limit", "0"], "0 is not in the range 1<=x<=200"),
        (["watch", "x", "--after", "1-2-3"], "'1-2-3' is not a cursor"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str], reason: str, tmp_path: Path) -> None:
    """Whoever mistypes learns in one sentence what to change."""
    result = runcast(*arguments, cwd=str(tmp_path))
    assert result.returncode == 2
    assert result.stderr.startswith("runcast: ")
    assert result.stderr.count("\n") == 1
    assert reason in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("RUNCAST_TAIL_BYTES", "1", "setting RUNCAST_TAIL_BYTES: Input should be greater than or equal to 1024"),
        ("REDIS_URL", "localhost:6379", "setting REDIS_URL: give one of redis://, rediss://, unix://"),
        ("REDIS_URL", "redis+cluster://one", "REDIS_URL: 'one' isn't the host:port of a node"),
        ("REDIS_URL", "redis+sentinel://one:1", "REDIS_URL: a Sentinel URL ends with the service's name"),
        ("RUNCAST_API_KEY", "schlüssel", "setting RUNCAST_API_KEY: only ASCII"),
        ("RUNCAST_API_KEY", "two words", "setting RUNCAST_API_KEY: only ASCII"),
        ("RUNCAST_HEADERS", "ada", "setting RUNCAST_HEADERS: give `name: value`, one per line"),
    ],
)
def test_a_variable_that_does_not_fit_is_named_before_anything_starts(
    variable: str, value: str, reason: str, tmp_path: Path
) -> None:
    """One line with the name under which the environment has it, and nothing left behind."""
    result = runcast("up", "--port", "0", "--web-port", "0", cwd=str(tmp_path), env={variable: value})
    assert result.returncode == 2
    assert result.stderr.startswith(f"runcast: {reason}")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--port", "--web-port"])
def test_a_taken_port_is_named_with_its_option(option: str, taken_port: int, tmp_path: Path) -> None:
    """Nothing is started on a port that somebody else has."""
    other = {"--port": "--web-port", "--web-port": "--port"}[option]
    result = runcast("up", option, str(taken_port), other, "0", cwd=str(tmp_path))
    assert result.returncode == 2
    assert (
        f"runcast: port {taken_port} on 127.0.0.1 is taken: stop what uses it, or choose another with {option}\n"
        == result.stderr
    )
    assert list(tmp_path.iterdir()) == []


def test_no_server_says_what_to_start() -> None:
    """Clients without a server are told how to get one, and fail at run time, not as misused."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = runcast("stats", env={"RUNCAST_URL": f"http://127.0.0.1:{closed.getsockname()[1]}"})
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "start a server with `runcast up`" in result.stderr


def test_help_loads_next_to_nothing() -> None:
    """Help comes at once: neither settings nor servers are imported for it."""
    heavy = {"pydantic_settings", "structlog", "redis", "sqlalchemy", "fastapi", "httpx"}
    code = f"""import sys
from runcast.cli import cli
cli.main(["--help"], standalone_mode=False)
print(sorted({heavy!r} & set(sys.modules)))"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


async def watched(*arguments: str, url: str, **environment: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "runcast", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env=clean_environment({"RUNCAST_URL": url, **environment}),
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


async def test_watch_ends_with_0_when_the_run_is_done() -> None:
    """Each event is a line; the run's output is on the last."""
    async with gateway(sends(connected(), event(1), ended(2))) as server:
        code, output, errors = await watched("watch", RUN_ID, url=server.url)
    assert (code, errors) == (0, "")
    assert output.splitlines() == ["00:00:00.000    event 1 of 1", '00:00:00.000  done  {"ok": true}']


async def test_watch_ends_with_1_when_the_run_failed() -> None:
    """A script can tell by the exit code; the reason is on the line."""
    async with gateway(sends(connected(), failed(1))) as server:
        code, output, _ = await watched("watch", RUN_ID, url=server.url)
    assert code == 1
    assert output == "00:00:00.000  failed  boom: it broke\n"


async def test_watch_json_is_one_event_per_line() -> None:
    """What programs read holds the events as they are on the wire, and nothing else."""
    async with gateway(sends(connected(), event(1), ended(2))) as server:
        _, output, _ = await watched("watch", RUN_ID, "--json", url=server.url)
    assert [event(1), ended(2)] == output.splitlines()


async def test_a_watch_from_the_middle_knows_steps_by_name() -> None:
    """Also those that began before."""
    ended_step = step_succeeded(2, "step-2")
    async with gateway(sends(connected(), ended_step, ended(3))) as server:
        step = {"stepId": "step-2", "name": "write", "index": 1, "status": "running", "attempt": 1}
        server.answers[f"/runs/{RUN_ID}"] = (200, {**RUN, "steps": [step]})
        code, output, _ = await watched("watch", RUN_ID, "--after", "1-1", url=server.url)
    assert code == 0
    assert output.splitlines()[0] == "00:00:00.000  ✔ write 1.50 s"


async def test_runs_are_listed_a_line_each() -> None:
    """The newest first, as the server has them; what users have typed can't leave its line."""
    second = {**RUN, "runId": "run-2", "runner": "prompt", "prompt": "wait\n1 second\x1b[2J " + "x" * 100}
    async with gateway() as server:
        server.answers["/runs"] = (200, {"runs": [second, RUN]})
        code, output, _ = await watched("runs", "--status", "running", "--tag", "a b", "--limit", "2", url=server.url)
        _, lines, _ = await watched("runs", "--json", url=server.url)
        asked = [parse_qs(urlsplit(path).query) for path in server.paths]
    assert code == 0
    first, last = output.splitlines()
    assert re.fullmatch(r"run-2 +running +prompt +\d+ d  wait 1 second\\x1b\[2J x+…", first)
    assert re.fullmatch(r'run-1 +running +greet +\d+ d  {"name": "Ada"}', last)
    assert asked == [{"status": ["running"], "tag": ["a b"], "limit": ["2"]}, {"limit": ["20"]}]
    listed = [json.loads(line) for line in lines.splitlines()]
    assert [(each["runId"], each["input"]) for each in listed] == [
        ("run-2", {"name": "Ada"}),
        ("run-1", {"name": "Ada"}),
    ]
    assert "steps" not in listed[0]


@pytest.mark.parametrize("option", ["--approve", "--reject"])
async def test_what_asks_for_data_is_not_approved(option: str) -> None:
    """The command says how it is answered, and sends nothing."""
    request = {
        "requestId": "q1",
        "kind": "input",
        "prompt": "Which seat?",
        "schema": {"type": "object"},
        "askedAt": RUN["createdAt"],
    }
    async with gateway() as server:
        server.answers[f"/runs/{RUN_ID}"] = (200, {**RUN, "requests": [request]})
        code, _, errors = await watched("answer", RUN_ID, option, url=server.url)
        assert server.paths == [f"/runs/{RUN_ID}"]
    assert (code, errors) == (2, "runcast: q1 asks for data, not for an approval: answer with --value JSON\n")


async def test_an_unknown_run_is_told_without_a_hint_to_start_a_server() -> None:
    """The server is there; the run isn't."""
    async with gateway(sends(close=(4404, "no such run"))) as server:
        code, _, errors = await watched("watch", RUN_ID, url=server.url)
    assert (code, errors) == (1, "runcast: no run has the id 'run-1'\n")


async def test_a_missing_key_is_told_with_the_variable_that_holds_it() -> None:
    """The server's sentence, and where the command has what it sends from."""
    async with gateway() as server:
        server.answers["/runs/stats"] = (401, {"code": "unauthorized", "detail": "the API key is wrong"})
        code, output, errors = await watched("stats", url=server.url)
    assert (code, output) == (1, "")
    assert errors == (
        "runcast: the API key is wrong; what this command sends is in RUNCAST_API_KEY and RUNCAST_HEADERS\n"
    )


async def test_the_command_sends_the_headers_of_the_environment() -> None:
    """One per line; what a value has of colons is its own."""
    async with gateway() as server:
        server.answers["/runs/stats"] = (200, {})
        await watched("stats", url=server.url, RUNCAST_HEADERS="X-User: ada\n\nx-at:12:30\n")
        (sent,) = server.headers
    assert (sent["x-user"], sent["x-at"]) == ("ada", "12:30")


async def test_ctrl_c_stops_watching_and_nothing_else() -> None:
    """Exit code 130, no request to cancel, no traceback."""
    async with gateway(stays_silent_after(event(1))) as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "runcast", "watch", RUN_ID),
            stdout=PIPE,
            stderr=PIPE,
            env=clean_environment({"RUNCAST_URL": server.url}),
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (130, b"\n")  # the line that ^C began
        assert len(server.headers) == 1
