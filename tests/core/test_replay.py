"""Replay: a later attempt finds what an earlier one has recorded, each step once, whatever order they begin in."""

from hypothesis import given
from hypothesis import strategies as st

from runcast.core.replay import Replay
from runcast.events import StepStatus
from runcast.records import Step

PLACES = st.tuples(st.sampled_from([None, "step-90", "step-91"]), st.sampled_from("abc"), st.integers(0, 2))


def record(places: list[tuple[str | None, str, int]]) -> list[Step]:
    """What an attempt that began these steps in this order has recorded."""
    replay = Replay([])
    steps = []
    for parent_id, name, value in places:
        assert replay.find(name, value, parent_id=parent_id) is None
        index = replay.next_index()
        steps.append(
            Step(
                run_id="run",
                id=f"step-{index}",
                name=name,
                index=index,
                status=StepStatus.SUCCEEDED,
                attempt=1,
                input=value,
                parent_id=parent_id,
            )
        )
    return steps


@given(st.lists(PLACES, max_size=30))
def test_the_same_code_finds_its_steps_again_in_order(places: list[tuple[str | None, str, int]]) -> None:
    """An attempt that begins the same steps in the same order gets each of them, and then numbers on."""
    recorded = record(places)
    replay = Replay(recorded)
    found = [replay.find(name, value, parent_id=parent_id) for parent_id, name, value in places]
    assert {step.id for step in found if step} == {step.id for step in recorded}
    for step, (parent_id, name, value) in zip(found, places, strict=True):
        assert step is not None
        assert (step.parent_id, step.name, step.input) == (parent_id, name, value)
    assert replay.next_index() == len(places) + 1


@given(st.lists(PLACES, max_size=20).flatmap(lambda places: st.tuples(st.just(places), st.permutations(places))))
def test_steps_side_by_side_find_the_result_of_their_own_input(
    places_and_shuffled: tuple[list[tuple[str | None, str, int]], list[tuple[str | None, str, int]]],
) -> None:
    """In whatever order they begin, no step gets what was made of another input."""
    places, shuffled = places_and_shuffled
    replay = Replay(record(places))
    ids = set()
    for parent_id, name, value in shuffled:
        step = replay.find(name, value, parent_id=parent_id)
        assert step is not None
        assert step.input == value
        ids.add(step.id)
    assert len(ids) == len(places)


def test_a_step_whose_input_has_changed_is_found_by_its_turn() -> None:
    """An input that tells the time, say, doesn't make a committed step be executed again."""
    replay = Replay(record([(None, "send", 1), (None, "send", 2)]))
    first, second = (replay.find("send", value, parent_id=None) for value in (7, 8))
    assert (first and first.id, second and second.id) == ("step-1", "step-2")


def test_what_was_never_recorded_is_new() -> None:
    """A new name, another parent, or one more of the same."""
    replay = Replay(record([(None, "send", 1)]))
    assert replay.find("other", 1, parent_id=None) is None
    assert replay.find("send", 1, parent_id="step-1") is None
    assert replay.find("send", 1, parent_id=None) is not None
    assert replay.find("send", 1, parent_id=None) is None
