"""What stands beside the parts in a test: a clock that jumps, and a store that lets its worker die."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

from runcast.assembly import utc_now
from runcast.events import StepStatus
from runcast.ports import RunStore
from runcast.records import Commit


class Clock:
    """The clock of the parts: the real one, and what was skipped."""

    def __init__(self) -> None:
        self._skipped = timedelta()

    def now(self) -> datetime:
        """What time it is."""
        return utc_now() + self._skipped

    def advance(self, seconds: float) -> None:
        """Let so much time have passed."""
        self._skipped += timedelta(seconds=seconds)

    def reach(self, moment: datetime) -> None:
        """Let it be that time, unless it is already."""
        self._skipped += max(timedelta(), moment - self.now())


class MortalStore:
    """The worker's store. After a doomed step is committed the worker never hears of it: it is as good as dead."""

    def __init__(self, store: RunStore) -> None:
        self.doomed: list[str] = []
        self.is_dead: Final = asyncio.Event()
        self._store: Final = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, commit: Commit) -> None:
        """See `RunStore.commit`."""
        await self._store.commit(commit)
        for step in commit.steps:
            if step.status is StepStatus.SUCCEEDED and step.name in self.doomed:
                self.doomed.remove(step.name)
                self.is_dead.set()
                await asyncio.Event().wait()

    def revive(self) -> None:
        """Serve another worker."""
        self.is_dead.clear()
