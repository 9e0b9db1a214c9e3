"""Which status may follow which, as tables. Whatever is absent is refused."""

from collections.abc import Mapping
from typing import Final

from runcast.events import FINAL_STATUSES, RunStatus, StepStatus

_S = RunStatus
WAITING: Final = frozenset({_S.AWAITING_APPROVAL, _S.AWAITING_INPUT})
"""Statuses in which a run waits for somebody: held by a worker, or parked."""


RUN_TRANSITIONS: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.DELAYED, _S.CANCELED, _S.FAILED, _S.TIMED_OUT}),
    _S.DELAYED: frozenset({_S.QUEUED, _S.RUNNING, _S.CANCELED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.RETRYING, _S.DELAYED, _S.CANCELING, *WAITING, *FINAL_STATUSES}),
    _S.RETRYING: frozenset({_S.RUNNING, _S.CANCELED, _S.FAILED, _S.TIMED_OUT}),
    _S.AWAITING_APPROVAL: frozenset({_S.RUNNING, _S.RETRYING, _S.CANCELING, *FINAL_STATUSES}),
    _S.AWAITING_INPUT: frozenset({_S.RUNNING, _S.RETRYING, _S.CANCELING, *FINAL_STATUSES}),
    # A runner may finish before the request to cancel reaches it: what happened first is what is told.
    _S.CANCELING: FINAL_STATUSES,
    **dict.fromkeys(FINAL_STATUSES, frozenset[RunStatus]()),
}

STEP_TRANSITIONS: Final[Mapping[StepStatus, frozenset[StepStatus]]] = {
    StepStatus.RUNNING: frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELED}),
    StepStatus.FAILED: frozenset({StepStatus.RUNNING}),
    StepStatus.CANCELED: frozenset({StepStatus.RUNNING}),
    StepStatus.SUCCEEDED: frozenset(),
}

CANCELED_AT_ONCE: Final = frozenset({_S.QUEUED, _S.DELAYED, _S.RETRYING})
"""Statuses in which no worker holds the run, so a cancel needs nobody's help."""

HELD_BY_WORKER: Final = frozenset({_S.RUNNING, _S.CANCELING, *WAITING})
"""Statuses in which a worker holds the run: its lease says whether the worker still lives."""


def is_run_transition(before: RunStatus, after: RunStatus) -> bool:
    """Whether a run in `before` may become `after`."""
    return after in RUN_TRANSITIONS[before]
