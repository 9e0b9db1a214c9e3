"""The outbox: every event arrives on both ways, state never before the archive has it, whatever the log loses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.core.outbox import Outbox
from runcast.events import Cursor, LoggedEvent


def event(seq: int) -> LoggedEvent:
    return LoggedEvent(Cursor(1, seq), b"x" * 10)


def outbox_of(*states: bool, last_seq: int = 0) -> Outbox:
    outbox = Outbox(last_seq=last_seq)
    for seq, is_state in enumerate(states, start=last_seq + 1):
        outbox.put(event(seq), is_state=is_state)
    return outbox


def seqs(events: object) -> list[int]:
    return [sent.cursor.seq for sent in events]  # type: ignore[attr-defined]


def test_deltas_may_be_appended_before_the_archive_has_them() -> None:
    """Text reaches the watchers at once."""
    assert seqs(outbox_of(False, False).to_append(max_events=9)) == [1, 2]


def test_state_waits_for_the_archive_and_holds_back_what_follows() -> None:
    """Nobody is told of a status that isn't a fact, and nothing overtakes."""
    outbox = outbox_of(False, True, False)
    assert seqs(outbox.to_append(max_events=9)) == [1]
    assert outbox.has_state_to_archive
    outbox.confirm_archived(2)
    assert not outbox.has_state_to_archive
    assert seqs(outbox.to_append(max_events=9)) == [1, 2, 3]


def test_a_fact_lets_go_only_what_comes_before_the_next_state() -> None:
    """What was put in while a commit was under way isn't a fact with it."""
    outbox = outbox_of(True, False, True, False)
    outbox.confirm_archived(1)
    assert outbox.has_state_to_archive
    assert seqs(outbox.to_append(max_events=9)) == [1, 2]


def test_what_has_arrived_on_both_ways_is_let_go() -> None:
    """Memory is held only for what may still be needed."""
    outbox = outbox_of(False, False, False)
    outbox.confirm_appended(3)
    assert outbox.size == 30
    outbox.confirm_archived(2)
    assert outbox.size == 10


def test_lost_events_that_are_still_kept_are_appended_again() -> None:
    """Redis forgot its last writes: they come again under their own seqs."""
    outbox = outbox_of(False, False, False, last_seq=7)
    outbox.confirm_appended(10)
    assert outbox.take_back(8) is None
    assert seqs(outbox.to_append(max_events=9)) == [9, 10]


def test_a_log_that_ends_where_what_is_kept_begins_has_no_hole() -> None:
    """All that it lacks is here."""
    outbox = outbox_of(False, False, False)
    outbox.confirm_appended(3)
    outbox.confirm_archived(2)
    assert outbox.take_back(2) is None
    assert seqs(outbox.to_append(max_events=9)) == [3]


def test_a_gap_in_the_numbers_is_a_bug() -> None:
    """Whoever numbers events numbers them one by one."""
    with pytest.raises(AssertionError, match="without gaps"):
        outbox_of(False).put(event(3), is_state=False)


def test_lost_events_that_only_the_archive_has_leave_a_hole_below_the_floor() -> None:
    """What was let go need not be appended again; what was not is."""
    outbox = outbox_of(False, False, False)
    outbox.confirm_appended(3)
    outbox.confirm_archived(2)
    assert outbox.take_back(0) == 2
    assert seqs(outbox.to_append(max_events=9)) == [3]


def test_spilling_lets_go_of_what_the_archive_has_and_of_nothing_else() -> None:
    """While the log is away memory is bounded: it goes on later with a hole that the archive fills."""
    outbox = outbox_of(False, False, False)
    outbox.confirm_archived(2)
    outbox.spill()
    assert repr(outbox) == "<Outbox 3..3 archived=2 appended=2>"
    assert outbox.size == 10
    assert seqs(outbox.to_append(max_events=9)) == [3]


def test_one_append_is_bounded() -> None:
    """The rest goes with the next one."""
    outbox = outbox_of(False, False, False)
    assert seqs(outbox.to_append(max_events=2)) == [1, 2]
    outbox.confirm_appended(2)
    assert seqs(outbox.to_append(max_events=2)) == [3]


def test_the_archive_is_given_what_it_lacks() -> None:
    """Also what the log has been given long ago, and nothing twice."""
    outbox = outbox_of(False, True, False)
    outbox.confirm_archived(1)
    assert seqs(outbox.to_archive()) == [2, 3]


def test_a_confirmation_that_comes_late_takes_nothing_back() -> None:
    """Answers may overtake each other; what has arrived has arrived."""
    outbox = outbox_of(False, True, False)
    outbox.confirm_archived(3)
    outbox.confirm_archived(1)
    outbox.confirm_appended(2)
    outbox.confirm_appended(1)
    assert repr(outbox) == "<Outbox 3..3 archived=3 appended=2>"


def test_a_log_that_is_ahead_is_only_believed_when_it_confirms() -> None:
    """An append whose answer was lost is repeated: that changes nothing there, and then it is known."""
    outbox = outbox_of(False, False, False)
    outbox.confirm_appended(1)
    assert outbox.take_back(3) is None
    assert seqs(outbox.to_append(max_events=9)) == [2, 3]


@given(st.data())
def test_whatever_happens_every_event_arrives_in_order(data: st.DataObject) -> None:
    """Random writing, archiving, appending and losing: log and archive end up whole, and state was never early."""
    outbox = Outbox(last_seq=0)
    log: list[int] = []
    archive = 0
    states: set[int] = set()
    for _ in range(data.draw(st.integers(1, 40))):
        action = data.draw(st.sampled_from(["put", "state", "archive", "append", "lose", "spill"]))
        if action in {"put", "state"}:
            outbox.put(event(outbox.last_seq + 1), is_state=action == "state")
            states |= {outbox.last_seq} if action == "state" else set()
        elif action == "archive":
            waiting = seqs(outbox.to_archive())
            archive = max([archive, *waiting[: data.draw(st.integers(0, len(waiting)))]])
            outbox.confirm_archived(archive)
        elif action == "append":
            archive_now = archive
            _append(outbox, log, data.draw(st.integers(1, 4)))
            assert all(seq <= archive_now for seq in log if seq in states)
        elif action == "spill":
            outbox.spill()
        else:
            del log[data.draw(st.integers(0, len(log))) :]
    outbox.put(event(outbox.last_seq + 1), is_state=True)  # a loss is noticed with the next append
    outbox.confirm_archived(outbox.last_seq)
    for _ in range(100):
        _append(outbox, log, 3)
    assert log[-1] == outbox.last_seq
    assert log == list(range(log[0], outbox.last_seq + 1))
    assert outbox.size == 0


def _append(outbox: Outbox, log: list[int], max_events: int) -> None:
    sending = seqs(outbox.to_append(max_events=max_events))
    if not sending:
        return
    last = log[-1] if log else 0
    if sending[0] > last + 1:
        floor = outbox.take_back(last)
        if floor is not None:
            log[:] = [floor] if floor else []
        return
    log.extend(seq for seq in sending if seq > last)
    outbox.confirm_appended(sending[-1])
