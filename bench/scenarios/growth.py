"""What an event costs as an installation grows: more runs that are known, and more that are watched."""

from bench.machine import read_memory_kib
from bench.scenarios.base import Column, Effort, Figures, Scenario, describe_window
from bench.servers.base import Lab, RunningServer, Server

KNOWN = (100_000,)  # what it is with few known stands in the column of as many watched
WATCHED = (10, 10_000)
_EVENTS_PER_SECOND = 2_000
_COMPARED = {"floor", "node"}


class Growth(Scenario):
    """The same 2,000 events a second each time."""

    name = "growth"
    title = "Growth: CPU µs per event at 2,000 events/s, 1 watcher a run"
    note = (
        "Known: that many ended runs are in the database and in Redis, ten others are watched. Watched: that many runs"
        " are, and nothing else is there. Peers know no runs."
    )
    columns = (
        *(Column(f"cpu_us_per_event_known_{count}", f"{count:,} known", digits=1) for count in KNOWN),
        *(
            Column(f"cpu_us_per_event_watched_{count}", f"{count:,} watched", digits=1, is_plotted=True)
            for count in WATCHED
        ),
        Column("kib_per_watched_run", "KiB per watched run and its watcher", digits=1),
    )

    max_repetitions = 3  # it takes long, and what it looks for is large

    def suits(self, server: Server) -> bool:
        """See `Scenario.suits`."""
        return super().suits(server) and (server.has_runs or server.name in _COMPARED)

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """See `Scenario.measure`."""
        figures: Figures = {}
        for count in KNOWN:
            if server.has_runs:
                with server.start(lab) as running:
                    running.add_known_runs(effort.scaled(count))
                    cost = _measure_cost(running, runs=WATCHED[0], effort=effort)
                    figures[f"cpu_us_per_event_known_{count}"] = cost["cpu_us_per_event"]
        for count in WATCHED:
            with server.start(lab) as running:
                cost = _measure_cost(running, runs=effort.scaled(count), effort=effort)
                figures[f"cpu_us_per_event_watched_{count}"] = cost["cpu_us_per_event"]
                figures["kib_per_watched_run"] = cost["kib_per_watched_run"]
        return figures


def _measure_cost(running: RunningServer, *, runs: int, effort: Effort) -> Figures:
    run_ids = running.create_runs(runs)
    empty = read_memory_kib(running.pids)
    with running.watch(run_ids, watchers=1) as load:
        full = read_memory_kib(running.pids)
        answer = load.open_loop(_EVENTS_PER_SECOND, warm_seconds=effort.warm_seconds, seconds=2 * effort.seconds)
        return {**describe_window(answer), "kib_per_watched_run": (full - empty) / runs}
