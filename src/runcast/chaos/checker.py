"""The checker: compares what every watcher wrote down with what the database has in the end. Pure.

A watcher's record is read as a careful client would follow it: each event must be the next, unless a rewind took some
back. What it holds at its end must be, event by event and byte by byte, what the archive holds; and it must have been
told the end. The archive itself must be whole: numbered from 1, ended once, saying what the script says.

Nothing is forgiven: a repetition that a client would drop is counted as one all the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Final

from runcast.chaos.record import ArchivedEvent, ArchivedRun, Note, NoteKind, WatcherRecord
from runcast.chaos.script import Line, write_script
from runcast.events import Cursor, EventType, RunStatus


class Breach(StrEnum):
    """What a record or an archive can have that must not be."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    REORDERED = "reordered"
    ALTERED = "altered"  # one cursor, two contents
    REWOUND_SILENTLY = "rewound_silently"  # a seq came again from another attempt, and no rewind frame said so
    REWOUND_FALSELY = "rewound_falsely"  # forward, or over events that still stand
    NOT_ARCHIVED = "not_archived"  # a watcher holds what the archive hasn't
    UNTOLD = "untold"  # a watcher wasn't told the end
    STOOD_STILL = "stood_still"  # a run for so long that its watcher must take it for forgotten
    DIED = "died"  # a process ended though nobody killed it
    NOT_RECOVERED = "not_recovered"  # a gateway does without Redis long after it is back
    UNSTORED = "unstored"  # a run was acknowledged and isn't there
    NOT_ENDED = "not_ended"
    ENDED_TWICE = "ended_twice"
    STATUS_DIFFERS = "status_differs"
    ARCHIVE_BROKEN = "archive_broken"
    OFF_SCRIPT = "off_script"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A broken promise: how many events it concerns, and the lines around the first of them."""

    breach: Breach
    run_id: str
    watcher: str
    message: str
    count: int = 1
    evidence: tuple[str, ...] = ()


_AROUND: Final = 4  # lines of evidence before and after
MAX_STANDSTILL_SECONDS: Final = 40.0
"""Between two events of a watcher: a dead worker is noticed within 15 s, the longest fault holds for 10, and a run may
meet two of them.
"""

_READING_LAG_SECONDS: Final = 20.0
"""A slow reader may note only now what was sent so long ago."""

_HEARD: Final = frozenset({NoteKind.EVENT, NoteKind.REWIND, NoteKind.CONTROL, NoteKind.FINISHED})


Span = tuple[float, float]
"""From when to when, on the drill's clock."""


def check(
    records: Sequence[WatcherRecord],
    runs: Mapping[str, ArchivedRun],
    *,
    acknowledged: Iterable[str],
    losses: Sequence[Span] = (),
) -> list[Violation]:
    """Every broken promise in a finished drill. `losses` are the times at which Redis lost events: only what was seen
    before one of them may be taken back after it.
    """
    found = [
        Violation(breach=Breach.UNSTORED, run_id=run_id, watcher="", message="acknowledged, and not in the database")
        for run_id in acknowledged
        if run_id not in runs
    ]
    for run in runs.values():
        found += check_run(run)
    for record in records:
        if record.run_id in runs:
            found += check_record(record, runs[record.run_id], losses=losses)
    return found + check_contents(records)


def check_run(run: ArchivedRun) -> list[Violation]:
    """Whether an archive is whole, ended once, and says what the script says."""
    found: list[tuple[Breach, str, int]] = []
    seqs = [event.cursor.seq for event in run.events]
    if seqs != list(range(1, len(seqs) + 1)):
        at = next(index for index, seq in enumerate(seqs) if seq != index + 1)
        found.append((Breach.ARCHIVE_BROKEN, "the archive isn't numbered 1, 2, 3 …", at))
    if any(later.cursor < earlier.cursor for earlier, later in pairwise(run.events)):
        found.append((Breach.ARCHIVE_BROKEN, "an older attempt's event follows a newer one's", 0))
    found += _check_end(run)
    found += _check_script(run)
    return [
        Violation(breach=breach, run_id=run.run_id, watcher="archive", message=message, evidence=_lines(run.events, at))
        for breach, message, at in found
    ]


def _check_end(run: ArchivedRun) -> Iterable[tuple[Breach, str, int]]:
    ends = [index for index, event in enumerate(run.events) if event.status is not None and event.status.is_final]
    if not ends or not run.status.is_final:
        yield Breach.NOT_ENDED, f"its status is {run.status} and it has {len(ends)} terminal events", len(run.events)
        return
    if len(ends) > 1:
        yield Breach.ENDED_TWICE, f"{len(ends)} terminal events", ends[1]
    if ends[0] != len(run.events) - 1:
        yield Breach.ENDED_TWICE, "events follow the terminal event", ends[0]
    if run.events[ends[-1]].status is not run.status:
        told = run.events[ends[-1]].status
        yield Breach.STATUS_DIFFERS, f"the database says {run.status}, the terminal event {told}", ends[-1]


