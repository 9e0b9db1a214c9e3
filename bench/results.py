"""What was measured, as it is kept: one JSON file per scenario, with every repetition."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bench.load import HERE
from bench.scenarios.base import Figures

RESULTS: Final = HERE / "results"
PARTIAL: Final = RESULTS / "partial"
"""Where a run goes that wasn't the whole: not every server, or quickly."""


@dataclass(slots=True)
class ServerResult:
    """One server's repetitions of a scenario."""

    figures: list[Figures] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    """Why repetitions didn't count."""

    def values(self, figure: str) -> list[float]:
        """All repetitions of one figure."""
        return [figures[figure] for figures in self.figures if figure in figures]

    def median(self, figure: str) -> float | None:
        """None if there is none."""
        values = self.values(figure)
        return median(values) if values else None


@dataclass(slots=True)
class ScenarioResult:
    """What one session gave for a scenario."""

    scenario: str
    measured_at: str
    machine: dict[str, str]
    versions: dict[str, str]
    unavailable: dict[str, str]
    """Servers that can't be had here, and why."""
    repetitions: int
    seconds: float
    servers: dict[str, ServerResult] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it in the place of an earlier one."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False, default=float)
        (folder / f"{self.scenario}.json").write_text(text + "\n", "utf-8")


def load_results(folder: Path, names: Sequence[str]) -> dict[str, ScenarioResult]:
    """Those that are there."""
    return {name: _load(folder / f"{name}.json") for name in names if (folder / f"{name}.json").exists()}


def _load(path: Path) -> ScenarioResult:
    kept = json.loads(path.read_text("utf-8"))
    servers = {name: ServerResult(**result) for name, result in kept.pop("servers").items()}
    return ScenarioResult(**kept, servers=servers)
