"""The fold of a run's events: what it comes to, and that it can be cut anywhere."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.core.snapshot import RunFold
from runcast.events import START, Cursor, EventType, RunEvent, encode_json

TS = "2026-01-01T00:00:00.000Z"


def event(seq: int, kind: str, payload: Mapping[str, Any], *, attempt: int = 1, step_id: str | None = None) -> RunEvent:
    return RunEvent(type=kind, payload=payload, ts=TS, run_id="r", step_id=step_id, seq=seq, attempt=attempt)


def numbered(*said: tuple[str, Mapping[str, Any]]) -> list[RunEvent]:
    return [event(seq, kind, payload) for seq, (kind, payload) in enumerate(said, 1)]


def fold_log(log: Sequence[RunEvent], fold: RunFold | None = None, *, page: int = 500) -> RunFold:
    """Read the log after the fold's position, page by page, until there is no more."""
    fold = fold or RunFold()
    while events := [each for each in log if each.cursor > fold.position][:page]:
        fold.receive(events)
    return fold


def cut(events: Sequence[RunEvent], at: int) -> dict[str, Any]:
    """Fold some, send the snapshot over the wire, go on from it."""
    over_the_wire = msgspec.json.decode(encode_json(fold_log(events[:at]).describe()))
    return fold_log(events, RunFold.restore(over_the_wire)).describe()


WHOLE_LIFE = numbered(
    ("run_status", {"status": "queued"}),
    ("run_status", {"status": "running"}),
    ("plan_generated", {"steps": [{"name": "say"}]}),
    ("step_started", {"stepId": "s1", "name": "say", "index": 1, "input": {"to": "Ada"}}),
    ("message_started", {"messageId": "m", "stepId": "s1"}),
    ("message_delta", {"messageId": "m", "delta": "the "}),
    ("message_delta", {"messageId": "m", "delta": "the "}),
    ("step_progress", {"stepId": "s1", "value": 1, "total": 2}),
    ("progress", {"value": 1, "total": 3}),
    ("input_requested", {"requestId": "q", "prompt": "Go on?"}),
    ("input_resolved", {"requestId": "q"}),
    ("message_completed", {"messageId": "m", "text": "the the"}),
    ("step_succeeded", {"stepId": "s1", "output": [1], "ms": 3}),
    ("log", {"text": "a line"}),
    ("run_completed", {"status": "done", "output": {"said": 2}}),
)


def test_a_snapshot_says_what_the_run_has_come_to() -> None:
    """Status, plan, steps, text and result; nothing of what was only on the way."""
    assert fold_log(WHOLE_LIFE).describe() == {
        "to": "1-15",
        "status": "done",
        "steps": [
            {"stepId": "s1", "name": "say", "index": 1, "input": {"to": "Ada"}, "status": "succeeded", "output": [1]}
        ],
        "messages": [{"messageId": "m", "text": "the the", "completed": True, "stepId": "s1"}],
        "requests": [],
        "plan": [{"name": "say"}],
        "output": {"said": 2},
    }


def test_a_snapshot_of_a_run_under_way_has_what_stands_now() -> None:
    """Text so far, progress of run and step, and the question that waits for an answer."""
    assert fold_log(WHOLE_LIFE[:10]).describe() == {
        "to": "1-10",
        "status": "running",
        "steps": [
            {
                "stepId": "s1",
                "name": "say",
                "index": 1,
                "input": {"to": "Ada"},
                "status": "running",
                "progress": {"stepId": "s1", "value": 1, "total": 2},
            }
        ],
        "messages": [{"messageId": "m", "text": "the the ", "completed": False, "stepId": "s1"}],
        "plan": [{"name": "say"}],
        "progress": {"value": 1, "total": 3},
        "requests": [{"requestId": "q", "prompt": "Go on?"}],
    }


def test_nothing_has_happened_yet() -> None:
    """The snapshot of no events is one, too."""
    assert RunFold().describe() == {"to": "0-0", "status": None, "steps": [], "messages": [], "requests": []}


def test_a_reset_leaves_nothing_of_the_step() -> None:
    """The step goes, and what was being said in it; what other steps said stays, and what was said to its end."""
    events = numbered(
        ("step_started", {"stepId": "s1", "name": "a", "index": 1}),
        ("step_started", {"stepId": "s2", "name": "b", "index": 2}),
        ("message_delta", {"messageId": "m1", "stepId": "s1", "delta": "gone"}),
        ("message_delta", {"messageId": "m2", "stepId": "s2", "delta": "stays"}),
        ("message_completed", {"messageId": "m3", "stepId": "s1", "text": "was said"}),
        ("step_reset", {"stepId": "s1"}),
    )
    described = fold_log(events).describe()
    assert [step["stepId"] for step in described["steps"]] == ["s2"]
    assert [message["text"] for message in described["messages"]] == ["stays", "was said"]


