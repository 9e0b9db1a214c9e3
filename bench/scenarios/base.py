"""What the bench needs of a scenario."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.servers.base import Lab, Server

Figures = dict[str, float]
"""What one measurement gave, by name."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a measurement takes."""

    warm_seconds: float
    seconds: float
    scale: float = 1
    """Share of the clients, runs and events that a scenario names."""

    def scaled(self, count: int) -> int:
        """So many of them, at least one."""
        return max(1, round(count * self.scale))


THOROUGH = Effort(warm_seconds=0.5, seconds=1.5)
QUICK = Effort(warm_seconds=0.2, seconds=0.5)

VARIANTS = frozenset({"floor-join", "node-tuned", "socketio"})
"""Variants of servers that are measured too: they differ where much is sent."""


@dataclass(frozen=True, slots=True)
class Column:
    """A figure in the table: its name, its heading, and how many of it make one of the heading's unit."""

    figure: str
    heading: str
    unit: float = 1
    digits: int = 0
    is_plotted: bool = False

    def render(self, value: float | None) -> str:
        """In the heading's unit; a dash if there is none."""
        return "–" if value is None else f"{value / self.unit:z,.{self.digits}f}"


class Scenario:
    """One thing that is measured of every server in the same way."""

    name: ClassVar[str]
    title: ClassVar[str]
    note: ClassVar[str]
    """What is done, in a sentence or two for the reader of the table."""
    columns: ClassVar[Sequence[Column]]
    max_repetitions: ClassVar[int | None] = None
    """For what comes out the same each time, or no target hangs on."""
    left_out: ClassVar[frozenset[str]] = frozenset()
    """Servers that would say nothing here that another doesn't, or take too long to say it."""

    def suits(self, server: Server) -> bool:
        """Whether the server can do what is measured."""
        return self.name in server.only if server.only is not None else server.name not in self.left_out

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """Start the server, measure, stop it.

        Raises:
            VoidError: what was measured doesn't count.

        """
        raise NotImplementedError


def describe_window(answer: dict[str, Any]) -> Figures:
    """The figures of a measured window that every scenario tells in the same words."""
    deliveries = answer["deliveries"]
    return {
        "per_core_second": deliveries / max(answer["server_cpu_s"], 1e-9),
        "per_second": deliveries / answer["wall_s"],
        "per_load_core_second": deliveries / answer["load_cpu_s"],
        "server_core_share": answer["server_cpu_s"] / answer["wall_s"],
        "redis_core_share": answer["redis_cpu_s"] / answer["wall_s"],
        "load_core_share": answer["load_cpu_s"] / answer["wall_s"],
        "others_core_share": answer["others_cpu_s"] / answer["wall_s"],
        "cpu_us_per_event": answer["server_cpu_s"] * 1e6 / max(answer["published"], 1),
        "deliveries_per_read": deliveries / max(answer["reads"], 1),
        "deliveries": deliveries,
        **{name: answer[name] for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms", "publisher_lag_max_ms")},
    }
