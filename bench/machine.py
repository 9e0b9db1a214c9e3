"""The machine: which core is whose, what there is, and how much a process has used."""

import os
import platform
import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WANTED_FILES: Final = 30_000
_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class Cores:
    """The server has one core alone; load and Redis share one, or have one each where there are three."""

    server: int
    redis: int
    load: int
    second: int
    """For a second process of a server: alone from four cores on, else it shares one with Redis or the load."""

    @classmethod
    def choose(cls) -> "Cores":
        """Of those that this process may use. With a single one all share it, and figures say little."""
        mine = sorted(os.sched_getaffinity(0))
        server, load = mine[-1], mine[0]
        return cls(server=server, redis=mine[1] if len(mine) > 2 else load, load=load, second=mine[-2:][0])  # noqa: PLR2004 - see above


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started inside runs on one core, with all its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def raise_file_limit() -> int:
    """Let processes hold as many connections as they may; returns how many files that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(hard, WANTED_FILES), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
        except (OSError, ValueError):
            continue
        return wanted
    return soft


def describe_machine(cores: Cores) -> dict[str, str]:
    """What a reader has to know to compare figures."""
    return {
        "cpu": _read_cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pinned": f"server on core {cores.server}, Redis on core {cores.redis}, load on core {cores.load}",
    }


def find_descendants(pid: int) -> list[int]:
    """A process and all it has started, itself first."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            children.setdefault(_read_parent(int(folder.name)), []).append(int(folder.name))
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found


def read_memory_kib(pids: Iterable[int]) -> float:
    """The proportional set size of processes: shared pages count in parts."""
    return sum(_read_pss_kib(pid) for pid in pids)


def _read_pss_kib(pid: int) -> int:
    for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _read_parent(pid: int) -> int:
    try:
        return int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _read_cpu_model() -> str:
    for line in (_PROC / "cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
