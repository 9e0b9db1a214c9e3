"""What a run of a drill says: a fixed sequence of lines that name the run and their own number.

The runner says them, the checker compares the archive with them: so an event that is missing, altered or put into
another run is found even if every watcher was told the same. Text repeats on purpose: whoever takes equal text for a
repetition loses tokens.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from runcast.events import EventType

LINES_PER_STEP: Final = 10
"""A step's start, eight lines inside, its end."""

_WORDS: Final = ("the", " the", " quick", " brown", " brown")
_FILLER: Final = "·" * 60


class Line(NamedTuple):
    """One event as the runner says it: its type and those keys of its payload that are fixed."""

    type: EventType
    payload: dict[str, Any]


def write_script(run_id: str, *, lines: int) -> Sequence[Line]:
    """All the lines of a run, in order."""
    return [_line(run_id, number, lines) for number in range(1, lines + 1)]


def step_name(run_id: str, index: int) -> str:
    """The name of a run's nth step, from 1."""
    return f"{run_id}/{index}"


def _line(run_id: str, number: int, lines: int) -> Line:
    index, place = divmod(number - 1, LINES_PER_STEP)
    step_id = f"step-{index + 1}"
    if (index + 1) * LINES_PER_STEP <= lines:
        if place == 0:
            started = {"stepId": step_id, "name": step_name(run_id, index + 1), "index": index + 1}
            return Line(EventType.STEP_STARTED, started)
        if place == LINES_PER_STEP - 1:
            return Line(EventType.STEP_SUCCEEDED, {"stepId": step_id, "output": [run_id, number]})
    return _emitted(run_id, number)


def _emitted(run_id: str, number: int) -> Line:
    mark = {"run": run_id, "n": number}
    match number % 5:
        case 0:
            return Line(EventType.PROGRESS, {"value": number, **mark})
        case 1:
            return Line(EventType.LOG, {"message": _FILLER, **mark})
        case _:
            return Line(EventType.MESSAGE_DELTA, {"messageId": "m", "delta": _WORDS[number % len(_WORDS)], **mark})
