"""Real processes for the tests: started by them, looked at by pid, gone when they end."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable

import psutil

DEADLINE_SECONDS = 60  # until a test gives up; three suites may share two cores


async def eventually(is_so: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait until something outside this process is so; a state, not a time."""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                answer = is_so()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


def is_running(pid: int) -> bool:
    """Whether the process lives: a zombie doesn't."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(pid: int) -> str:
    """How the process shows in a process list."""
    return " ".join(psutil.Process(pid).cmdline())


def runcast(
    *arguments: str, env: dict[str, str] | None = None, cwd: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "runcast", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        env=clean_environment(env),
    )


def clean_environment(env: dict[str, str] | None = None) -> dict[str, str]:
    """The environment without what would configure Runcast, and with what is given."""
    foreign = {"REDIS_URL", "DATABASE_URL"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in foreign and not name.startswith(("RUNCAST_", "_RUNCAST_"))
    }
    return kept | (env or {})
