"""Keeps processes running: starts them in groups, restarts what dies, stops the groups in the reverse order.

A child ends with its supervisor, even after `kill -9` (see `leash`). It leads its own process group, so that Ctrl-C in
a terminal reaches the supervisor alone, which knows the order; what it leaves behind in that group is killed before it
is started again. The supervisor never gives up on a child that once was ready: it waits longer, and says so.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import threading
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from runcast.core.pacing import Backoff
from runcast.errors import ConfigurationError, RuncastError, UnavailableError
from runcast.leash import USES_KERNEL, wrap
from runcast.logs import get_logger

EXIT_CONFIGURATION: Final = 2
"""The exit code of a child that can't work as it is configured: starting it again would not help."""

RETIRE_SIGNAL: Final = signal.SIGUSR1
"""Asks a child to begin nothing new, and to end once it has finished what it has begun."""

_STDERR: Final = 2
"""Where children's output goes: standard output belongs to the summary and to what programs read."""

_READY_CHECK_SECONDS: Final = 0.02
_LAST_LINES: Final = 20
_MAX_LINE_BYTES: Final = 65_536

log = get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """A process to keep running."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None  # all of it; None: the supervisor's own
    is_ready: Callable[[], Awaitable[bool]] | None = None  # without it a child is ready once it is started
    stop_seconds: float = 10  # from SIGTERM to SIGKILL
    is_quiet: bool = False  # its output is logged at debug level, and in full only when it dies
    inherited_fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a child that dies is started again."""

    backoff: Backoff = field(default_factory=lambda: Backoff(base_seconds=0.1, cap_seconds=15))
    stable_seconds: float = 10  # a child that ran so long starts again as if it had never failed
    jitter: Callable[[], float] = random.random


