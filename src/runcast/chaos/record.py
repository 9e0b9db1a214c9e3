"""A watcher's record: what it received, in the order in which it did. It is only ever added to."""

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from runcast.events import Cursor, RunStatus


class NoteKind(Enum):
    """What a watcher notes."""

    OPENED = "opened"  # a connection; the cursor is the one it asked with
    EVENT = "event"
    REWIND = "rewind"  # the cursor's seq is the last one that still holds
    CONTROL = "control"  # a sign of life without an event
    CLOSED = "closed"  # the connection ended; the run hasn't, as far as this watcher was told
    FINISHED = "finished"  # the server said that the run has ended and everything was given


class Note(NamedTuple):
    """One line of a record. `at` is the drill's monotonic clock; `digest` stands for an event's bytes."""

    at: float
    kind: NoteKind
    cursor: Cursor | None = None
    digest: bytes = b""
    text: str = ""

    def __str__(self) -> str:
        parts = [f"{self.at:9.3f}s", self.kind.value, str(self.cursor or ""), self.digest.hex(), self.text]
        return " ".join(part for part in parts if part)


@dataclass(slots=True, kw_only=True)
class WatcherRecord:
    """Everything one watcher noted."""

    name: str
    run_id: str
    notes: list[Note] = field(default_factory=list)


class ArchivedEvent(NamedTuple):
    """An event of the archive, with what the script fixes of it."""

    cursor: Cursor
    digest: bytes
    type: str
    payload: dict[str, object]
    status: RunStatus | None

    def __str__(self) -> str:
        return f"{self.cursor} {self.digest.hex()} {self.type} {self.payload}"[:200]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedRun:
    """A run as the database has it in the end."""

    run_id: str
    status: RunStatus
    lines: int  # how many its script has
    events: tuple[ArchivedEvent, ...]


def digest_of(raw: bytes) -> bytes:
    """A fingerprint of an event's bytes: short enough to keep for every frame of every watcher."""
    return hashlib.blake2b(raw, digest_size=8).digest()
