"""The snapshot of a watched run, kept so that whoever asks next folds only what is new.

Limits: a snapshot of more than `MAX_SNAPSHOT_BYTES` isn't made, now or later for this run: its watchers get the events.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from runcast.core.snapshot import RunFold
from runcast.events import Cursor, decode_event, encode_json
from runcast.services.history import History

MAX_SNAPSHOT_BYTES: Final = 1_048_576


class RunSnapshots:
    """The snapshots of one run."""

    def __init__(self, run_id: str, *, history: History) -> None:
        self._run_id: Final = run_id
        self._history: Final = history
        self._fold: RunFold | None = RunFold()  # None once it has grown too large
        self._folding: Final = asyncio.Lock()  # those who ask at the same time fold once

    async def take(self, *, to: Cursor) -> tuple[Cursor, Mapping[str, Any]] | None:
        """Where the snapshot stands and what it says: of everything up to `to`, or as far as the history is there.

        None if it would be too large.

        Raises:
            UnavailableError: the history can't be read now.

        """
        async with self._folding:
            while self._fold is not None:
                events = await self._history.read(self._run_id, self._fold.position) if self._fold.position < to else ()
                if not events:
                    return self._fold.cursor, self._fold.describe()
                self._fold.receive([decode_event(event.raw) for event in events])
                if len(encode_json(self._fold.describe())) > MAX_SNAPSHOT_BYTES:
                    self._fold = None
        return None
