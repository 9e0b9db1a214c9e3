"""What happens in one round of a drill: when runs come, who watches them how, what goes wrong and when.

All of it is drawn from one random source, so the same seed gives the same round. What the machine does in between isn't
drawn: two rounds of one seed meet the same faults at the same times, not at the same instruction.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self


class FaultKind(StrEnum):
    """Everything that can go wrong in a drill."""

    WORKER_KILLED = "worker_killed"
    GATEWAY_KILLED = "gateway_killed"
    REDIS_KILLED = "redis_killed"
    REDIS_WIPED = "redis_wiped"
    REDIS_ROLLED_BACK = "redis_rolled_back"
    WORKER_PAUSED = "worker_paused"
    WORKER_AND_TAIL_LOST = "worker_and_tail_lost"
    LINKS_CUT = "links_cut"
    LINKS_DELAYED = "links_delayed"
    LINKS_BLACKHOLED = "links_blackholed"
    LINKS_HALVED = "links_halved"
    MESSAGES_DROPPED = "messages_dropped"
    DATABASE_LOCKED = "database_locked"
    DISK_FULL = "disk_full"


LOSING_KINDS: Final = frozenset({FaultKind.REDIS_WIPED, FaultKind.REDIS_ROLLED_BACK, FaultKind.WORKER_AND_TAIL_LOST})
"""Faults at which Redis loses events. (Killed, it keeps them: its file is written before it answers.)"""


class Transport(StrEnum):
    """How a watcher follows its run."""

    WEBSOCKET = "websocket"
    SSE = "sse"
    LONG_POLL = "long_poll"
    PAGING = "paging"  # plain pages, again and again


_HOLD_SECONDS: Final = {
    FaultKind.WORKER_KILLED: 2.0,
    FaultKind.GATEWAY_KILLED: 2.0,
    FaultKind.REDIS_KILLED: 2.0,
    FaultKind.REDIS_WIPED: 1.0,
    FaultKind.REDIS_ROLLED_BACK: 2.0,  # how much of the log is lost
    FaultKind.WORKER_AND_TAIL_LOST: 1.5,  # the same
    FaultKind.LINKS_CUT: 2.0,
    FaultKind.LINKS_DELAYED: 4.0,
    FaultKind.LINKS_BLACKHOLED: 7.0,  # longer than Redis clients wait for an answer
    FaultKind.LINKS_HALVED: 7.0,
    FaultKind.MESSAGES_DROPPED: 6.0,
    FaultKind.DATABASE_LOCKED: 4.0,
    FaultKind.DISK_FULL: 3.0,
}
_PAUSED_LEASES: Final = 1.6
"""How long a paused worker sleeps, in leases: past the lease and past the sweep that finds it."""

_RECOVERY_SECONDS: Final = 5.0
_LEAD_SECONDS: Final = 2.0
_TRANSPORTS: Final = (
    *(Transport.WEBSOCKET,) * 4,
    *(Transport.SSE,) * 3,
    *(Transport.LONG_POLL,) * 2,
    Transport.PAGING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something goes wrong at a time, for a while. `target` picks among those whom it can hit."""

    kind: FaultKind
    at_seconds: float
    hold_seconds: float
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Habit:
    """How one watcher behaves."""

    run: int  # which run of the round
    transport: Transport
    gateway: int  # the one it asks first
    joins_after_seconds: float  # after the run was created
    pause_seconds: float  # a slow reader's, after each frame
    moves_every: int  # events after which it goes to the other gateway; 0: only when it has to

    @classmethod
    def of_late_reader(cls, number: int) -> Self:
        """Somebody who comes when all is over and pages through it."""
        return cls(
            run=number,
            transport=Transport.PAGING,
            gateway=number % 2,
            joins_after_seconds=0.0,
            pause_seconds=0.0,
            moves_every=0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round. `arrivals` are the seconds at which runs are created."""

    faults: Sequence[Fault]
    arrivals: Sequence[float]
    habits: Sequence[Habit]

    @property
    def seconds(self) -> float:
        """Until the last fault is healed."""
        return max((fault.at_seconds + fault.hold_seconds for fault in self.faults), default=0.0)


def plan_round(
    source: random.Random,
    *,
    kinds: Sequence[FaultKind],
    runs: int,
    watchers: int,
    lease_seconds: float,
    pace: float = 1.0,
) -> Round:
    """Draw a round in which each of the kinds happens once. `pace` shortens faults and recoveries."""
    faults = _plan_faults(source, kinds, lease_seconds=lease_seconds, pace=pace)
    until = max((fault.at_seconds + fault.hold_seconds for fault in faults), default=_LEAD_SECONDS)
    arrivals = sorted(source.uniform(0, until) for _ in range(runs))
    habits = [_plan_habit(source, number % runs, pace=pace) for number in range(watchers)]
    return Round(faults=faults, arrivals=arrivals, habits=habits)


def _plan_faults(
    source: random.Random, kinds: Sequence[FaultKind], *, lease_seconds: float, pace: float
) -> Sequence[Fault]:
    faults, at = [], _LEAD_SECONDS
    for kind in source.sample(list(kinds), len(kinds)):
        is_pause = kind is FaultKind.WORKER_PAUSED
        hold = lease_seconds * _PAUSED_LEASES if is_pause else _HOLD_SECONDS[kind] * pace
        faults.append(Fault(kind=kind, at_seconds=at, hold_seconds=hold, target=source.randrange(1_000)))
        at += hold + _RECOVERY_SECONDS * pace * source.uniform(0.6, 1.4)
    return faults


def _plan_habit(source: random.Random, run: int, *, pace: float) -> Habit:
    is_late, is_slow, is_mover = (source.random() < share for share in (0.2, 0.15, 0.3))
    return Habit(
        run=run,
        transport=source.choice(_TRANSPORTS),
        gateway=source.randrange(2),
        joins_after_seconds=source.uniform(1, 40) * pace if is_late else source.uniform(0, 0.2),
        pause_seconds=source.uniform(0.02, 0.08) if is_slow else 0.0,
        moves_every=source.randrange(10, 80) if is_mover else 0,
    )