SAID = numbered(
    ("message_completed", {"messageId": "m1", "text": "hello"}),
    ("message_delta", {"messageId": "m2", "delta": "hel"}),
    ("progress", {"value": 1, "total": 2}),
    ("input_requested", {"requestId": "q"}),
)
KEPT = {
    "steps": [],
    "messages": [{"messageId": "m1", "text": "hello", "completed": True}],
    "requests": [{"requestId": "q"}],
}


def test_a_failed_attempt_says_again_what_it_had_not_said_to_the_end() -> None:
    """`retrying` takes back text that was begun and progress; what is committed stays: whole texts, open questions."""
    error = {"code": "boom", "message": "m"}
    events = [*SAID, event(5, "run_status", {"status": "retrying", "attempt": 2, "error": error})]
    assert fold_log(events).describe() == {"to": "1-5", "status": "retrying", **KEPT, "error": error}
    events.append(event(6, "run_status", {"status": "running"}, attempt=2))
    assert fold_log(events).describe() == {"to": "2-6", "status": "running", **KEPT}


def test_a_run_that_was_parked_says_again_what_it_had_not_said_to_the_end() -> None:
    """Nothing tells that it was parked but that a later attempt goes on."""
    events = [*SAID, event(5, "run_status", {"status": "running"}, attempt=2)]
    assert fold_log(events).describe() == {"to": "2-5", "status": "running", **KEPT}


def test_an_answer_lets_the_run_go_on_where_it_is() -> None:
    """The same attempt goes on: nothing is taken back; another question stays open."""
    answered = numbered(
        ("message_delta", {"messageId": "m", "delta": "hel"}),
        ("input_requested", {"requestId": "q1"}),
        ("input_requested", {"requestId": "q2"}),
        ("run_status", {"status": "awaiting_input"}),
        ("input_resolved", {"requestId": "q1"}),
        ("run_status", {"status": "running"}),
    )
    described = fold_log(answered).describe()
    assert described["messages"] == [{"messageId": "m", "text": "hel", "completed": False}]
    assert described["requests"] == [{"requestId": "q2"}]


def test_a_run_that_has_ended_asks_nothing() -> None:
    """Its open questions are closed with it."""
    events = numbered(("input_requested", {"requestId": "q"}), ("run_status", {"status": "canceled"}))
    assert fold_log(events).describe()["requests"] == []


def test_a_run_that_waits_for_its_time_says_until_when() -> None:
    """Only as long as it waits."""
    due = {"status": "delayed", "dueAt": "2026-01-02T00:00:00.000Z"}
    events = numbered(("run_status", due), ("run_status", {"status": "queued"}))
    assert fold_log(events[:1]).describe()["dueAt"] == due["dueAt"]
    assert "dueAt" not in fold_log(events).describe()


def test_a_step_is_tried_again_in_its_place() -> None:
    """It keeps its place, what it is part of, and which try it is; that it will be tried again is said until then."""
    events = numbered(
        ("step_started", {"stepId": "s1", "name": "a", "index": 1, "parentId": "s0"}),
        ("step_started", {"stepId": "s2", "name": "b", "index": 2}),
        ("step_failed", {"stepId": "s1", "error": {"code": "e"}, "willRetry": True, "retryInMs": 5}),
        ("step_started", {"stepId": "s1", "name": "a", "index": 1, "parentId": "s0", "try": 2}),
    )
    failed, _ = fold_log(events[:3]).describe()["steps"]
    assert (failed["status"], failed["willRetry"]) == ("failed", True)
    again, _ = fold_log(events).describe()["steps"]
    assert again == {"stepId": "s1", "name": "a", "index": 1, "parentId": "s0", "try": 2, "status": "running"}


@pytest.mark.parametrize(("code", "status"), [("boom", "failed"), ("canceled", "canceled")])
def test_a_step_that_did_not_succeed_says_why(code: str, status: str) -> None:
    """Failed, or canceled with its run."""
    error = {"code": code, "message": "m"}
    events = numbered(
        ("step_started", {"stepId": "s", "name": "a", "index": 1}),
        ("step_progress", {"stepId": "s", "value": 1}),
        ("step_failed", {"stepId": "s", "error": error, "willRetry": False}),
        ("run_status", {"status": "failed", "error": error}),
    )
    described = fold_log(events).describe()
    assert described["steps"] == [{"stepId": "s", "name": "a", "index": 1, "status": status, "error": error}]
    assert (described["status"], described["error"]) == ("failed", error)


