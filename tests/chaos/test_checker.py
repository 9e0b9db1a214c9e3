"""The checker catches what must not be: each record or archive here is right but for one planted fault."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from runcast.chaos.checker import Breach, Span, check, longest_silence
from runcast.chaos.record import ArchivedEvent, ArchivedRun, Note, NoteKind, WatcherRecord, digest_of
from runcast.chaos.script import LINES_PER_STEP, write_script
from runcast.events import Cursor, RunStatus

RUN = "run-1"
LINES = 20

Edit = Callable[[list[Note]], None]


def archived(attempt: int, seq: int, kind: str, payload: dict[str, object]) -> ArchivedEvent:
    status = RunStatus(str(payload["status"])) if "status" in payload else None
    return ArchivedEvent(Cursor(attempt, seq), digest_of(f"{attempt}-{seq}".encode()), kind, payload, status)


def whole_run(*, kept: int = 0) -> ArchivedRun:
    """A run that is done; with `kept`, its first attempt died after so many lines; whole steps of them are kept."""
    script = write_script(RUN, lines=LINES)
    said: list[tuple[int, str, dict[str, object]]] = [(0, "run_status", {"status": "queued"})]
    if kept:
        said.append((1, "run_status", {"status": "running"}))
        said += [(1, line.type, dict(line.payload)) for line in script[:kept]]
        said.append((2, "run_status", {"status": "retrying"}))
    attempt = 2 if kept else 1
    said.append((attempt, "run_status", {"status": "running"}))
    committed = kept // LINES_PER_STEP * LINES_PER_STEP
    said += [(attempt, line.type, dict(line.payload)) for line in script[committed:]]
    said.append((attempt, "run_completed", {"status": "done"}))
    events = tuple(archived(attempt, seq, kind, payload) for seq, (attempt, kind, payload) in enumerate(said, 1))
    return ArchivedRun(run_id=RUN, status=RunStatus.DONE, lines=LINES, events=events)


def watched(run: ArchivedRun) -> list[Note]:
    """What a watcher notes who sees all of it."""
    notes = [Note(0.0, NoteKind.OPENED, Cursor(0, 0))]
    notes += [Note(0.1 * seq, NoteKind.EVENT, e.cursor, e.digest) for seq, e in enumerate(run.events, 1)]
    return [*notes, Note(9.0, NoteKind.FINISHED)]


def breaches(
    notes: Sequence[Note],
    run: ArchivedRun,
    *,
    others: Sequence[WatcherRecord] = (),
    losses: Sequence[Span] = ((0.9, 0.95),),
) -> dict[Breach, int]:
    """What the checker finds, and how many events each concerns."""
    record = WatcherRecord(name="watcher", run_id=RUN, notes=list(notes))
    found = check([*others, record], {RUN: run}, acknowledged=[RUN], losses=losses)
    assert all(violation.evidence for violation in found)
    return {violation.breach: violation.count for violation in found}


@pytest.mark.parametrize("kept", [0, 7, 13])
def test_a_watcher_who_saw_all_of_it_breaks_nothing(kept: int) -> None:
    """A clean record of a clean run has no violation, also over two attempts."""
    run = whole_run(kept=kept)
    assert breaches(watched(run), run) == {}


def test_a_watcher_who_comes_back_with_its_cursor_breaks_nothing() -> None:
    """Connections come and go; only what they bring counts."""
    run, notes = whole_run(), watched(whole_run())
    notes[9:9] = [Note(0.85, NoteKind.CLOSED), Note(0.86, NoteKind.OPENED, notes[8].cursor)]
    assert breaches(notes, run) == {}


def swap(notes: list[Note]) -> None:
    notes[7], notes[8] = notes[8], notes[7]


def repeat(notes: list[Note]) -> None:
    notes.insert(8, notes[7])


def drop(notes: list[Note]) -> None:
    del notes[7:9]


def drop_the_end(notes: list[Note]) -> None:
    del notes[-3:-1]


def alter(notes: list[Note]) -> None:
    notes[7] = notes[7]._replace(digest=digest_of(b"something else"))


def never_tell(notes: list[Note]) -> None:
    del notes[-1]


def go_on_after_the_end(notes: list[Note]) -> None:
    notes.append(notes[-2])


def repeat_altered(notes: list[Note]) -> None:
    notes.insert(8, notes[7]._replace(digest=digest_of(b"something else")))


def rewind_for_nothing(notes: list[Note]) -> None:
    notes[8:8] = [Note(0.75, NoteKind.REWIND, Cursor(-1, 5)), *notes[6:8]]


def rewind_forward(notes: list[Note]) -> None:
    notes.insert(8, Note(0.75, NoteKind.REWIND, Cursor(-1, 15)))


def add_what_is_nowhere(notes: list[Note]) -> None:
    notes.insert(-1, Note(8.0, NoteKind.EVENT, Cursor(1, len(notes) - 1), digest_of(b"invented")))


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (drop, {Breach.LOST: 2}),
        (drop_the_end, {Breach.LOST: 2}),
        (repeat, {Breach.DUPLICATED: 1}),
        (swap, {Breach.REORDERED: 1}),
        (alter, {Breach.ALTERED: 1}),
        (repeat_altered, {Breach.ALTERED: 1}),
        (never_tell, {Breach.UNTOLD: 1}),
        (go_on_after_the_end, {Breach.DUPLICATED: 2}),
        (rewind_for_nothing, {Breach.REWOUND_FALSELY: 1}),
        (rewind_forward, {Breach.REWOUND_FALSELY: 1}),
        (add_what_is_nowhere, {Breach.NOT_ARCHIVED: 1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_one_planted_fault_in_a_record_is_found_and_nothing_else(edit: Edit, expected: dict[Breach, int]) -> None:
    """Each way in which a watcher can be wronged has its own name."""
    run, notes = whole_run(), watched(whole_run())
    edit(notes)
    assert breaches(notes, run) == expected


def lost_by_all(run: ArchivedRun, *, events: int) -> list[Note]:
    """The notes of a watcher who saw more of the first attempt than anybody kept."""
    notes = watched(run)
    at = next(index for index, note in enumerate(notes) if note.cursor is not None and note.cursor.attempt == 2)
    last = notes[at - 1].cursor
    assert last is not None
    extra = [
        Note(0.9, NoteKind.EVENT, Cursor(1, last.seq + more), digest_of(b"lost %d" % more))
        for more in range(1, events + 1)
    ]
    return [*notes[:at], *extra, Note(0.95, NoteKind.REWIND, Cursor(-1, last.seq)), *notes[at:]]


def test_events_that_everybody_lost_may_be_taken_back_by_a_rewind() -> None:
    """A rewind over events that nobody has any more is what was promised."""
    run = whole_run(kept=7)
    assert breaches(lost_by_all(run, events=3), run) == {}


@pytest.mark.parametrize("losses", [(), ((-40.0, -30.0),), ((1.5, 2.0),)])
def test_a_rewind_is_false_unless_redis_lost_what_it_takes_back(losses: Sequence[Span]) -> None:
    """A worker's death alone costs no event: Redis has what the archive lacks, and the next attempt must keep it."""
    run = whole_run(kept=7)
    assert breaches(lost_by_all(run, events=3), run, losses=losses) == {Breach.REWOUND_FALSELY: 1}


