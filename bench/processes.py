"""Processes that the bench starts: pinned, on a leash, and ended with all they have started."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.errors import VoidError
from bench.machine import find_descendants, pinned
from runcast import leash

START_SECONDS: Final = 30
STOP_SECONDS: Final = 5
_GIVEN_PORTS: Final[set[int]] = set()


def find_free_port() -> int:
    """A port of this machine that nobody listens on and that wasn't given before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _GIVEN_PORTS:
            _GIVEN_PORTS.add(port)
            return port


@contextmanager
def start_process(
    argv: Sequence[object],
    *,
    core: int,
    is_ready: Callable[[], bool],
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on a core until the block ends; its output is shown only if it fails to start."""
    with tempfile.TemporaryFile() as output:
        with pinned(core):
            process = subprocess.Popen(
                leash.wrap([str(word) for word in argv], parent_pid=os.getpid(), python=sys.executable),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environ or {})},
                cwd=cwd,
            )
        try:
            _await_ready(process, str(argv[0]), is_ready, lambda: _read_tail(output.fileno()))
            yield process
        finally:
            _stop(process)


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _await_ready(
    process: subprocess.Popen[bytes], name: str, is_ready: Callable[[], bool], said: Callable[[], str]
) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        if process.poll() is not None:
            raise VoidError(f"{name} ended with {process.returncode}: {said()}")
        if time.monotonic() > deadline:
            raise VoidError(f"{name} isn't ready: {said()}")
        time.sleep(0.02)


def _read_tail(fd: int) -> str:
    size = os.fstat(fd).st_size
    return os.pread(fd, 2000, max(0, size - 2000)).decode(errors="replace")


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = find_descendants(process.pid)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in set(family) & set(find_descendants(os.getpid())) - {os.getpid(), process.pid}:
        os.kill(pid, signal.SIGKILL)
