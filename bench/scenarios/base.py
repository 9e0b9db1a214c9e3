"""What the bench needs of a scenario."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

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


THOROUGH = Effort(warm_seconds=0.5, seconds=2)
QUICK = Effort(warm_seconds=0.2, seconds=0.5)


@dataclass(frozen=True, slots=True)
class Column:
    """A figure in the table: its name, its heading, and how many of it make one of the heading's unit."""

    figure: str
    heading: str
    unit: float = 1
    digits: int = 0
    is_plotted: bool = False
    less_is_better: bool = False


class Scenario:
    """One thing that is measured of every server in the same way."""

    name: ClassVar[str]
    title: ClassVar[str]
    columns: ClassVar[Sequence[Column]]
    notes: ClassVar[Mapping[str, str]] = {}

    def suits(self, server: Server) -> bool:  # noqa: ARG002 - most suit all
        """Whether the server can do what is measured."""
        return True

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """Start the server, measure, stop it.

        Raises:
            VoidError: what was measured doesn't count.

        """
        raise NotImplementedError