class Child:
    """One process, through all its lives."""

    def __init__(self, spec: ChildSpec, *, pace: Pace) -> None:
        self.spec: Final = spec
        self.restarts = 0
        self.exit_code: int | None = None  # of the last life that ended
        self._pace: Final = pace
        self._process: Process | None = None  # the present life
        self._was_ready = False
        self._stopping: Final = asyncio.Event()
        self._last_lines: Final[deque[str]] = deque(maxlen=_LAST_LINES)
        self._keeping = asyncio.create_task(self._keep_running(), name=f"child {spec.name}")

    def __repr__(self) -> str:
        return f"<Child {self.spec.name} pid={self.pid} restarts={self.restarts}>"

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._process.pid if self._process else None

    async def wait_ready(self, *, ready_seconds: float) -> None:
        """Wait until the child answers.

        Raises:
            ConfigurationError: it ended because it can't work as configured; it has said why.
            UnavailableError: it wasn't ready in time.

        """
        try:
            async with asyncio.timeout(ready_seconds):
                while not await self._is_ready():
                    if self.exit_code == EXIT_CONFIGURATION:
                        raise ConfigurationError(f"{self.spec.name} can't start: the reason stands above")
                    await asyncio.sleep(_READY_CHECK_SECONDS)
                self._was_ready = True
        except TimeoutError:
            raise UnavailableError(f"{self.spec.name} was not ready within {ready_seconds:g} s") from None

    async def stop(self) -> None:
        """Ask the process to end, kill it if it doesn't, and don't start it again."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self._keeping}, timeout=self.spec.stop_seconds)
        if not done:
            log.warning("process did not stop in time and is killed", process=self.spec.name, pid=self.pid)
            self.kill()
        await self._keeping

    async def retire(self, *, finish_seconds: float) -> None:
        """Let the process finish what it has begun, for so long, and don't start it again."""
        self._stopping.set()
        self._signal(RETIRE_SIGNAL)
        # It counts too, and needs a moment to give back what it couldn't finish.
        await asyncio.wait({self._keeping}, timeout=finish_seconds + self.spec.stop_seconds)
        await self.stop()

    def kill(self) -> None:
        """Kill the process and its group now; don't start it again."""
        self._stopping.set()
        if self._process:
            _kill_group(self._process.pid)

    async def _is_ready(self) -> bool:
        if self._process is None:
            return False
        return await self.spec.is_ready() if self.spec.is_ready else True

    async def _keep_running(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            started = asyncio.get_running_loop().time()
            await self._live()
            if self._stopping.is_set() or (self.exit_code == EXIT_CONFIGURATION and not self._was_ready):
                return
            ran_seconds = asyncio.get_running_loop().time() - started
            failures = 1 if ran_seconds >= self._pace.stable_seconds else failures + 1
            delay_seconds = self._pace.backoff.delay_seconds(failures, jitter=self._pace.jitter())
            self._report_death(failures, delay_seconds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_seconds)
            self.restarts += 1

    async def _live(self) -> None:
        """One life, from start to end."""
        self._last_lines.clear()
        try:
            process = self._process = await spawn(self.spec)
        except OSError as error:  # no memory, no descriptors: as passing as a death
            log.warning("❌ process can't be started", process=self.spec.name, error=str(error))
            return
        if self._stopping.is_set():  # it was asked to stop while it started
            self._signal(signal.SIGTERM)
        async with asyncio.TaskGroup() as tasks:
            if process.stdout is not None:
                tasks.create_task(self._relay(process.stdout))
            self.exit_code = await process.wait()
            self._process = None
            _kill_group(process.pid)  # which also ends the output, if a descendant still holds it

    async def _relay(self, output: asyncio.StreamReader) -> None:
        while True:
            try:
                line = await output.readline()
            except ValueError:  # longer than `_MAX_LINE_BYTES`; the reader has dropped it
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            self._last_lines.append(text)
            log.debug(text, process=self.spec.name)

    def _report_death(self, failures: int, delay_seconds: float) -> None:
        for line in self._last_lines:
            log.error(line, process=self.spec.name)
        log.error(
            "❌ process died and will be started again",
            process=self.spec.name,
            reason=describe_exit(self.exit_code or 0),
            deaths_in_a_row=failures,
            restart_in_seconds=round(delay_seconds, 2),
        )

    def _signal(self, number: signal.Signals) -> None:
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class Supervisor:
    """Groups of children, started one after the other and stopped the other way round."""

    def __init__(self, *, pace: Pace | None = None) -> None:
        self._pace: Final = pace or Pace()
        self._groups: Final[list[list[Child]]] = []

    @property
    def children(self) -> list[Child]:
        """All the children, in the order of their start."""
        return [child for group in self._groups for child in group]

    async def start(
        self, *specs: ChildSpec, ready_seconds: float = 60, beside: Sequence[Child] | None = None
    ) -> list[Child]:
        """Start a group and wait until all of it is ready; or more children for the group of others.

        What can't be got ready is stopped again.

        Raises:
            ConfigurationError: a child can't work as configured.
            UnavailableError: a child wasn't ready in time.

        """
        started = [Child(spec, pace=self._pace) for spec in specs]
        group = next((group for group in self._groups if beside and beside[0] in group), None)
        if group is None:
            self._groups.append(started)
        else:
            group.extend(started)
        try:
            await together(*(child.wait_ready(ready_seconds=ready_seconds) for child in started))
        except RuncastError:
            await self.end(started)
            raise
        return started[:]

    async def end(self, children: Sequence[Child]) -> None:
        """Stop some children for good."""
        await asyncio.gather(*(child.stop() for child in children))
        self._forget(children)

    async def retire(self, children: Sequence[Child], *, finish_seconds: float) -> None:
        """Let some children finish what they have begun, and see them end."""
        await asyncio.gather(*(child.retire(finish_seconds=finish_seconds) for child in children))
        self._forget(children)

    async def stop(self) -> None:
        """Stop everything, the last group first."""
        for group in self._groups[::-1]:
            await asyncio.gather(*(child.stop() for child in group))

    def kill(self) -> None:
        """Kill everything at once."""
        for child in self.children:
            child.kill()

    def _forget(self, children: Sequence[Child]) -> None:
        for group in self._groups:
            group[:] = [child for child in group if child not in children]


async def together(*parts: Coroutine[Any, Any, None]) -> None:
    """Run the parts side by side; the first error ends the others and is raised as it is, not in a group."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def run_once(spec: ChildSpec) -> int:
    """Run a command to its end and return its exit code; it is killed if the caller is cancelled."""
    process = await spawn(spec)
    try:
        return await process.wait()
    finally:
        _kill_group(process.pid)
        await process.wait()


async def run_quietly(spec: ChildSpec, *, timeout_seconds: float) -> tuple[int | None, str]:
    """Run a command to its end; its exit code, None if it took too long, and the last line that it wrote."""
    process = await spawn(replace(spec, is_quiet=True))
    try:
        async with asyncio.timeout(timeout_seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        return None, ""
    finally:
        _kill_group(process.pid)
        await process.wait()
    lines = output.decode(errors="replace").split("\n")
    return process.returncode, next((line.strip() for line in reversed(lines) if line.strip()), "")


async def spawn(spec: ChildSpec) -> Process:
    """Start the command on a leash. Only from the main thread: the leash is tied to the thread that starts it."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children are started from the main thread")
    return await asyncio.create_subprocess_exec(
        *wrap(list(spec.argv), parent_pid=os.getpid(), python=sys.executable),
        env=spec.env,
        stdin=DEVNULL if USES_KERNEL else PIPE,
        stdout=PIPE if spec.is_quiet else _STDERR,
        stderr=STDOUT if spec.is_quiet else None,
        limit=_MAX_LINE_BYTES,
        start_new_session=True,
        pass_fds=spec.inherited_fds,
    )


def describe_exit(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _kill_group(pid: int) -> None:
    # PermissionError is how macOS says that only zombies are left in the group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
