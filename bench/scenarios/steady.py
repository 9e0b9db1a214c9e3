"""Open loops: events come at a rate, as tokens do. How much of a core does it take, and how late are they?"""

from typing import ClassVar

from bench.scenarios.base import VARIANTS, Column, Effort, Figures, Scenario, describe_window
from bench.servers.base import Lab, Server


class Steady(Scenario):
    """So many runs with so many watchers, at so many events a second in all."""

    runs: ClassVar[int]
    watchers: ClassVar[int] = 1
    events_per_second: ClassVar[int]
    columns = (
        Column("server_core_share", "server, % of a core", unit=0.01, digits=1, is_plotted=True),
        Column("cpu_us_per_event", "CPU µs/event", digits=1),
        Column("p50_ms", "p50 ms", digits=2),
        Column("p99_ms", "p99 ms", digits=2),
        Column("max_ms", "max ms", digits=1),
    )

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """See `Scenario.measure`."""
        run_ids_wanted = effort.scaled(self.runs)
        with (
            server.start(lab) as running,
            running.watch(running.create_runs(run_ids_wanted), watchers=self.watchers) as load,
        ):
            rate = self.events_per_second * effort.scale
            answer = load.open_loop(rate, warm_seconds=effort.warm_seconds, seconds=2 * effort.seconds)
            return describe_window(answer)


class Tokens(Steady):
    """What a hundred people see who each watch a model write."""

    name = "tokens"
    title = "Tokens: 100 runs, 1 watcher each, 100 events/s each"
    note = "10,000 events/s for 10,000 deliveries/s."
    max_repetitions = 3  # no target hangs on it
    left_out = VARIANTS | {"channels"}
    runs = 100
    events_per_second = 10_000


class RunShaped(Steady):
    """What an installation looks like on a busy day."""

    name = "shaped"
    title = "Run-shaped: 500 runs, 2 watchers each, 2,000 events/s"
    note = "4 events/s in each run, 4,000 deliveries/s."
    max_repetitions = 3  # no target hangs on it
    left_out = VARIANTS | {"channels"}
    runs = 500
    watchers = 2
    events_per_second = 2_000


class Latency(Steady):
    """From publishing to having it, when nothing is saturated."""

    name = "latency"
    title = "Latency: 1,000 runs, 1 watcher each, 10,000 events/s"
    note = "From the moment an event is written to Redis until its watcher has it, Redis and the load included."
    runs = 1_000
    events_per_second = 10_000
    columns = (
        Column("p50_ms", "p50 ms", digits=3),
        Column("p90_ms", "p90 ms", digits=3),
        Column("p99_ms", "p99 ms", digits=3, is_plotted=True),
        Column("max_ms", "max ms", digits=1),
        Column("server_core_share", "server, % of a core", unit=0.01, digits=1),
    )
