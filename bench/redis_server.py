"""The bench's own Redis: on TCP, because every peer speaks that; in memory, because a disk would be measured too."""

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from bench.processes import find_free_port, start_process
from runcast.backends.embedded import find_server


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server that runs: its process, its port, and a client for what is asked of it now and then."""

    pid: int
    port: int
    client: "redis.Redis"

    @property
    def url(self) -> str:
        """For whoever connects to it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def read_output_bytes(self) -> int:
        """The bytes that it has sent to its clients so far."""
        stats = self.client.info("stats")
        assert isinstance(stats, dict)
        return int(stats["total_net_output_bytes"])


@contextmanager
def start_redis(*, core: int) -> Iterator[RedisServer]:
    """A fresh server until the block ends."""
    port = find_free_port()
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder:
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "save": "", "appendonly": "no"}
        # A slow subscriber is a server that is measured: it shall lag, not be thrown out.
        options |= {"client-output-buffer-limit": "pubsub 0 0 0", "maxclients": 20_000}
        argv = [str(find_server({})), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        with start_process(argv, core=core, is_ready=lambda: _answers(port)) as process:
            client = redis.Redis(port=port)
            try:
                yield RedisServer(process.pid, port, client)
            finally:
                client.close()


def describe_redis() -> str:
    """The server's name, as its file is called."""
    return Path(find_server({})).name


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(7) == b"+PONG\r\n"
    except OSError:
        return False
