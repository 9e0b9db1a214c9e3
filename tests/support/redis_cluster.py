"""A real Redis Cluster of the tests' own, on free ports of loopback: masters, and a replica of each if wanted."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from runcast import leash
from runcast.backends.embedded import find_server
from tests.support.stack import free_port

SLOTS: Final = 16_384
NODE_TIMEOUT_MS: Final = 1_000
DEADLINE_SECONDS: Final = 40


class ClusterNode:
    """One server process."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.home.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self._choose_ports()

    def start(self) -> None:
        """Start, with other ports if another process has taken these in the meantime."""
        is_new = not any(self.home.iterdir())
        for _ in range(5 if is_new else 1):
            self._launch()
            wait_until(lambda: self._has_ended() or self._answers(), "the node answers")
            if not self._has_ended():
                return
            self._choose_ports()
        raise AssertionError("the node does not start")

    def _choose_ports(self) -> None:
        self.port, self._bus_port = free_port(), free_port()
        self.client = redis.Redis(host="127.0.0.1", port=self.port, decode_responses=True, socket_timeout=5)

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _launch(self) -> None:
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self.home,
            "cluster-enabled": "yes",
            "cluster-port": self._bus_port,
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-replica-validity-factor": 0,
            "appendonly": "no",
            "repl-diskless-sync-delay": 0,
            "save": "",
        }
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        argv = leash.wrap([str(find_server(os.environ)), *words], parent_pid=os.getpid(), python=sys.executable)
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _answers(self) -> bool:
        """Whether this node answers: another server may have taken the port in the meantime."""
        try:
            return self.client.config_get("dir") == {"dir": str(self.home)}
        except redis.RedisError:
            return False

    def pause(self) -> None:
        """Hang: neither answer nor close."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(20)
            self._process = None

    def command(self, *words: Any) -> Any:
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call] # redis-py leaves it so

    @property
    def id(self) -> str:
        return str(self.command("CLUSTER", "MYID"))

    @property
    def state(self) -> dict[str, Any]:
        lines = self.command("CLUSTER", "INFO")
        return lines if isinstance(lines, dict) else dict(line.split(":") for line in lines.split())


class RedisCluster:
    """Masters with equal shares of the slots, and their replicas in the same order."""

    def __init__(self, home: Path, *, has_replicas: bool) -> None:
        self.masters = [ClusterNode(home / f"master-{number}") for number in range(3)]
        self.replicas = [ClusterNode(home / f"replica-{number}") for number in range(3 if has_replicas else 0)]

    @property
    def nodes(self) -> Sequence[ClusterNode]:
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.masters)

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        share = -(-SLOTS // len(self.masters))
        for number, node in enumerate(self.masters):
            node.command("CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
            node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            # redis-py has no word for the bus port.
            node.command("CLUSTER", "MEET", "127.0.0.1", self.masters[0].port, self.masters[0]._bus_port)
        wait_until(lambda: all(int(node.state["cluster_known_nodes"]) == len(self.nodes) for node in self.nodes), "met")
        for master, replica in zip(self.masters, self.replicas, strict=False):
            wait_until(lambda m=master, r=replica: self._replicate(m, r), "it replicates")  # type: ignore[misc]
        wait_until(lambda: all(node.state["cluster_state"] == "ok" for node in self.nodes), "the cluster is ok")
        for replica in self.replicas:
            wait_until(lambda r=replica: r.client.info()["master_link_status"] == "up", "the replica follows")  # type: ignore[misc]

    @staticmethod
    def _replicate(master: ClusterNode, replica: ClusterNode) -> bool:
        try:
            return bool(replica.command("CLUSTER", "REPLICATE", master.id))
        except redis.ResponseError:  # it doesn't know it yet
            return False

    def owner_of(self, key: str) -> ClusterNode:
        """The master that has the key's slot, by its own word."""
        slot = self.masters[0].command("CLUSTER", "KEYSLOT", key)
        for node in self.nodes:
            try:
                if f"{node.port}" == str(self._place_of(node, slot)):
                    return node
            except redis.RedisError:
                continue
        raise AssertionError(f"nobody has slot {slot}")

    @staticmethod
    def _place_of(node: ClusterNode, slot: int) -> int | None:
        node.client.ping()
        for first, last, master, *_ in _slots(node):
            if first <= slot <= last:
                return int(master[1])
        return None

    def move(self, key: str, to: ClusterNode) -> None:
        """Move the slot of a key, with all that is in it, as `redis-cli --cluster reshard` does."""
        begin_move(self, key, to)
        end_move(self, key, to)

    def flush(self) -> None:
        for node in self.masters:
            node.client.flushall()

    def scan(self) -> Iterator[tuple[ClusterNode, str]]:
        """Every key, with the master that has it."""
        for node in self.masters:
            for key in node.client.scan_iter():
                yield node, key

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
            node.client.close()


def begin_move(cluster: RedisCluster, key: str, to: ClusterNode) -> ClusterNode:
    """Both sides know that the slot is about to move; keys that aren't there are asked for at the new one."""
    source = cluster.owner_of(key)
    slot = source.command("CLUSTER", "KEYSLOT", key)
    to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", to.id)
    return source


def end_move(cluster: RedisCluster, key: str, to: ClusterNode) -> None:
    """Move the keys, and the slot itself."""
    source = cluster.owner_of(key)
    slot = source.command("CLUSTER", "KEYSLOT", key)
    while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
    for node in (to, source, *(each for each in cluster.masters if each not in (to, source))):
        node.command("CLUSTER", "SETSLOT", slot, "NODE", to.id)


def _slots(node: ClusterNode) -> list[Any]:
    raw = redis.Redis(host="127.0.0.1", port=node.port, decode_responses=True, socket_timeout=5)
    raw.response_callbacks.clear()
    try:
        answer: list[Any] = raw.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call] # as above
    finally:
        raw.close()
    return answer


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.01)


@contextmanager
def start_cluster(*, has_replicas: bool = False) -> Iterator[RedisCluster]:
    home = Path(tempfile.mkdtemp(prefix="rc-cluster-"))
    cluster = RedisCluster(home, has_replicas=has_replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)
