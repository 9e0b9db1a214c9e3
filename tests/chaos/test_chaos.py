"""The proof, in short: every kind of fault once, and no promise broken. `runcast doctor --chaos` runs the long one."""

import asyncio
import json
import os
from pathlib import Path

import psutil
import pytest

from runcast.chaos.drill import DrillOptions, run_drill
from runcast.chaos.plan import FaultKind
from runcast.errors import ConfigurationError
from tests.cli.processes import clean_environment

SHORT = DrillOptions(seed=3, runs=60, lines=60, watchers=120, pause_ms=40, lease_seconds=3, pace=0.4)


async def test_nothing_is_lost_repeated_or_reordered_under_every_kind_of_fault() -> None:
    """Real processes, all faults, one after the other: every watcher's record equals the archive."""
    lines: list[str] = []
    async with asyncio.timeout(240):
        report = await run_drill(SHORT, environ=clean_environment(), say=lines.append)
    text = "\n".join([*lines, report.render()])
    assert report.violations == [], text
    assert report.is_clean, text
    assert set(report.faults) == set(FaultKind), text
    assert set(report.transports) == {"websocket", "sse", "long_poll", "paging"}, text
    assert sum(report.statuses.values()) == SHORT.runs
    assert report.delivered > SHORT.runs * SHORT.lines
    assert json.loads(json.dumps(report.to_json()))["clean"] is True
    assert [child for child in psutil.Process(os.getpid()).children() if _is_of_a_drill(child)] == []


async def test_a_drill_refuses_a_database_that_holds_runs(tmp_path: Path) -> None:
    """A drill locks tables: it must not be pointed at anybody's data."""
    url = f"sqlite:///{tmp_path / 'runcast.db'}"
    short = DrillOptions(seed=1, runs=1, lines=5, watchers=1, pause_ms=1, lease_seconds=2, kinds=(), database_url=url)
    async with asyncio.timeout(60):
        report = await run_drill(short, environ=clean_environment(), say=lambda _: None)
        assert report.is_clean, report.render()
        with pytest.raises(ConfigurationError, match="holds runs"):
            await run_drill(short, environ=clean_environment(), say=lambda _: None)


def _is_of_a_drill(child: psutil.Process) -> bool:
    return "runcast.chaos.app" in " ".join(child.cmdline())
