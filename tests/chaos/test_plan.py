"""A drill's plan comes from its seed alone, and a script says the same every time."""

import random
from dataclasses import replace

import pytest

from runcast.chaos.plan import FaultKind, Round, plan_round
from runcast.chaos.script import write_script
from runcast.events import RESERVED_EVENT_TYPES, EventType


def plan(seed: int) -> Round:
    return plan_round(random.Random(seed), kinds=tuple(FaultKind), runs=20, watchers=40, lease_seconds=6)


def test_the_same_seed_gives_the_same_round() -> None:
    """What was seen once can be looked for again."""
    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


def test_every_kind_of_fault_happens_once_and_one_after_the_other() -> None:
    """Each fault is over before the next begins, so that its effect can be told."""
    faults = plan(7).faults
    assert sorted(fault.kind for fault in faults) == sorted(FaultKind)
    ends = [fault.at_seconds + fault.hold_seconds for fault in faults]
    assert all(end < later.at_seconds for end, later in zip(ends, faults[1:], strict=False))


def test_a_paused_worker_sleeps_past_its_lease_however_short_the_drill() -> None:
    """A shorter pause would prove nothing: the worker would wake up with its lease."""
    short = plan_round(random.Random(1), kinds=[FaultKind.WORKER_PAUSED], runs=1, watchers=1, lease_seconds=3, pace=0.1)
    assert short.faults[0].hold_seconds > 3


def test_every_run_is_watched() -> None:
    """Watchers are dealt out evenly."""
    assert {habit.run for habit in plan(7).habits} == set(range(20))


@pytest.mark.parametrize("lines", [1, 9, 10, 25, 200])
def test_a_script_has_its_lines_and_each_names_its_run_and_number(lines: int) -> None:
    """An event that goes to another run or comes twice can't look like the right one."""
    script, other = write_script("run-1", lines=lines), write_script("run-2", lines=lines)
    assert len(script) == lines
    assert len({repr(line) for line in script}) == lines
    assert not {repr(line) for line in script} & {repr(line) for line in other}


def test_a_script_emits_only_what_a_runner_may() -> None:
    """What is reserved comes from steps, which have a start and an end each."""
    reserved = [line.type for line in write_script("run-1", lines=25) if line.type in RESERVED_EVENT_TYPES]
    assert reserved == [EventType.STEP_STARTED, EventType.STEP_SUCCEEDED] * 2


def test_a_plan_is_a_value() -> None:
    """Nobody can change a round that is under way."""
    fault = plan(7).faults[0]
    assert replace(fault) == fault