def _check_script(run: ArchivedRun) -> Iterable[tuple[Breach, str, int]]:
    """Each attempt says the script on from the last step that was committed, and the one that is done to its end."""
    script = write_script(run.run_id, lines=run.lines)
    said, committed, attempt = 0, 0, -1
    for index, event in enumerate(run.events):
        if event.cursor.attempt != attempt:
            attempt, said = event.cursor.attempt, committed
        if event.type in _OF_THE_RUN:
            continue
        if said == len(script) or not _says(event, script[said]):
            wanted = script[said] if said < len(script) else "nothing more"
            yield Breach.OFF_SCRIPT, f"attempt {attempt} says {event.type} where its line {said + 1} is {wanted}", index
            return
        said += 1
        if event.type == EventType.STEP_SUCCEEDED:
            committed = said
    if run.status is RunStatus.DONE and said != len(script):
        yield Breach.OFF_SCRIPT, f"done after {said} of {len(script)} lines", len(run.events)


_OF_THE_RUN: Final = frozenset({EventType.RUN_STATUS, EventType.RUN_COMPLETED, EventType.STEP_RESET})
"""Types that the product writes by itself."""


def _says(event: ArchivedEvent, line: Line) -> bool:
    return event.type == line.type and all(event.payload.get(key) == value for key, value in line.payload.items())


def check_contents(records: Sequence[WatcherRecord]) -> list[Violation]:
    """Whether any cursor meant two things, to whichever watchers."""
    first: dict[tuple[str, Cursor], tuple[bytes, str]] = {}
    found = []
    for record in records:
        for at, note in enumerate(record.notes):
            if note.kind is not NoteKind.EVENT or note.cursor is None:
                continue
            digest, watcher = first.setdefault((record.run_id, note.cursor), (note.digest, record.name))
            if digest != note.digest:
                message = f"{note.cursor} is {note.digest.hex()} here and was {digest.hex()} to {watcher}"
                found.append(_violation(Breach.ALTERED, record, message, at=at))
                break
    return found


def check_record(record: WatcherRecord, run: ArchivedRun, *, losses: Sequence[Span] = ()) -> list[Violation]:
    """Whether one watcher saw the run, once, in order, to its end."""
    reading = _Reading(record, run, losses)
    for at, note in enumerate(record.notes):
        reading.read(at, note)
    reading.compare()
    return reading.violations()


@dataclass(slots=True)
class _Finding:
    message: str
    at: int
    count: int = 1


