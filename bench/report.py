"""Results as Markdown tables and PNG plots; the tables also stand in docs/performance.md, between two marks."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench.load import HERE
from bench.peers_folder import PEERS, install_python_packages
from bench.registry import SCENARIOS, SERVERS
from bench.results import RESULTS, ScenarioResult, ServerResult, load_results
from bench.scenarios.base import Column, Scenario
from bench.targets import TARGETS

PAGE: Final = HERE.parent / "docs" / "performance.md"
README: Final = HERE.parent / "README.md"
_SUMMARY_SERVERS: Final = ("runcast", "floor", "node", "bun", "nats", "nchan", "socketio-streams", "channels")
_SUMMARY: Final = (
    ("1 run → 1,000 watchers, one event at a time, k deliveries/core-s", "fanout", "per_core_second_1", 1e3, 0),
    ("the same, 16 events in flight", "fanout", "per_core_second_16", 1e3, 0),
    ("the same, 64 events in flight", "fanout", "per_core_second_64", 1e3, 0),
    ("2,000 runs × 1 watcher, k events/core-s", "many", "per_core_second", 1e3, 0),
    ("p99 at 10,000 events/s, ms", "latency", "p99_ms", 1, 2),
    ("memory per idle connection, KiB", "idle", "kib_per_connection", 1, 1),
    ("5,000 connects, s until all are greeted", "storm", "greeted_s", 1, 2),
    ("1,000 reconnects that each missed 100 events, s", "reconnect", "whole_s_1000_100", 1, 2),
)
_SECTION: Final = re.compile(r"(?<=<!-- bench -->\n).*?(?=<!-- /bench -->)", re.DOTALL)


def write_report(folder: Path) -> str:
    """Draw the plots, write tables.md beside the results, and put whole results into the documents."""
    results = load_results(folder, list(SCENARIOS))
    if not results:
        return "Nothing was measured yet.\n"
    for name, result in results.items():
        _draw(SCENARIOS[name], result, folder)
    (folder / "tables.md").write_text(render(results, plots=""), "utf-8")
    if folder == RESULTS:
        _fill_section(PAGE, render(results, plots="../bench/results/"))
        _fill_section(README, render_summary(results))
    return render_targets(results)


def render(results: Mapping[str, ScenarioResult], *, plots: str) -> str:
    """Everything; `plots` is the folder of the pictures, as a link."""
    first = next(iter(results.values()))
    parts = [_render_machine(first), "### Targets\n\n" + render_targets(results)]
    parts += [_render_scenario(SCENARIOS[name], result, plots) for name, result in results.items()]
    parts.append(_render_versions(results))
    return "\n".join(parts)


def render_targets(results: Mapping[str, ScenarioResult]) -> str:
    """What was to be reached, and what was."""
    rows = ["| target | measured | |", "|---|---|---|"]
    for target in TARGETS:
        verdict = target.judge(results)
        mark = "not measured" if verdict is None else "pass" if verdict.is_met else "**miss**"
        measured = verdict.measured if verdict else "–"
        rows.append(f"| {target.text} | {measured} | {mark} |")
    return "\n".join(rows) + "\n"


def render_summary(results: Mapping[str, ScenarioResult]) -> str:
    """The few figures that the front page has."""
    names = [name for name in _SUMMARY_SERVERS if any(name in result.servers for result in results.values())]
    rows = ["| |" + "".join(f" {SERVERS[name].title} |" for name in names), "|---|" + "---:|" * len(names)]
    for label, scenario, figure, unit, digits in _SUMMARY:
        if scenario in results:
            column = Column(figure, label, unit=unit, digits=digits)
            servers = results[scenario].servers
            cells = (column.render(servers[name].median(figure) if name in servers else None) for name in names)
            rows.append(f"| {label} |" + "".join(f" {cell} |" for cell in cells))
    return "\n".join(rows) + "\n"


def _fill_section(page: Path, section: str) -> None:
    page.write_text(_SECTION.sub(lambda _: section, page.read_text("utf-8")), "utf-8")


def _render_machine(result: ScenarioResult) -> str:
    machine = result.machine
    return (
        f"Measured {result.measured_at[:10]} on {machine['cores']} cores of {machine['cpu']}, {machine['memory']},"
        f" Linux {machine['kernel']}, Python {machine['python']}, {machine['redis']}; {machine['pinned']}."
        f" Medians of {result.repetitions} repetitions of {result.seconds:g} s, least and greatest in brackets.\n"
    )


def _render_scenario(scenario: Scenario, result: ScenarioResult, plots: str) -> str:
    rows = [
        f"### {scenario.title}\n\n{scenario.note}\n",
        "| |" + "".join(f" {column.heading} |" for column in scenario.columns),
        "|---|" + "---:|" * len(scenario.columns),
        *(_render_row(SERVERS[name].title, kept, scenario) for name, kept in result.servers.items()),
    ]
    if any(column.is_plotted for column in scenario.columns):
        rows.append(f"\n![{scenario.title}]({plots}{scenario.name}.png)")
    return "\n".join(rows) + "\n"


def _render_row(title: str, kept: ServerResult, scenario: Scenario) -> str:
    cells = "".join(f" {_render_cell(column, kept)} |" for column in scenario.columns)
    void = f" ({len(kept.void)} void: {kept.void[0][:80]})" if kept.void else ""
    return f"| {title}{void} |{cells}"


def _render_cell(column: Column, kept: ServerResult) -> str:
    values = kept.values(column.figure)
    if not values:
        return "–"
    middle = column.render(kept.median(column.figure))
    return middle if len(values) == 1 else f"{middle} ({column.render(min(values))}–{column.render(max(values))})"


def _render_versions(results: Mapping[str, ScenarioResult]) -> str:
    rows = ["### What was compared\n"]
    versions = {name: text for result in results.values() for name, text in result.versions.items()}
    missing = {name: text for result in results.values() for name, text in result.unavailable.items()}
    rows += [f"- {server.title}: {versions[name]}" for name, server in SERVERS.items() if name in versions]
    rows += [f"- {SERVERS[name].title}: not measured, {reason}" for name, reason in missing.items()]
    return "\n".join(rows) + "\n"


def _draw(scenario: Scenario, result: ScenarioResult, folder: Path) -> None:
    panels = [
        {"heading": column.heading, "bars": _bars(column, result)} for column in scenario.columns if column.is_plotted
    ]
    if not panels:
        return
    install_python_packages("plots", ("matplotlib",))
    plot = {"file": str(folder / f"{scenario.name}.png"), "title": scenario.title, "panels": panels}
    draw = [PEERS / "plots" / "venv" / "bin" / "python", PEERS / "plots" / "draw.py"]
    subprocess.run(draw, input=json.dumps(plot), text=True, check=True)


def _bars(column: Column, result: ScenarioResult) -> list[Any]:
    bars = []
    for name, kept in result.servers.items():
        values = [value / column.unit for value in kept.values(column.figure)] or [0.0]
        label = re.sub(r"[*`]", "", SERVERS[name].title)
        bars.append([label, sorted(values)[len(values) // 2], min(values), max(values), SERVERS[name].has_runs])
    return bars
