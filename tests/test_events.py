"""The words of the wire: bytes, cursors, timestamps."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.errors import InvalidCursorError
from runcast.events import (
    MAX_SEQ,
    UNKNOWN_ATTEMPT,
    Cursor,
    EventType,
    RunEvent,
    RunStatus,
    decode_event,
    encode_event,
    format_ts,
    read_event,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
numbers = st.integers(0, MAX_SEQ)


def make_event(payload: Any, *, seq: int = 2, attempt: int = 1, event_type: str = "custom") -> RunEvent:
    return RunEvent(
        type=event_type, payload=payload, ts="2026-01-01T00:00:00.000Z", run_id="xxx", seq=seq, attempt=attempt
    )


def test_an_event_on_the_wire_looks_as_promised() -> None:
    """The first four keys are the public contract; seq and attempt close the event."""
    status = make_event({"status": "running"}, event_type=EventType.RUN_STATUS)
    assert encode_event(status) == (
        b'{"type":"run_status","payload":{"status":"running"},"ts":"2026-01-01T00:00:00.000Z","runId":"xxx",'
        b'"seq":2,"attempt":1}'
    )


@given(st.dictionaries(st.text(), json_values, max_size=4), numbers, numbers)
def test_place_and_bytes_survive_whatever_the_payload_says(payload: dict[str, Any], seq: int, attempt: int) -> None:
    """No payload can be mistaken for the numbers at the end, and decoding gives back what was encoded."""
    event = make_event(payload, seq=seq, attempt=attempt)
    logged = read_event(encode_event(event))
    assert logged.cursor == Cursor(attempt, seq)
    assert decode_event(logged.raw) == event


@given(st.sampled_from(RunStatus), st.text())
def test_the_status_is_read_from_a_status_event(status: RunStatus, message: str) -> None:
    """The gateway knows where a run stands without parsing its events."""
    payload = {"status": status, "error": {"message": message}}
    assert read_event(encode_event(make_event(payload, event_type="run_status"))).status is status


def test_a_completed_run_is_done() -> None:
    """`run_completed` is the end of a run that succeeded; other types tell no status."""
    completed = make_event({"status": "done", "output": {"status": "failed"}}, event_type="run_completed")
    assert read_event(encode_event(completed)).status is RunStatus.DONE
    assert read_event(encode_event(make_event({"status": "failed"}))).status is None


def test_a_reader_ignores_keys_that_it_does_not_know() -> None:
    """Later versions may say more."""
    raw = b'{"type":"log","payload":{},"ts":"t","runId":"x","new":1,"stepId":"s","seq":3,"attempt":1}'
    assert decode_event(raw).step_id == "s"


@given(numbers, numbers)
def test_a_cursor_survives_its_text(attempt: int, seq: int) -> None:
    """What a watcher was given it can give back."""
    assert Cursor.parse(str(Cursor(attempt, seq))) == Cursor(attempt, seq)
    assert Cursor.parse(str(seq)) == Cursor(UNKNOWN_ATTEMPT, seq)


@pytest.mark.parametrize(
    "text", ["", "-", "1-", "-1", "1-2-3", "a", "1-a", "\u0661", "1.0", " 1", "+1", "9" * 17, "1e3"]
)
def test_what_is_not_a_cursor_is_refused(text: str) -> None:
    """With an error that says what a cursor is."""
    with pytest.raises(InvalidCursorError, match="is not a cursor"):
        Cursor.parse(text)


def test_times_are_utc_with_milliseconds() -> None:
    """However the clock's own zone stands."""
    zone = timezone(timedelta(hours=2))
    assert format_ts(datetime(2026, 1, 1, 2, 0, 0, 1500, tzinfo=zone)) == "2026-01-01T00:00:00.001Z"
    assert format_ts(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"
