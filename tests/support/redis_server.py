"""A real Redis-compatible server of the tests' own: started here, on a unix socket in a temporary folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runcast import leash
from runcast.backends.embedded import EmbeddedRedis, prepare_redis


class RedisServer:
    """One server process that tests may stop, kill and start again; its data stay in `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._embedded: EmbeddedRedis = prepare_redis(home, environ=os.environ)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._embedded.url

    def start(self) -> None:
        # On a leash: a suite that is killed leaves no server behind.
        argv = leash.wrap(list(self._embedded.argv), parent_pid=os.getpid(), python=sys.executable)
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while not self._answers():
            assert self._process.poll() is None, "the server ended at once"
            assert time.monotonic() < deadline, "the server doesn't answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        # Blocking, so that tests inside an event loop can start a server too.
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self._embedded.socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(7) == b"+PONG\r\n"
            except OSError:
                return False

    def pause(self) -> None:
        """Hang: neither answer nor close."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Forget everything, as a server without persistence does."""
        assert self._process is None, "stop it first"
        for kept in (self.home / "redis").iterdir():
            if kept.is_dir():
                shutil.rmtree(kept)
            else:
                kept.unlink()

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(sig)
            self._process.wait(20)
            self._process = None


@contextmanager
def start_redis() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True) as home:
        server = RedisServer(Path(home))
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGKILL)