def test_events_taken_back_in_silence_are_found() -> None:
    """Without the rewind frame the same record is a violation."""
    run = whole_run(kept=7)
    notes = [note for note in lost_by_all(run, events=3) if note.kind is not NoteKind.REWIND]
    assert breaches(notes, run) == {Breach.REWOUND_SILENTLY: 1}


def test_events_kept_that_everybody_else_lost_are_found() -> None:
    """A watcher who ends with events of a dead attempt was told neither of the rewind nor of what came instead."""
    run = whole_run(kept=7)
    notes = lost_by_all(run, events=3)
    at = next(index for index, note in enumerate(notes) if note.kind is NoteKind.REWIND)
    found = breaches([*notes[:at], notes[-1]], run)
    assert found == {Breach.LOST: len(run.events) - 12, Breach.NOT_ARCHIVED: 3}


def test_a_cursor_that_means_two_things_to_two_watchers_is_found() -> None:
    """Both records are consistent by themselves; only together do they show that a seq was used twice."""
    run = whole_run(kept=7)
    lost = lost_by_all(run, events=2)
    other = [note._replace(digest=digest_of(b"another")) if note.cursor == Cursor(1, 10) else note for note in lost]
    others = [WatcherRecord(name="other", run_id=RUN, notes=other)]
    assert breaches(lost, run, others=others) == {Breach.ALTERED: 1}