@dataclass(slots=True)
class _Reading:
    """One record, followed note by note. Invariant: `held` is what a client would show at this point."""

    record: WatcherRecord
    run: ArchivedRun
    losses: Sequence[Span]
    last: int = 0  # the highest seq held
    held: dict[int, tuple[Cursor, bytes]] = field(default_factory=dict)
    received_at: dict[int, float] = field(default_factory=dict)  # by seq
    holes: dict[int, int] = field(default_factory=dict)  # seqs passed over, and the note that did
    is_finished: bool = False
    findings: dict[Breach, _Finding] = field(default_factory=dict)

    def read(self, at: int, note: Note) -> None:
        if self.is_finished and note.kind in _HEARD:
            self._find(Breach.DUPLICATED, "something came after the end", at)
        if note.kind is NoteKind.EVENT and note.cursor is not None:
            self._receive(at, note.cursor, note.digest)
        elif note.kind is NoteKind.REWIND and note.cursor is not None:
            self._rewind(at, note.cursor.seq)
        elif note.kind is NoteKind.FINISHED:
            self.is_finished = True

    def _receive(self, at: int, cursor: Cursor, digest: bytes) -> None:
        held = self.held.get(cursor.seq)
        if held is not None:
            self._receive_again(at, cursor, digest, held)
            return
        if cursor.seq in self.holes:
            self._find(Breach.REORDERED, f"{cursor} came after {self.last}", at)
            del self.holes[cursor.seq]
        self.holes.update(dict.fromkeys(range(self.last + 1, cursor.seq), at))
        self.held[cursor.seq] = (cursor, digest)
        self.received_at[cursor.seq] = self.record.notes[at].at
        self.last = max(self.last, cursor.seq)

    def _receive_again(self, at: int, cursor: Cursor, digest: bytes, held: tuple[Cursor, bytes]) -> None:
        if held == (cursor, digest):
            self._find(Breach.DUPLICATED, f"{cursor} came again", at)
        elif held[0] == cursor:
            self._find(Breach.ALTERED, f"{cursor} came again with other content", at)
        elif cursor < held[0]:
            self._find(Breach.REORDERED, f"{cursor} of an older attempt came after {held[0]}", at)
        else:
            self._find(Breach.REWOUND_SILENTLY, f"{cursor} came after {held[0]} without a rewind", at)
            self._take_back(cursor.seq - 1)
            self._receive(at, cursor, digest)

    def _rewind(self, at: int, seq: int) -> None:
        if seq > self.last:
            self._find(Breach.REWOUND_FALSELY, f"to {seq}, and only {self.last} was reached", at)
            return
        standing = [number for number in range(seq + 1, self.last + 1) if self._stands(number)]
        if standing:
            self._find(Breach.REWOUND_FALSELY, f"to {seq}, over {len(standing)} events that the archive has", at)
        elif seq < self.last and not self._was_lost(seq + 1, self.record.notes[at].at):
            self._find(Breach.REWOUND_FALSELY, f"from {self.last} to {seq}, though Redis had lost nothing", at)
        self._take_back(seq)

    def _take_back(self, seq: int) -> None:
        self.held = {number: value for number, value in self.held.items() if number <= seq}
        self.holes = {number: at for number, at in self.holes.items() if number <= seq}
        self.last = seq

    def _stands(self, seq: int) -> bool:
        events = self.run.events
        return seq <= len(events) and self.held.get(seq) == (events[seq - 1].cursor, events[seq - 1].digest)

    def _was_lost(self, seq: int, until: float) -> bool:
        """Whether Redis lost events between the arrival of the first one taken back and the rewind."""
        since = self.received_at.get(seq, until) - _READING_LAG_SECONDS
        return any(begin <= until and since <= end for begin, end in self.losses)

    def compare(self) -> None:
        """What is held in the end, with the archive."""
        end = len(self.record.notes) - 1
        if self.holes:
            seq, at = next(iter(self.holes.items()))
            self._find(Breach.LOST, f"{seq} never came", at, count=len(self.holes))
        if missing := len(self.run.events) - self.last:
            if missing > 0:
                self._find(Breach.LOST, f"nothing after {self.last} of {len(self.run.events)}", end, count=missing)
            else:
                self._find(Breach.NOT_ARCHIVED, f"holds {self.last}, archived are {len(self.run.events)}", end)
        if not self.is_finished:
            self._find(Breach.UNTOLD, f"was not told that the run ended as {self.run.status}", end)
        for event in self.run.events:
            self._compare_event(event)
        self._measure()

    def _measure(self) -> None:
        heard = [(at, note.at) for at, note in enumerate(self.record.notes) if note.kind is NoteKind.EVENT]
        for (_, earlier), (at, later) in pairwise(heard):
            if later - earlier > MAX_STANDSTILL_SECONDS:
                self._find(Breach.STOOD_STILL, f"no event for {later - earlier:.1f} s", at)

    def _compare_event(self, event: ArchivedEvent) -> None:
        held = self.held.get(event.cursor.seq)
        if held is None or held == (event.cursor, event.digest):
            return
        breach = Breach.ALTERED if held[0] == event.cursor else Breach.NOT_ARCHIVED
        self._find(breach, f"holds {held[0]} {held[1].hex()}, archived is {event.cursor} {event.digest.hex()}", None)

    def _find(self, breach: Breach, message: str, at: int | None, *, count: int = 1) -> None:
        if breach in self.findings:
            self.findings[breach].count += count
        else:
            self.findings[breach] = _Finding(message, len(self.record.notes) - 1 if at is None else at, count)

    def violations(self) -> list[Violation]:
        return [
            _violation(breach, self.record, finding.message, at=finding.at, count=finding.count)
            for breach, finding in self.findings.items()
        ]


def _violation(breach: Breach, record: WatcherRecord, message: str, *, at: int, count: int = 1) -> Violation:
    return Violation(
        breach=breach,
        run_id=record.run_id,
        watcher=record.name,
        message=message,
        count=count,
        evidence=_lines(record.notes, at),
    )


def _lines(notes: Sequence[object], at: int) -> tuple[str, ...]:
    first = max(at - _AROUND, 0)
    around = notes[first : at + _AROUND + 1]
    return tuple(f"{'>' if first + index == at else ' '} {note}" for index, note in enumerate(around))


def longest_silence(record: WatcherRecord) -> float:
    """The longest time in which a watcher heard nothing, from its first connection to its end."""
    times = [note.at for note in record.notes if note.kind in _HEARD]
    begin = record.notes[0].at if record.notes else 0.0
    return max((later - earlier for earlier, later in pairwise([begin, *times])), default=0.0)
