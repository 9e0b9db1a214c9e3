"""The native programs, built when their sources are newer, and the load as an object that measures on command."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from bench.errors import UnavailableError, VoidError
from bench.machine import pinned
from runcast import leash

HERE: Final = Path(__file__).parent
BUILD_FOLDER: Final = HERE / ".peers" / "native"
_PROGRAMS: Final[Mapping[str, Sequence[str]]] = {
    "load": ("load.c", "clients.c", "publisher.c", "histogram.c", "common.c"),
    "floor": ("floor.c", "common.c"),
}


def build(name: str) -> Path:
    """The path of a native program, compiled if it has to be.

    Raises:
        UnavailableError: there is no C compiler.

    """
    program = BUILD_FOLDER / name
    sources = [HERE / "load" / source for source in _PROGRAMS[name]]
    headers = list((HERE / "load").glob("*.h"))
    if program.exists() and program.stat().st_mtime > max(path.stat().st_mtime for path in (*sources, *headers)):
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise UnavailableError("no C compiler: install gcc")
    BUILD_FOLDER.mkdir(parents=True, exist_ok=True)
    # Beside it and then in its place: two benches may build at once.
    fresh = program.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-o", fresh, *sources], check=True)
    fresh.rename(program)
    return program


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """How a server is watched and how it is published to: what the load has to be told about it."""

    port: int
    publish_port: int
    publish: Sequence[str] = ("PUBLISH", "run:%r", "%e")
    publish_raw: str | None = None
    path: str = "/ws/runs/%r"
    wire: str = "plain"
    protocol: str | None = None
    hello: Sequence[str] = ()
    greeting: str | None = '"connected"'
    first_seq: int = 1
    server_pids: Sequence[int] = ()
    redis_pids: Sequence[int] = ()

    def options(self) -> list[str]:
        """As the load program takes them."""
        words: list[tuple[str, object]] = [
            ("port", self.port),
            ("publish-port", self.publish_port),
            ("path", self.path),
            ("wire", self.wire),
            ("first-seq", self.first_seq),
            *(("hello", text) for text in self.hello),
            *(("server-pid", pid) for pid in self.server_pids),
            *(("redis-pid", pid) for pid in self.redis_pids),
        ]
        if self.greeting is not None:
            words.append(("greeting", self.greeting))
        if self.protocol is not None:
            words.append(("protocol", self.protocol))
        if self.publish_raw is not None:
            words.append(("publish-raw", self.publish_raw))
        else:
            words += [("publish", word) for word in self.publish]
        return [part for name, value in words for part in (f"--{name}", str(value))]


@dataclass(slots=True)
class Load:
    """A load program that has connected its clients."""

    _process: "subprocess.Popen[str]"
    arrival: dict[str, Any] = field(default_factory=dict)
    """What was measured while they came."""

    def close_loop(self, in_flight: int, *, warm_seconds: float, seconds: float) -> dict[str, Any]:
        """Publish so many events, wait until all watchers have them, publish the next."""
        return self._command(f"closed {in_flight} {warm_seconds} {seconds}")

    def open_loop(self, events_per_second: float, *, warm_seconds: float, seconds: float) -> dict[str, Any]:
        """Publish at a rate."""
        return self._command(f"open {events_per_second} {warm_seconds} {seconds}")

    def publish(self, events: int) -> dict[str, Any]:
        """Publish so many events of each run, and wait until they are delivered."""
        return self._command(f"publish {events}")

    def leave(self) -> None:
        """All clients go at once, without a word."""
        self._command("leave")

    def come_back(self) -> dict[str, Any]:
        """They come back with their cursors; answered when each has what it missed."""
        return self._command("return")

    def _command(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has said why
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        return self.read_answer()

    def read_answer(self) -> dict[str, Any]:
        """The next line of JSON.

        Raises:
            VoidError: it says that the measurement doesn't count, or nothing at all.

        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise VoidError(f"the load ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "void" in answer:
            raise VoidError(answer["void"])
        return answer

    def finish(self) -> None:
        """Let it close its connections and end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    @classmethod
    def start(cls, argv: Sequence[str], *, core: int) -> Self:
        """Start it and wait until its clients are there."""
        with pinned(core):
            process = subprocess.Popen(
                leash.wrap(list(argv), parent_pid=os.getpid(), python=sys.executable),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        return cls(process)


@contextmanager
def connect_load(
    endpoint: Endpoint, run_ids: Sequence[str], *, core: int, watchers: int, **options: object
) -> Iterator[Load]:
    """A load whose clients (so many of each run) are connected and greeted; `options` are the program's others."""
    with tempfile.NamedTemporaryFile("w", prefix="bench-runs-") as runs:
        runs.write("".join(f"{run_id}\n" for run_id in run_ids))
        runs.flush()
        others = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        argv = [str(build("load")), *endpoint.options(), "--runs", runs.name, "--watchers", str(watchers), *others]
        load = Load.start(argv, core=core)
        try:
            load.arrival = load.read_answer()
            yield load
        finally:
            load.finish()