def test_a_run_that_ended_twice_is_found() -> None:
    """Two terminal events: whichever one believes, the other is wrong."""
    run = whole_run()
    run = replace(run, events=(*run.events, archived(1, 24, "run_status", {"status": "failed"})))
    assert breaches(watched(run), run) == {Breach.ENDED_TWICE: 1, Breach.STATUS_DIFFERS: 1}


def test_a_run_that_never_ended_is_found() -> None:
    """Running for ever is a violation even if every watcher agrees."""
    run = whole_run()
    run = replace(run, status=RunStatus.RUNNING, events=run.events[:-1])
    assert breaches(watched(run), run) == {Breach.NOT_ENDED: 1}


def test_a_status_that_differs_from_the_terminal_event_is_found() -> None:
    """How a run ended is one fact, in the database and in what watchers are told."""
    run = replace(whole_run(), status=RunStatus.FAILED)
    assert breaches(watched(run), run) == {Breach.STATUS_DIFFERS: 1}


def test_an_acknowledged_run_that_is_not_stored_is_found() -> None:
    """Whoever got a 201 has a run."""
    found = check([], {}, acknowledged=["run-2"])
    assert [(violation.breach, violation.run_id) for violation in found] == [(Breach.UNSTORED, "run-2")]


def test_an_archive_that_lost_a_line_is_found_though_every_watcher_agrees() -> None:
    """The script says what the runner said: a line that nobody has any more is missed all the same."""
    run = whole_run()
    shifted = tuple(
        event._replace(cursor=Cursor(event.cursor.attempt, seq))
        for seq, event in enumerate((*run.events[:7], *run.events[8:]), 1)
    )
    run = replace(run, events=shifted)
    assert breaches(watched(run), run) == {Breach.OFF_SCRIPT: 1}


def test_a_hole_in_the_archive_is_found() -> None:
    """The archive is numbered 1, 2, 3 … n."""
    run = whole_run()
    broken = replace(run, events=(*run.events[:7], *run.events[8:]))
    found = {violation.breach for violation in check([], {RUN: broken}, acknowledged=[])}
    assert Breach.ARCHIVE_BROKEN in found


def test_a_run_that_stands_still_for_long_is_found() -> None:
    """All of it came in the end, but no watcher waits that long."""
    run, notes = whole_run(), watched(whole_run())
    late = [note._replace(at=note.at + 60) for note in notes[9:]]
    assert breaches([*notes[:9], *late], run) == {Breach.STOOD_STILL: 1}


def test_silence_is_measured_over_reconnects() -> None:
    """A connection that opens is no sign of life: only what comes over it is."""
    times = [(0.0, NoteKind.OPENED), (1.0, NoteKind.EVENT), (2.0, NoteKind.CLOSED), (3.0, NoteKind.OPENED)]
    notes = [Note(at, kind, Cursor(1, 1)) for at, kind in [*times, (6.5, NoteKind.CONTROL), (7.0, NoteKind.FINISHED)]]
    assert longest_silence(WatcherRecord(name="w", run_id=RUN, notes=notes)) == 5.5
