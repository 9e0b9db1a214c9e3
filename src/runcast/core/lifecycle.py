"""Which status may follow which, as tables. Whatever is absent is refused."""

from collections.abc import Mapping
from typing import Final

from runcast.events import FINAL_STATUSES, RunStatus, StepStatus

_S = RunStatus
_WAITING: Final = frozenset({_S.AWAITING_APPROVAL, _S.AWAITING_INPUT})

RUN_TRANSITIONS: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    _S.QUEUED: frozenset({_S.RUNNING, _S.DELAYED, _S.CANCELED, _S.FAILED, _S.TIMED_OUT}),
    _S.DELAYED: frozenset({_S.QUEUED, _S.RUNNING, _S.RETRYING, _S.CANCELING, *_WAITING, *FINAL_STATUSES}),
    _S.RUNNING: frozenset({_S.RETRYING, _S.DELAYED, _S.CANCELING, *_WAITING, *FINAL_STATUSES}),
    _S.RETRYING: frozenset({_S.RUNNING, _S.CANCELED, _S.FAILED, _S.TIMED_OUT}),
    _S.AWAITING_APPROVAL: frozenset(
        {_S.RUNNING, _S.DELAYED, _S.AWAITING_INPUT, _S.RETRYING, _S.CANCELING, *FINAL_STATUSES}
    ),
    _S.AWAITING_INPUT: frozenset(
        {_S.RUNNING, _S.DELAYED, _S.AWAITING_APPROVAL, _S.RETRYING, _S.CANCELING, *FINAL_STATUSES}
    ),
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

PARKABLE: Final = frozenset({_S.DELAYED, *_WAITING})
"""Statuses in which a run waits: a worker holds it, or it is parked and nobody does. Its `worker_id` says which."""

CANCELED_AT_ONCE: Final = frozenset({_S.QUEUED, _S.RETRYING})
"""Statuses in which no worker ever holds the run, so a cancel needs nobody's help."""

HELD_BY_WORKER: Final = frozenset({_S.RUNNING, _S.CANCELING, *PARKABLE})
"""Statuses in which a worker holds the run, unless it is parked: the lease says whether the worker still lives."""


def is_run_transition(before: RunStatus, after: RunStatus) -> bool:
    """Whether a run in `before` may become `after`."""
    return after in RUN_TRANSITIONS[before]


def is_held(status: RunStatus, worker_id: str | None) -> bool:
    """Whether a worker holds the run, be it alive or dead."""
    return status in HELD_BY_WORKER and worker_id is not None


def is_parked(status: RunStatus, worker_id: str | None) -> bool:
    """Whether the run waits and nobody holds it. One that is yet to start, at a time to come, waits like that too."""
    return status in PARKABLE and worker_id is None
