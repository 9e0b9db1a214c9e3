"""Replay: which of a run's recorded steps is the one that the runner begins now.

A later attempt executes the runner from its start. It finds what an earlier one has done by the place in the code, as
far as that can be told from here: the step it is part of, its name, and its turn among those of that name. Steps that
run side by side may begin in another order than before; so of several that could be meant, one with the same input
goes first.

Invariants: a recorded step is given out once. A step's id and index never change. New ones are numbered on.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from runcast.events import StepStatus
from runcast.records import Step


class Replay:
    """The steps that earlier attempts have recorded, in the order of their index."""

    def __init__(self, recorded: Iterable[Step]) -> None:
        self._open: Final[defaultdict[tuple[str | None, str], list[Step]]] = defaultdict(list)
        self._last_index = 0
        for step in sorted(recorded, key=lambda step: step.index):
            self._open[step.parent_id, step.name].append(step)
            self._last_index = max(self._last_index, step.index)

    def find(self, name: str, shown_input: Any, *, parent_id: str | None) -> Step | None:
        """The recorded step that begins now, or None if none was recorded: then it is a new one."""
        meant = self._open[parent_id, name]
        if not meant:
            return None
        at = next((at for at, step in enumerate(meant) if step.input == shown_input), 0)
        return meant.pop(at)

    def next_index(self) -> int:
        """The index of a new step, from 1 on."""
        self._last_index += 1
        return self._last_index


def is_committed(step: Step) -> bool:
    """Whether the step's result stands."""
    return step.status is StepStatus.SUCCEEDED


def is_settled(step: Step) -> bool:
    """Whether a later attempt needn't execute the step: it has succeeded, or failed for good."""
    return is_committed(step) or (step.status is StepStatus.FAILED and step.ended_at is not None)


def reopen(step: Step) -> Step:
    """The step as it is for a run that has failed and is tried again: what has failed is tried again, too."""
    return replace(step, ended_at=None) if step.status is StepStatus.FAILED else step
