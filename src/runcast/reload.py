"""Hot reload: when an application's code changes, new processes run the new code.

Workers first: the new ones start, the old ones take no more runs, finish those they have on the code that these were
begun with, and end. Then the gateways: their watchers are told to come back, and do. Code that doesn't load replaces
nothing.
"""

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from watchfiles import PythonFilter, awatch

from runcast.errors import RuncastError
from runcast.logs import get_logger
from runcast.supervisor import Child, ChildSpec, Supervisor

T = TypeVar("T")

log = get_logger()

MAX_RETIRING: Final = 8
"""Generations whose runs may still be finishing. Past that the oldest gives its runs back, to the newest code."""

_SHOWN_FILES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The processes that run one state of the code."""

    workers: Sequence[ChildSpec]
    gateways: Sequence[ChildSpec]
    close: Callable[[], None]  # lets go of what they tell their readiness by


@dataclass(slots=True)
class _Generation:
    plan: Plan
    workers: Sequence[Child] = ()
    gateways: Sequence[Child] = ()


class Generations:
    """The processes of the present code, and those of earlier code that finish their runs."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        make_plan: Callable[[], Plan],
        check: Callable[[], Awaitable[str | None]],
        finish_seconds: float,
        shares_ports: bool,
    ) -> None:
        self._supervisor: Final = supervisor
        self._make_plan: Final = make_plan
        self._check: Final = check  # why the code doesn't load, or None
        self._finish_seconds: Final = finish_seconds
        self._shares_ports: Final = shares_ports  # whether new gateways can listen while the old ones do
        self._present: _Generation | None = None
        self._plans: Final[list[Plan]] = []
        self._retiring: Final[dict[asyncio.Task[None], Sequence[Child]]] = {}  # the oldest first

    async def start(self) -> None:
        """Start the first processes, all at once, and wait until they are ready.

        Raises:
            ConfigurationError: one can't work as configured.
            UnavailableError: one wasn't ready in time.

        """
        plan = self._open_plan()
        children = await self._supervisor.start(*plan.workers, *plan.gateways)
        count = len(plan.workers)
        self._present = _Generation(plan, children[:count], children[count:])

    async def follow(self, changes: AsyncIterator[set[Path]]) -> None:
        """Bring the newest code up after each change."""
        async for changed in changes:
            _forget_compiled(changed)
            log.info("🔁 the code has changed", files=_shown(changed))
            await self.reload()

    async def reload(self) -> bool:
        """Replace the processes by new ones; False if the old ones had to stay."""
        reason = await self._check()
        if reason is None:
            try:
                await self._replace()
            except RuncastError as error:
                reason = str(error)
        if reason is not None:
            log.error("❌ the new code does not load; the old goes on", reason=reason)
            return False
        log.info("🔁 the new code is up", finishing_on_old_code=len(self._retiring))
        return True

    async def close(self) -> None:
        """Let go of what the processes were told ready by, once the supervisor has stopped them."""
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for plan in self._plans:
            plan.close()

    async def _replace(self) -> None:
        old = self._present
        assert old is not None, "start comes first"  # noqa: S101
        plan = self._open_plan()
        present = _Generation(plan, gateways=old.gateways)
        beside = (*old.gateways, *old.workers)
        present.workers = await self._supervisor.start(*plan.workers, beside=beside)
        self._present = present
        # Before there is a gateway that knows the new runners: an old worker must not get their runs.
        await self._retire(old.workers)
        if not self._shares_ports:
            await self._supervisor.end(old.gateways)
        present.gateways = await self._supervisor.start(*plan.gateways, beside=beside)
        await self._supervisor.end(old.gateways)

    async def _retire(self, workers: Sequence[Child]) -> None:
        task = asyncio.create_task(
            self._supervisor.retire(workers, finish_seconds=self._finish_seconds), name="retiring workers"
        )
        self._retiring[task] = workers
        task.add_done_callback(self._retiring.pop)
        if len(self._retiring) > MAX_RETIRING:
            oldest = next(iter(self._retiring.values()))
            log.warning("❌ too many generations of code have runs to finish: the oldest gives its runs back")
            await self._supervisor.end(oldest)

    def _open_plan(self) -> Plan:
        plan = self._make_plan()
        self._plans.append(plan)
        return plan


def watch_code(folder: Path, *, ignored: Path) -> AsyncGenerator[set[Path]]:
    """The Python files below a folder that have changed, each time that some have; from now on, whenever the first
    is asked for. Close it.
    """
    changes = _watch(folder, ignored)
    return _follow(changes, asyncio.ensure_future(anext(changes, None)))


async def _follow(changes: AsyncGenerator[T], first: asyncio.Future[T | None]) -> AsyncGenerator[T]:
    try:
        if (changed := await first) is not None:
            yield changed
            async for changed in changes:
                yield changed
    finally:
        await changes.aclose()


async def _watch(folder: Path, ignored: Path) -> AsyncGenerator[set[Path]]:
    changes = awatch(
        folder,
        watch_filter=PythonFilter(ignore_paths=[ignored]),
        ignore_permission_denied=True,
    )
    try:
        async for changed in changes:
            yield {Path(path) for _, path in changed}
    except OSError as error:  # as where the system watches no more folders
        log.warning("❌ the code can't be watched, so it isn't reloaded", folder=str(folder), reason=str(error))


def _forget_compiled(files: Iterable[Path]) -> None:
    """Python knows by second and size whether a compiled file is of its source: two quick saves would look the same."""
    for file in files:
        with contextlib.suppress(OSError, NotImplementedError):
            Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)


def _shown(files: Iterable[Path]) -> list[str]:
    names = sorted(file.name for file in files)
    return names[:_SHOWN_FILES] + ["…"] * (len(names) > _SHOWN_FILES)
