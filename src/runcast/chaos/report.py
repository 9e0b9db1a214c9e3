"""What a drill found, as text for people and as JSON for programs."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

from runcast.chaos.checker import Breach, Violation, longest_silence
from runcast.chaos.plan import FaultKind
from runcast.chaos.record import NoteKind, WatcherRecord

MAX_SHOWN: Final = 10
"""Violations shown with their evidence; the JSON has them all."""


@dataclass(frozen=True, slots=True)
class Injection:
    """A fault that was done, on the drill's clock."""

    kind: FaultKind
    at: float
    healed_at: float
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a drill. `is_clean` decides the exit code."""

    seed: int
    rounds: int
    runs: int
    watchers: int
    faults: Mapping[str, int]  # by kind
    transports: Mapping[str, int]  # watchers by transport
    statuses: Mapping[str, int]  # runs by how they ended
    delivered: int
    lost: int
    duplicated: int
    reordered: int
    altered: int
    rewinds: int
    reconnects: int
    longest_silence_seconds: float  # of any watcher
    longest_recovery_seconds: float  # from a fault to the next event anywhere
    longest_standstill_seconds: Mapping[str, float]  # by kind of fault: between two events of one watcher
    settled_seconds: float  # from the last fault's end until everything had ended, in the slowest round
    seconds: float
    violations: Sequence[Violation]

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept, and something was there to keep it for."""
        return not self.violations and self.delivered > 0

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        return {**asdict(self), "clean": self.is_clean}

    def render(self) -> str:
        """All of it, to be read."""
        faults = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        still = sorted(self.longest_standstill_seconds.items(), key=lambda item: -item[1])
        rows = {
            "seed": f"{self.seed}  (repeat it with --seed {self.seed})",
            "took": f"{self.seconds:.0f} s, {self.rounds} round{'s' if self.rounds > 1 else ''}",
            "runs": f"{self.runs}: {_counts(self.statuses)}",
            "watchers": f"{self.watchers}: {_counts(self.transports)}; {self.reconnects} reconnects",
            "faults": f"{sum(self.faults.values())}: {faults}",
            "delivered": f"{self.delivered} events",
            "lost": str(self.lost),
            "duplicated": str(self.duplicated),
            "reordered": str(self.reordered),
            "altered": str(self.altered),
            "rewinds": f"{self.rewinds} frames, which take back what Redis and a worker lost together",
            "silence": f"{self.longest_silence_seconds:.2f} s at most for one watcher, heartbeats included",
            "recovery": f"{self.longest_recovery_seconds:.2f} s at most from a fault to the next event anywhere",
            "standstill": ", ".join(f"{kind} {seconds:.1f} s" for kind, seconds in still) + " at most for one watcher",
            "settled": f"{self.settled_seconds:.1f} s after the last fault's end",
        }
        table = "\n".join(f"  {name:<11}{value}" for name, value in rows.items())
        return "\n".join(["", table, "", *self._verdict(), ""])

    def _verdict(self) -> Sequence[str]:
        if self.is_clean:
            return ["  ✔ nothing lost, nothing twice, nothing out of order; every run ended once, everybody was told"]
        kinds = Counter(violation.breach.value for violation in self.violations)
        lines = [f"  ✘ {len(self.violations)} violations: {_counts(kinds)}"]
        for violation in _varied(self.violations)[:MAX_SHOWN]:
            place = f"run {violation.run_id}  " if violation.run_id else ""
            lines.append(f"\n  {violation.breach} ({violation.count})  {place}{violation.watcher}")
            lines.append(f"    {violation.message}")
            lines += [f"      {line}" for line in violation.evidence]
        return lines


def summarize(
    records: Sequence[WatcherRecord],
    violations: Sequence[Violation],
    injections: Sequence[Injection],
    *,
    transports: Mapping[str, int],
    statuses: Mapping[str, int],
    **facts: Any,
) -> Report:
    """Count what the records and the checker say. `facts` are the report's fields that the drill knows itself."""
    kinds = Counter(note.kind for record in records for note in record.notes)
    counts: Counter[Breach] = Counter()
    for violation in violations:
        counts[violation.breach] += violation.count
    return Report(
        faults=dict(Counter(injection.kind.value for injection in injections)),
        transports=dict(transports),
        statuses=dict(statuses),
        delivered=kinds[NoteKind.EVENT],
        rewinds=kinds[NoteKind.REWIND],
        reconnects=kinds[NoteKind.OPENED] - len(records),
        longest_silence_seconds=max(map(longest_silence, records), default=0.0),
        longest_recovery_seconds=measure_recovery(records, injections),
        longest_standstill_seconds=measure_standstills(records, injections),
        violations=violations,
        lost=counts[Breach.LOST],
        duplicated=counts[Breach.DUPLICATED],
        reordered=counts[Breach.REORDERED],
        altered=counts[Breach.ALTERED],
        **facts,
    )


def measure_recovery(records: Sequence[WatcherRecord], injections: Sequence[Injection]) -> float:
    """The longest time from a fault until any watcher got another event."""
    times = sorted(at for record in records for at in _event_times(record))
    following = ((injection.at, bisect_right(times, injection.at)) for injection in injections)
    return max((times[index] - at for at, index in following if index < len(times)), default=0.0)


def measure_standstills(records: Sequence[WatcherRecord], injections: Sequence[Injection]) -> dict[str, float]:
    """For each kind of fault the longest time between two events of a watcher that the fault lies in or touches."""
    longest = dict.fromkeys((injection.kind.value for injection in injections), 0.0)
    for record in records:
        for earlier, later in pairwise(_event_times(record)):
            for injection in injections:
                if earlier < injection.healed_at and injection.at < later:
                    longest[injection.kind] = max(longest[injection.kind], later - earlier)
    return longest


def _event_times(record: WatcherRecord) -> list[float]:
    return [note.at for note in record.notes if note.kind is NoteKind.EVENT]


def _varied(violations: Sequence[Violation]) -> Sequence[Violation]:
    """One of each kind first, then the rest."""
    firsts = {violation.breach: violation for violation in reversed(violations)}.values()
    return [*firsts, *(violation for violation in violations if violation not in firsts)]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