def test_events_lost_by_everybody_leave_nothing() -> None:
    """The log goes back and on: what was folded of the lost events is folded anew without them."""
    kept = [event(1, "message_delta", {"messageId": "m", "delta": "a"})]
    lost = [event(seq, "message_delta", {"messageId": "m", "delta": "x"}) for seq in (2, 3)]
    anew = [event(seq, "message_delta", {"messageId": "m", "delta": "b"}, attempt=2) for seq in (2, 3, 4)]
    expected = fold_log([*kept, *anew]).describe()
    assert expected["messages"][0]["text"] == "abbb"
    for page in (1, 2, 500):
        assert fold_log([*kept, *anew], fold_log([*kept, *lost]), page=page).describe() == expected
        # A log that still holds what no longer counts is no different.
        assert fold_log([*kept, *lost, *anew], page=page).describe() == expected


def test_a_restored_fold_goes_on_with_the_rest_alone() -> None:
    """A client has only the snapshot and what follows it; a reset still finds the text of its step."""
    events = numbered(
        ("step_started", {"stepId": "s", "name": "a", "index": 1}),
        ("message_delta", {"messageId": "m", "stepId": "s", "delta": "gone"}),
        ("step_reset", {"stepId": "s"}),
    )
    fold = RunFold.restore(fold_log(events[:2]).describe())
    assert fold.describe() == fold_log(events[:2]).describe()
    fold.receive(events[2:])
    assert fold.describe() == fold_log(events).describe()


def test_what_was_folded_is_not_folded_again() -> None:
    """A page may begin with what is known; that is no step back."""
    events = numbered(*[("message_delta", {"messageId": "m", "delta": "a"})] * 3)
    fold = fold_log(events[:2])
    fold.receive(events)
    assert fold.position == Cursor(1, 3)
    assert fold.describe()["messages"][0]["text"] == "aaa"


def test_a_hole_is_never_folded_over() -> None:
    """What comes after it waits until what lies between is there."""
    fold = RunFold()
    fold.receive([event(1, "log", {}), event(3, "log", {})])
    assert fold.position == Cursor(1, 1)


def test_five_thousand_tokens_are_one_small_frame() -> None:
    """As long as the text, not as the events."""
    deltas = [("message_delta", {"messageId": "m", "delta": "the "})] * 5_000
    assert len(encode_json(fold_log(numbered(*deltas)).describe())) < 21_000


ids = st.sampled_from(["a", "b"])
odd = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.just({"status": 7}))
payloads = st.fixed_dictionaries(
    {},
    optional={
        "stepId": ids | odd,
        "messageId": ids | odd,
        "requestId": ids | odd,
        "delta": st.text(max_size=3) | odd,
        "text": st.text(max_size=3) | odd,
        "status": st.sampled_from(["queued", "running", "retrying", "failed", "done"]) | odd,
        "name": st.text(max_size=3),
        "index": st.integers(1, 9),
        "output": odd,
        "error": odd | st.just({"code": "canceled"}),
        "steps": odd,
        "value": st.integers(),
    },
)
kinds = st.sampled_from([*map(str, EventType), "not_known"])
said = st.lists(st.tuples(kinds, payloads, st.none() | ids), max_size=40)


@given(said, st.integers(0, 40))
def test_a_snapshot_and_the_rest_come_to_the_same_as_everything(
    said: list[tuple[str, dict[str, Any], str | None]], at: int
) -> None:
    """Wherever the log is cut, and whatever odd payloads it holds."""
    events = [event(seq, kind, payload, step_id=step) for seq, (kind, payload, step) in enumerate(said, 1)]
    assert cut(events, min(at, len(events))) == fold_log(events).describe()


@given(said, st.lists(st.integers(1, 40), max_size=3), st.integers(1, 7))
def test_whatever_was_lost_the_fold_is_that_of_the_log(
    said: list[tuple[str, dict[str, Any], str | None]], backs: list[int], page: int
) -> None:
    """A log with steps back, folded in pages as it grew, comes to the same as only what counts of it."""
    log: list[RunEvent] = []
    counts: list[RunEvent] = []
    bounds = [len(said) * part // (len(backs) + 1) for part in range(len(backs) + 2)]
    fold = RunFold()
    for attempt, (start, end) in enumerate(pairwise(bounds), 1):
        counts = counts[: -backs[attempt - 2]] if attempt > 1 and start < end else counts
        for kind, payload, step in said[start:end]:
            counts.append(event(len(counts) + 1, kind, payload, attempt=attempt, step_id=step))
            log.append(counts[-1])
        fold_log(log, fold, page=page)
    assert fold.describe() == fold_log(counts).describe()
    assert fold.cursor == (counts[-1].cursor if counts else START)
