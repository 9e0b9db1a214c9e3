"""The supervisor with real children: small Python ones, and the Redis that comes with Runcast."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis

from runcast.backends.embedded import EmbeddedRedis, prepare_redis
from runcast.core.pacing import Backoff
from runcast.errors import ConfigurationError, UnavailableError
from runcast.stack import redis_child
from runcast.supervisor import Child, ChildSpec, Pace, Supervisor, describe_exit, run_once
from tests.cli.processes import clean_environment, command_line, eventually, is_running

FAST = Pace(backoff=Backoff(base_seconds=0.01, cap_seconds=0.05), jitter=lambda: 0.0)
SLEEPER = "import time; time.sleep(600)"


def python(name: str, code: str, *, stop_seconds: float = 10, is_quiet: bool = False) -> ChildSpec:
    return ChildSpec(name=name, argv=(sys.executable, "-S", "-c", code), stop_seconds=stop_seconds, is_quiet=is_quiet)


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(pace=FAST)
    yield supervisor
    await supervisor.stop()


async def start_one(supervisor: Supervisor, spec: ChildSpec) -> tuple[Child, int]:
    await supervisor.start(spec)
    child = supervisor.children[-1]
    assert child.pid is not None
    return child, child.pid


async def test_a_child_is_recognisable_by_its_own_command_line(supervisor: Supervisor) -> None:
    """The leash leaves no trace in the process list: the child's own command stands there."""
    _, pid = await start_one(supervisor, python("sleeper", SLEEPER))
    command = f"{sys.executable} -S -c {SLEEPER}"
    await eventually(lambda: command_line(pid) == command, "the leash becomes the command")


async def test_a_killed_child_is_started_again(supervisor: Supervisor) -> None:
    """After kill -9 of a child there is another one."""
    child, pid = await start_one(supervisor, python("sleeper", SLEEPER))
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: child.pid not in {None, pid}, "a new process")
    assert child.restarts == 1


async def test_a_child_that_always_dies_is_never_given_up(supervisor: Supervisor) -> None:
    """A child that fails at once is started again and again."""
    await supervisor.start(python("failing", "raise SystemExit(1)"))
    child = supervisor.children[-1]
    await eventually(lambda: child.restarts >= 3, "three restarts")


async def test_what_a_dead_child_leaves_behind_is_killed(supervisor: Supervisor, tmp_path: Path) -> None:
    """A process that a child started doesn't outlive it."""
    note = tmp_path / "pid"
    code = f"""import subprocess, sys, time
left = subprocess.Popen([sys.executable, '-S', '-c', {SLEEPER!r}])
open({str(note)!r} + '.new', 'w').write(str(left.pid))
__import__('os').rename({str(note)!r} + '.new', {str(note)!r})
time.sleep(600)"""
    _, pid = await start_one(supervisor, python("parent", code))
    await eventually(note.exists, "the grandchild is started")
    grandchild = int(note.read_text())
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not is_running(grandchild), "the grandchild is gone")


async def test_stop_asks_and_then_kills() -> None:
    """A child that ignores SIGTERM is killed when its time is over."""
    supervisor = Supervisor(pace=FAST)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); time.sleep(600)"
    )
    child, pid = await start_one(supervisor, python("stubborn", code, stop_seconds=0.3, is_quiet=True))
    await eventually(lambda: "set" in child._last_lines, "the child ignores SIGTERM")
    await supervisor.stop()
    assert not is_running(pid)
    assert child.exit_code == -signal.SIGKILL


async def test_groups_stop_in_the_reverse_order(tmp_path: Path) -> None:
    """The group started last has ended before the one before it is asked to stop."""
    supervisor = Supervisor(pace=FAST)
    order = tmp_path / "order"
    for name in ("first", "second"):
        code = f"""import signal, sys
def stop(*_):
    open({str(order)!r}, 'a').write('{name} ')
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print('set', flush=True)
signal.pause()"""
        child, _ = await start_one(supervisor, python(name, code, is_quiet=True))
        await eventually(lambda child=child: "set" in child._last_lines, f"{name} listens")
    await supervisor.stop()
    assert order.read_text() == "second first "


async def test_a_configuration_error_ends_the_start(supervisor: Supervisor) -> None:
    """A child that ends with exit code 2 before it is ready is not tried again."""

    async def never() -> bool:
        return False

    spec = ChildSpec(name="misconfigured", argv=(sys.executable, "-c", "raise SystemExit(2)"), is_ready=never)
    with pytest.raises(ConfigurationError, match="misconfigured can't start"):
        await supervisor.start(spec)
    assert supervisor.children == []


