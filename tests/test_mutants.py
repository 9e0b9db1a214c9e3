"""The mutations of the core fit its source, so that `python tests/mutants.py` breaks what it says it breaks."""

import pytest

from tests.mutants import MUTATIONS, Mutation, count_places


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: f"{one.module}: {one.breaks}")
def test_a_mutation_applies_to_exactly_one_place(mutation: Mutation) -> None:
    """Whoever changes the core changes what breaks it, too."""
    assert count_places(mutation) == 1
    assert mutation.before != mutation.after


def test_mutations_are_named_apart() -> None:
    """A survivor can be found by its name."""
    names = [(one.module, one.breaks) for one in MUTATIONS]
    assert len(set(names)) == len(names)
