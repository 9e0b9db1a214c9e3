"""What is told of results: medians with their spread, targets with pass or miss, reasons instead of gaps."""

from pathlib import Path

import pytest

from bench.registry import SCENARIOS, SERVERS
from bench.report import render, render_targets
from bench.results import ScenarioResult, ServerResult, load_results
from bench.scenarios.base import Figures


def fanout(**figures: list[Figures]) -> ScenarioResult:
    return ScenarioResult(
        scenario="fanout",
        measured_at="2026-01-01T00:00:00+00:00",
        machine=dict.fromkeys(("cores", "cpu", "memory", "kernel", "python", "redis", "pinned"), "x"),
        versions={"runcast": "runcast 1"},
        unavailable={"nats": "the registry is away"},
        repetitions=3,
        seconds=2,
        servers={name: ServerResult(list(kept)) for name, kept in figures.items()},
    )


def singles(*thousands: float) -> list[Figures]:
    return [{"per_core_second_1": 1_000 * value} for value in thousands]


def test_a_cell_has_the_median_and_the_spread() -> None:
    """One strange repetition moves neither much."""
    page = render({"fanout": fanout(runcast=singles(180, 100, 170))}, plots="")
    assert "| **Runcast** | 170 (100–180) |" in page


def test_what_could_not_be_had_is_listed_with_its_reason() -> None:
    """A peer that isn't in the tables is in the text."""
    page = render({"fanout": fanout(runcast=singles(1))}, plots="")
    assert "- NATS WebSocket: not measured, the registry is away" in page


def test_void_repetitions_are_told() -> None:
    """A server that lost an event says so in its row."""
    result = fanout(runcast=singles(1), node=[])
    result.servers["node"].void = ["client 1 of run r: expected seq 2, got 3"]
    assert "(1 void: client 1 of run r: expected seq 2, got 3) | – |" in render({"fanout": result}, plots="")


@pytest.mark.parametrize(("ours", "mark"), [(170.0, "pass"), (150.0, "**miss**")])
def test_a_target_is_judged_by_medians(ours: float, mark: str) -> None:
    """0.8 times the floor's 200 is 160."""
    result = fanout(runcast=singles(ours), floor=singles(200, 190, 210))
    row = next(line for line in render_targets({"fanout": result}).splitlines() if "0.8 × the C floor" in line)
    assert row.endswith(f"{ours / 160:.2f} × the bound | {mark} |")


def test_what_was_not_measured_is_not_judged() -> None:
    """A target without figures is neither met nor missed."""
    rows = render_targets({}).splitlines()[2:]
    assert {row.split(" | ")[-1] for row in rows} == {"not measured |"}


def test_results_are_kept_with_every_repetition(tmp_path: Path) -> None:
    """What is read back is what was measured."""
    result = fanout(runcast=singles(1, 2, 3))
    result.save(tmp_path)
    assert load_results(tmp_path, list(SCENARIOS)) == {"fanout": result}


def test_scenarios_plot_and_tell_figures_that_exist_once() -> None:
    """Names are unique, and so are the columns of a table."""
    assert all(name == one.name for known in (SCENARIOS, SERVERS) for name, one in known.items())
    for scenario in SCENARIOS.values():
        figures = [column.figure for column in scenario.columns]
        assert len(figures) == len(set(figures)), scenario.name