async def test_a_child_that_is_never_ready_is_reported(supervisor: Supervisor) -> None:
    """Waiting for readiness has an end."""

    async def never() -> bool:
        return False

    spec = ChildSpec(name="slow", argv=(sys.executable, "-c", SLEEPER), is_ready=never)
    with pytest.raises(UnavailableError, match=r"slow was not ready within 0\.1 s"):
        await supervisor.start(spec, ready_seconds=0.1)


async def test_a_child_that_ran_long_enough_starts_again_at_once() -> None:
    """The backoff forgets failures after a stable time."""
    supervisor = Supervisor(pace=Pace(backoff=Backoff(base_seconds=0.01, cap_seconds=600), stable_seconds=0))
    child, _ = await start_one(supervisor, python("failing", "raise SystemExit(1)"))
    try:
        await eventually(lambda: child.restarts >= 5, "five restarts without a growing wait")
    finally:
        await supervisor.stop()


async def test_no_orphan_is_left_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """After kill -9 of the supervisor its children end, and Redis is one of them."""
    code = f"""import asyncio, os, sys
from pathlib import Path
from runcast.backends.embedded import prepare_redis
from runcast.stack import hold_data_dir, redis_child
from runcast.supervisor import ChildSpec, Supervisor
from runcast.observe.logging import configure_logging
configure_logging(level="warning", format="json")
async def main(lock):
    supervisor = Supervisor()
    redis = prepare_redis(Path({str(tmp_path)!r}), environ=os.environ)
    sleeper = ChildSpec(name='sleeper', argv=(sys.executable, '-c', {SLEEPER!r}))
    await supervisor.start(redis_child(redis, lock=lock), sleeper)
    print(*(child.pid for child in supervisor.children), flush=True)
    await asyncio.sleep(600)
with hold_data_dir(Path({str(tmp_path)!r})) as lock:
    asyncio.run(main(lock))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, env=clean_environment()
    )
    assert process.stdout is not None
    pids = [int(word) for word in (await process.stdout.readline()).split()]
    assert [is_running(pid) for pid in pids] == [True, True]
    process.kill()
    await process.wait()
    await eventually(lambda: not any(map(is_running, pids)), "the children end")


async def test_run_once_returns_the_exit_code() -> None:
    """A command that is run once tells how it ended."""
    assert await run_once(python("seven", "raise SystemExit(7)")) == 7


def test_exits_are_told_in_words() -> None:
    """A signal is named, an exit code is given."""
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(-9) == "killed by SIGKILL"


class TestEmbeddedRedis:
    """The supervisor and the Redis that comes with Runcast."""

    @pytest.fixture
    def embedded(self, tmp_path: Path) -> EmbeddedRedis:
        return prepare_redis(tmp_path, environ=os.environ)

    @pytest.fixture
    async def lock(self, tmp_path: Path) -> AsyncIterator[int]:
        lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
        yield lock
        os.close(lock)

    async def test_it_survives_kill_9_with_its_data(
        self, supervisor: Supervisor, embedded: EmbeddedRedis, lock: int
    ) -> None:
        """Killed, it is started again and has what was on the disk."""
        child, pid = await start_one(supervisor, redis_child(embedded, lock=lock))
        client = redis.Redis.from_url(embedded.url, decode_responses=True)
        await client.set("kept", "yes")
        await client.waitaof(1, 0, 5000)
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: child.pid not in {None, pid}, "a new process")
        await eventually(embedded.is_ready, "it answers again")
        assert await client.get("kept") == "yes"
        await client.aclose()

    async def test_a_clean_stop_keeps_the_last_write(self, embedded: EmbeddedRedis, lock: int) -> None:
        """SIGTERM writes the append-only file out before Redis ends."""
        for expected in (None, "yes"):
            supervisor = Supervisor(pace=FAST)
            child, _ = await start_one(supervisor, redis_child(embedded, lock=lock))
            client = redis.Redis.from_url(embedded.url, decode_responses=True)
            assert expected == await client.get("kept")
            await client.set("kept", "yes")
            await client.aclose()
            await supervisor.stop()
            assert child.exit_code == 0

    async def test_it_is_private(self, supervisor: Supervisor, embedded: EmbeddedRedis, lock: int) -> None:
        """It listens on no TCP port, and only its owner may open the socket."""
        child, pid = await start_one(supervisor, redis_child(embedded, lock=lock))
        client = redis.Redis.from_url(embedded.url, decode_responses=True)
        assert await client.config_get("port") == {"port": "0"}
        assert await client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        await client.aclose()
        assert embedded.socket.stat().st_mode & 0o777 == 0o700
        assert embedded.socket.parent.stat().st_mode & 0o777 == 0o700
        assert "valkey-server" in command_line(pid)
        assert child.restarts == 0
