"""The follower: what a client makes of what it is sent. `tests/vectors/feed.json` has the whole of it, over sockets."""

import pytest

from runcast.core.follower import ControlEvent, Follower
from runcast.events import START, Cursor, EventType, RunEvent, encode_event

TS = "2026-01-01T00:00:00.000Z"


def event(attempt: int, seq: int, event_type: str = "log", status: str = "") -> str:
    payload = {"status": status} if status else {}
    one = RunEvent(type=event_type, payload=payload, ts=TS, run_id="r", seq=seq, attempt=attempt)
    return encode_event(one).decode()


def heartbeat(last_seq: object) -> str:
    return f'{{"type":"heartbeat","payload":{{"lastSeq":{last_seq}}},"ts":"{TS}","runId":"r"}}'


def jump(kind: str, to: str) -> str:
    return f'{{"type":"{kind}","payload":{{"to":{to}}},"ts":"{TS}","runId":"r"}}'


def follower_at(cursor: str) -> Follower:
    return Follower(after=Cursor.parse(cursor))


def take(follower: Follower, *lines: str) -> tuple[list[str], bool]:
    """What is new, as cursors and types, and whether the connection is still good."""
    news, is_sound = follower.receive_message("\n".join(lines))
    return [one.type if isinstance(one, ControlEvent) else str(one.cursor) for one in news], is_sound


@pytest.mark.parametrize(
    ("cursor", "place", "expected"),
    [
        ("1-3", (1, 4), (["1-4"], True)),
        ("1-3", (2, 4), (["2-4"], True)),
        ("3", (2, 4), (["2-4"], True)),
        ("1-3", (1, 3), ([], True)),
        ("1-3", (1, 1), ([], True)),
        ("2-3", (1, 4), ([], True)),
        ("2-3", (1, 9), ([], True)),
        ("3", (2, 3), ([], True)),
        ("1-3", (1, 5), ([], False)),
        ("1-3", (2, 5), ([], False)),
        ("3", (1, 5), ([], False)),
        ("1-3", (2, 3), ([], False)),
        ("1-3", (2, 1), ([], False)),
    ],
)
def test_an_event_is_next_or_seen_or_not_to_be_shown(
    cursor: str, place: tuple[int, int], expected: tuple[list[str], bool]
) -> None:
    """Every place that an event may have, seen from a cursor with and without an attempt."""
    follower = follower_at(cursor)
    assert take(follower, event(*place)) == expected
    assert str(follower.cursor) == (expected[0] or [cursor])[0]


def test_a_hole_keeps_what_came_before_it() -> None:
    """The follower's place is after the last event without a hole, and nothing beyond it counts."""
    follower = Follower(after=START)
    assert take(follower, event(1, 1), event(1, 3), event(1, 2)) == (["1-1"], False)
    assert follower.cursor == Cursor(1, 1)


def test_a_message_with_something_unreadable_does_not_count_at_all() -> None:
    """It is asked for again whole."""
    for rubbish in ("rubbish", "7", "[]", '"seq"', "null", '{"type":1}', '{"seq":1}'):
        follower = Follower(after=START)
        assert take(follower, event(1, 1), rubbish) == ([], False)
        assert follower.cursor == START


@pytest.mark.parametrize(
    ("line", "is_ended"),
    [
        (event(1, 4, EventType.RUN_COMPLETED, "done"), True),
        (event(1, 4, EventType.RUN_STATUS, "failed"), True),
        (event(1, 4, EventType.RUN_STATUS, "timed_out"), True),
        (event(1, 4, EventType.RUN_STATUS, "retrying"), False),
        (event(1, 4, EventType.CUSTOM, "done"), False),
    ],
)
def test_the_run_is_over_with_its_last_event(line: str, is_ended: bool) -> None:  # noqa: FBT001 - a column of the table
    """A final status ends it, in the event that tells statuses."""
    follower = follower_at("1-3")
    take(follower, line)
    assert follower.is_ended is is_ended


def test_a_rewind_takes_the_end_back_too() -> None:
    """The run that was lost had ended; the one that goes on hasn't."""
    follower = follower_at("1-3")
    take(follower, event(1, 4, EventType.RUN_COMPLETED, "done"))
    assert take(follower, jump("rewind", '"2"')) == (["rewind"], True)
    assert (str(follower.cursor), follower.is_ended) == ("2", False)


@pytest.mark.parametrize(
    ("line", "cursor"),
    [
        (jump("rewind", '"1-3"'), "1-3"),
        (jump("rewind", '"0"'), "0"),
        (jump("snapshot", '"2-70"'), "2-70"),
        (jump("snapshot", '"1-1"'), "1-1"),
        (jump("of_tomorrow", '"1-9"'), "1-3"),
    ],
)
def test_only_rewind_and_snapshot_move_the_place(line: str, cursor: str) -> None:
    """A rewind goes back or stays, a snapshot goes wherever it stands."""
    follower = follower_at("1-3")
    _, is_sound = follower.receive_message(line)
    assert (str(follower.cursor), is_sound) == (cursor, True)


@pytest.mark.parametrize("line", [jump("rewind", '"4"'), jump("rewind", "null"), jump("snapshot", '"x"')])
def test_a_jump_that_cannot_be_is_not_made(line: str) -> None:
    """The connection is no longer good; the place stays."""
    follower = follower_at("1-3")
    assert take(follower, line) == ([], False)
    assert str(follower.cursor) == "1-3"


def test_two_heartbeats_that_know_of_more_end_a_connection() -> None:
    """Not one, not two with an event or a heartbeat in step between, not one on each of two connections."""
    follower = follower_at("1-3")
    assert take(follower, heartbeat(3), heartbeat(3), heartbeat(5)) == (["heartbeat"] * 3, True)
    assert take(follower, event(1, 4), heartbeat(5), heartbeat(4), heartbeat(5))[1]
    follower.begin()
    assert take(follower, heartbeat(5))[1]
    assert take(follower, heartbeat(5)) == ([], False)


def test_a_heartbeat_that_says_nothing_of_the_log_says_nothing() -> None:
    """Readable is enough."""
    follower = follower_at("1-3")
    assert take(follower, heartbeat("null"), heartbeat('"9"'), heartbeat('"9"')) == (["heartbeat"] * 3, True)
