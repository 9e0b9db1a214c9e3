"""What the tables must show, and whether they do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.registry import SERVERS
from bench.results import ScenarioResult
from bench.scenarios.run_path import DELTAS, FIRST_EVENT

Results = Mapping[str, ScenarioResult]


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target that could be judged."""

    target: str
    measured: str
    is_met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One of our figures against a bound; the bound is a number, or a share of others' figures."""

    text: str
    scenario: str
    figure: str
    bound: Callable[[ScenarioResult, str], float | None]
    is_least: bool = False
    """Whether the bound is the least that is good enough, instead of the most."""
    unit: str = ""
    scale: float = 1
    """How many of the figure make one of the unit."""

    def judge(self, results: Results) -> Verdict | None:
        """None if what it takes wasn't measured."""
        result = results.get(self.scenario)
        ours = result.servers["runcast"].median(self.figure) if result and "runcast" in result.servers else None
        bound = self.bound(result, self.figure) if result else None
        if ours is None or bound is None:
            return None
        ratio = f", {ours / bound:z.2f} × the bound" if bound else ""
        measured = f"{_short(ours / self.scale)} {self.unit}, bound {_short(bound / self.scale)}{ratio}"
        return Verdict(self.text, measured, ours >= bound if self.is_least else ours <= bound)


def at(value: float) -> Callable[[ScenarioResult, str], float | None]:
    """A bound that is a number."""
    return lambda _result, _figure: value


def share_of(name: str, share: float) -> Callable[[ScenarioResult, str], float | None]:
    """So much of a server's figure."""

    def bound(result: ScenarioResult, figure: str) -> float | None:
        other = result.servers[name].median(figure) if name in result.servers else None
        return None if other is None else share * other

    return bound


def best_peer(
    share: float, choose: Callable[[Sequence[float]], float], *, keeps_history: bool = False
) -> Callable[[ScenarioResult, str], float | None]:
    """So much of the best peer's figure, of those alone that keep history if asked for."""

    def bound(result: ScenarioResult, figure: str) -> float | None:
        medians = [
            value
            for name, server in SERVERS.items()
            if server.is_peer and (server.keeps_history or not keeps_history) and name in result.servers
            if (value := result.servers[name].median(figure)) is not None
        ]
        return share * choose(medians) if medians else None

    return bound


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{round(value, 4) + 0.0:.3g}"  # noqa: PLR2004 - three digits are what is known


_SAID: Final = {"text": "of a message's text", "events": "that is an event of its own"}

TARGETS: Final[Sequence[Target]] = (
    Target(
        text="Single-event fan-out ≥ 0.8 × the C floor",
        scenario="fanout",
        figure="per_core_second_1",
        bound=share_of("floor", 0.8),
        is_least=True,
        unit="k/core-s",
        scale=1e3,
    ),
    Target(
        text="Single-event fan-out ≥ 1.5 × the original Node architecture",
        scenario="fanout",
        figure="per_core_second_1",
        bound=share_of("node", 1.5),
        is_least=True,
        unit="k/core-s",
        scale=1e3,
    ),
    Target(
        text="Bursts of 16 ≥ 5 × the best peer that keeps history",
        scenario="fanout",
        figure="per_core_second_16",
        bound=best_peer(5, max, keeps_history=True),
        is_least=True,
        unit="k/core-s",
        scale=1e3,
    ),
    Target(
        text="p99 at 10,000 events/s ≤ 1.5 × the C floor's",
        scenario="latency",
        figure="p99_ms",
        bound=share_of("floor", 1.5),
        unit="ms",
    ),
    Target(
        text="p99 at 10,000 events/s ≤ every peer's",
        scenario="latency",
        figure="p99_ms",
        bound=best_peer(1, min),
        unit="ms",
    ),
    Target(text="Idle ≤ 8 KiB per connection", scenario="idle", figure="kib_per_connection", bound=at(8), unit="KiB"),
    Target(
        text="5,000 connects upgraded no later than by Node `ws`",
        scenario="storm",
        figure="upgraded_s",
        bound=share_of("node", 1),
        unit="s",
    ),
    Target(
        text="5,000 connects greeted no later than by Node `ws`",
        scenario="storm",
        figure="greeted_s",
        bound=share_of("node", 1),
        unit="s",
    ),
    Target(
        text="100 clients of one run, each missed one event: Redis ≤ 1 MB",
        scenario="reconnect",
        figure="redis_kb_100_1",
        bound=at(1_000),
        unit="KB",
    ),
    Target(
        text="100 clients of one run, each missed one event: whole in < 1 s",
        scenario="reconnect",
        figure="whole_s_100_1",
        bound=at(1),
        unit="s",
    ),
    Target(
        text="100 clients of 100 runs, each missed one event: Redis ≤ 1 MB",
        scenario="reconnect",
        figure="redis_kb_100_runs_1",
        bound=at(1_000),
        unit="KB",
    ),
    Target(
        text="100 clients of 100 runs, each missed one event: whole in < 1 s",
        scenario="reconnect",
        figure="whole_s_100_runs_1",
        bound=at(1),
        unit="s",
    ),
    Target(
        text="Recurring database queries per watcher: 0",
        scenario="queries",
        figure="per_watcher_minute",
        bound=at(0.05),
        unit="per minute",
    ),
    *(
        Target(
            text=f"A delta {_SAID[way]} costs the worker ≤ 10 µs of CPU, {burst} at once",
            scenario="runs",
            figure=figure,
            bound=at(10),
            unit="µs",
        )
        for (way, burst), figure in DELTAS.items()
    ),
    Target(
        text="From creating a run to its first event at the watcher, p50 < 10 ms",
        scenario="runs",
        figure=FIRST_EVENT,
        bound=at(10),
        unit="ms",
    ),
)
