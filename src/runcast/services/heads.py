"""Heads: how far runs have got in the database, read for all who ask in the same turn of the event loop by one query.

A gateway that starts again is asked for thousands of runs at once; one by one they would keep it busy for seconds.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from runcast.concurrency import end_tasks
from runcast.ports import RunStore
from runcast.records import Head


class HeadReader:
    """Reads heads. `close` after use."""

    def __init__(self, store: RunStore) -> None:
        self._store: Final = store
        self._wanted: dict[str, None] = {}  # by those who wait for `_next`, in the order they asked
        self._next: asyncio.Task[Mapping[str, Head]] | None = None  # hasn't begun: whoever asks now is part of it
        self._reads: Final[set[asyncio.Task[Mapping[str, Head]]]] = set()  # under way, or about to be

    async def read(self, run_id: str) -> Head | None:
        """How far a run has got, as of a moment after this was called. None: there is no such run.

        Raises:
            UnavailableError: the database can't be asked now.

        """
        if self._next is None:
            self._next = asyncio.create_task(self._read_wanted(), name="read-heads")
            self._reads.add(self._next)
            self._next.add_done_callback(self._end)
        self._wanted[run_id] = None
        # One who gives up doesn't take the others along.
        return (await asyncio.shield(self._next)).get(run_id)

    async def close(self) -> None:
        """End what is under way. Nobody may wait for it any more."""
        await end_tasks(*self._reads)

    async def _read_wanted(self) -> Mapping[str, Head]:
        wanted, self._wanted, self._next = self._wanted, {}, None
        return await self._store.read_heads(list(wanted))

    def _end(self, read: "asyncio.Task[Mapping[str, Head]]") -> None:
        self._reads.discard(read)
        if not read.cancelled():
            read.exception()  # whoever still waits gets it; nobody has to
