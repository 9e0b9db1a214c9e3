"""The tags of runs, each run looked up once per gateway, however many sockets ask and however many events it has."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from runcast.errors import RunNotFoundError
from runcast.records import Run

MAX_RUNS: Final = 10_000
"""Runs whose tags are kept; the one looked up first goes first, and is looked up again if it is asked for."""

_NONE: Final[frozenset[str]] = frozenset()


class RunTags:
    """Tags by run. A run's tags never change."""

    def __init__(self, find_run: Callable[[str], Awaitable[Run]], *, max_runs: int = MAX_RUNS) -> None:
        self._find_run: Final = find_run
        self._max_runs: Final = max_runs
        self._lookups: Final[dict[str, asyncio.Task[frozenset[str]]]] = {}

    async def of(self, run_id: str) -> frozenset[str]:
        """The run's tags.

        Raises:
            UnavailableError: they can't be looked up now.

        """
        lookup = self._lookups.get(run_id)
        if lookup is None:
            lookup = self._lookups[run_id] = asyncio.create_task(self._look_up(run_id), name=f"tags-{run_id}")
            lookup.add_done_callback(lambda done: self._forget_failure(run_id, done))
            if len(self._lookups) > self._max_runs:
                del self._lookups[next(iter(self._lookups))]
        return await asyncio.shield(lookup)

    async def _look_up(self, run_id: str) -> frozenset[str]:
        try:
            return frozenset((await self._find_run(run_id)).tags)
        except RunNotFoundError:
            return _NONE

    def _forget_failure(self, run_id: str, lookup: asyncio.Task[frozenset[str]]) -> None:
        if lookup.cancelled() or lookup.exception() is not None:
            self._lookups.pop(run_id, None)
