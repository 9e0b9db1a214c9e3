"""Closed loops, which are as fast as the server is: one run with a thousand watchers, and thousands with one each."""

from bench.scenarios.base import Column, Effort, Figures, Scenario, describe_window
from bench.servers.base import Lab, Server

WATCHERS = 1_000
IN_FLIGHT = (1, 16, 64)
RUNS = 2_000


class Fanout(Scenario):
    """One run."""

    name = "fanout"
    title = f"Fan-out: 1 run, {WATCHERS:,} watchers"
    note = (
        "1, 16 or 64 events are published at once; the next when every watcher has all of them. Thousands of deliveries"
        " per second of the server's CPU time; the milliseconds are from publishing an event to a watcher's having it."
    )
    columns = (
        *(
            Column(f"per_core_second_{count}", f"{count} in flight: k/core-s", unit=1e3, is_plotted=True)
            for count in IN_FLIGHT
        ),
        *(Column(f"per_second_{count}", f"{count}: k/s", unit=1e3) for count in IN_FLIGHT),
        Column("p50_ms_1", "1: p50 ms", digits=1),
        Column("p99_ms_1", "1: p99 ms", digits=1),
    )

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """See `Scenario.measure`."""
        figures: Figures = {}
        with (
            server.start(lab) as running,
            running.watch(running.create_runs(1), watchers=effort.scaled(WATCHERS)) as load,
        ):
            for in_flight in IN_FLIGHT:
                answer = load.close_loop(in_flight, warm_seconds=effort.warm_seconds, seconds=effort.seconds)
                figures |= {f"{name}_{in_flight}": value for name, value in describe_window(answer).items()}
        return figures


class ManyRuns(Scenario):
    """Nothing to share: each event is for one watcher."""

    name = "many"
    title = f"Many runs: {RUNS:,} runs, 1 watcher each, saturated"
    note = "An event of every run is published; the next round when all have come. For each event there is one watcher."
    columns = (
        Column("per_core_second", "k events/core-s", unit=1e3, is_plotted=True),
        Column("per_second", "k events/s", unit=1e3),
        Column("p99_ms", "p99 ms", digits=1),
    )

    max_repetitions = 3  # no target hangs on it

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """See `Scenario.measure`."""
        runs = effort.scaled(RUNS)
        with server.start(lab) as running, running.watch(running.create_runs(runs), watchers=1) as load:
            return describe_window(load.close_loop(runs, warm_seconds=effort.warm_seconds, seconds=effort.seconds))
