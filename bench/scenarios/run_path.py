"""The path of a run, from `POST /runs` through queue and worker to its watcher, as `bench.runs` measures it."""

import asyncio
import os
from typing import Final

from bench.runs import SCENARIOS, TALKS, measure
from bench.scenarios.base import Column, Effort, Figures, Scenario
from bench.servers.base import Lab, Server

FIRST_EVENT: Final = "create → running at the watcher, p50"
DELTAS: Final = {(talk.way, talk.burst): f"delta, worker: {talk.name}" for talk in TALKS}
"""The worker's CPU for one delta, by the way it is said and how many are at once."""
_WAYS: Final = {"text": "text", "events": "an event each"}


class RunPath(Scenario):
    """Ours alone: the peers have no runs."""

    name = "runs"
    title = "The path of a run"
    note = (
        "API, queue, worker, both commits and the log, with real processes on cores of their own. A delta's cost is the"
        " worker's CPU time less that of the same runs without deltas; it is text of a message, joined for 10 ms as"
        " `RUNCAST_DELTA_MS` says, or an event of its own. A run counts only if log and archive are whole."
    )
    columns = (
        *(
            Column(figure, f"delta, {_WAYS[way]}, {burst} at once: worker CPU µs", digits=1)
            for (way, burst), figure in DELTAS.items()
        ),
        Column(FIRST_EVENT, "create → running at the watcher: p50 ms", digits=1),
        Column("create → running at the watcher, p99", "p99 ms", digits=1),
        Column("no-op runs, end to end", "no-op runs/s"),
        Column("no-op run, api", "API ms CPU", digits=2),
        Column("no-op run, worker", "worker ms CPU", digits=2),
    )

    def suits(self, server: Server) -> bool:
        """See `Scenario.suits`."""
        return super().suits(server) and server.has_runs

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:  # noqa: ARG002 - it starts its own stack
        """See `Scenario.measure`."""
        before = os.sched_getaffinity(0)
        try:
            figures = asyncio.run(measure(list(SCENARIOS), repeat=1))
        finally:
            os.sched_setaffinity(0, before)
        return {figure.name: figure.median for figure in figures}
