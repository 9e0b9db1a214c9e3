"""The table of statuses."""

from runcast.core.lifecycle import CANCELED_AT_ONCE, HELD_BY_WORKER, RUN_TRANSITIONS, is_run_transition
from runcast.events import FINAL_STATUSES, RunStatus


def test_every_status_stands_in_the_table() -> None:
    """A status that the table forgets could never be left."""
    assert set(RUN_TRANSITIONS) == set(RunStatus)


def test_an_ended_run_never_changes() -> None:
    """A run has exactly one end."""
    assert all(not RUN_TRANSITIONS[status] for status in FINAL_STATUSES)


def test_every_run_can_end() -> None:
    """From wherever it stands there is a way to an end."""
    for status in RunStatus:
        reachable, frontier = {status}, {status}
        while frontier:
            frontier = set().union(*(RUN_TRANSITIONS[reached] for reached in frontier)) - reachable
            reachable |= frontier
        assert reachable & FINAL_STATUSES


def test_a_run_that_has_not_ended_either_waits_or_is_held() -> None:
    """Cancel always knows whom to ask."""
    assert set(RunStatus) - FINAL_STATUSES == CANCELED_AT_ONCE | HELD_BY_WORKER
    assert not CANCELED_AT_ONCE & HELD_BY_WORKER
    assert all(is_run_transition(status, RunStatus.CANCELED) for status in CANCELED_AT_ONCE)
