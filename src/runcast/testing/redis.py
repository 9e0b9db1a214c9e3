"""A Redis for a test session: started once, gone with whoever started it."""

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from runcast import leash
from runcast.backends.embedded import prepare_redis
from runcast.errors import UnavailableError

_REDIS_START_SECONDS: Final = 20


class TestRedis:
    """A Redis of the tests' own, on a unix socket in a temporary folder. It ends with the process that started it."""

    __test__ = False  # pytest takes the name for a test's
    _shared: "TestRedis | None" = None

    def __init__(self) -> None:
        self._folder: Final = tempfile.TemporaryDirectory(prefix="rc-", ignore_cleanup_errors=True)
        embedded = prepare_redis(Path(self._folder.name), environ=os.environ)
        self.url: Final = embedded.url
        # On a leash: a suite that is killed leaves no server behind.
        argv = leash.wrap(list(embedded.argv), parent_pid=os.getpid(), python=sys.executable)
        self._process: Final = subprocess.Popen(  # noqa: S603  # the server that was found
            argv,
            stdin=subprocess.DEVNULL if leash.USES_KERNEL else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        atexit.register(self.stop)
        self._wait_ready(embedded.socket)

    @classmethod
    def shared(cls) -> "TestRedis":
        """The one of this process, started when it is first asked for."""
        if cls._shared is None or not cls._shared.is_running:
            cls._shared = cls()
        return cls._shared

    @property
    def is_running(self) -> bool:
        """Whether the server has not ended."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the server; its data go with it."""
        atexit.unregister(self.stop)
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _wait_ready(self, path: Path) -> None:
        deadline = time.monotonic() + _REDIS_START_SECONDS
        while not _answers(path):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise UnavailableError("the Redis for the tests doesn't start")
            time.sleep(0.01)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(7) == b"+PONG\r\n"
        except OSError:
            return False
