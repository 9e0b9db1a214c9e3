"""Database queries per watcher and minute: pages that poll, our polling mode, and pushing. On PostgreSQL."""

import time
from collections.abc import Sequence

from bench.postgres import FLUSH_SECONDS, Database, start_database
from bench.scenarios.base import Column, Effort, Figures, Scenario
from bench.servers.base import Lab, RunningServer, Server

WATCHERS = (100, 200)
_WINDOW_SECONDS = 15.0


class Queries(Scenario):
    """The difference between two numbers of watchers: what a server asks for itself isn't any watcher's."""

    name = "queries"
    title = "Database transactions per watcher and minute, on PostgreSQL"
    note = (
        f"{WATCHERS[0]} and then {WATCHERS[1]} watchers, each of a running run of its own that says nothing. What is"
        " more with more watchers recurs per watcher; the rest is the gateway's own."
    )
    columns = (
        Column("per_watcher_minute", "per watcher and minute", digits=2, is_plotted=True),
        Column("own_per_minute", "the gateway itself, per minute", digits=0),
    )

    max_repetitions = 1  # it counts, and the same each time

    def suits(self, server: Server) -> bool:
        """See `Scenario.suits`."""
        return server.has_runs

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """See `Scenario.measure`."""
        window = _WINDOW_SECONDS * max(0.2, effort.scale)
        with start_database() as database, server.on_database(database.url).start(lab) as running:
            run_ids = running.create_runs(WATCHERS[1])
            few, many = (_count_per_minute(running, database, run_ids[:count], window) for count in WATCHERS)
        per_watcher = (many - few) / (WATCHERS[1] - WATCHERS[0])
        return {"per_watcher_minute": per_watcher, "own_per_minute": few - WATCHERS[0] * per_watcher}


def _count_per_minute(
    running: RunningServer, database: Database, run_ids: Sequence[str], window_seconds: float
) -> float:
    with running.follow(run_ids):
        time.sleep(FLUSH_SECONDS)
        before, from_seconds = database.count_transactions(), time.monotonic()
        time.sleep(window_seconds)
        after, to_seconds = database.count_transactions(), time.monotonic()
    return (after - before) * 60 / (to_seconds - from_seconds)
