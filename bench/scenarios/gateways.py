"""One gateway process and two on the same port: how much more they deliver, and what sharing costs."""

from bench.scenarios.base import Column, Effort, Figures, Scenario, describe_window
from bench.servers.base import Lab, Server

WATCHERS = 1_000
IN_FLIGHT = (1, 16)


class Gateways(Scenario):
    """Ours alone."""

    name = "gateways"
    title = f"Gateway processes: 1 run, {WATCHERS:,} watchers"
    note = (
        "1 or 16 events in flight, as in the fan-out. The kernel spreads the watchers over the processes. The second"
        " has a core alone from four cores on; with fewer it shares one with Redis or the load, and what it adds is"
        " what these leave of it."
    )
    columns = (
        *(Column(f"per_second_{count}", f"{count} in flight: k/s", unit=1e3, is_plotted=True) for count in IN_FLIGHT),
        *(Column(f"per_core_second_{count}", f"{count}: k/core-s", unit=1e3) for count in IN_FLIGHT),
        Column("p50_ms_1", "1: p50 ms", digits=1),
        Column("p99_ms_1", "1: p99 ms", digits=1),
    )
    max_repetitions = 3  # no target hangs on it

    def suits(self, server: Server) -> bool:
        """See `Scenario.suits`."""
        return server.name in {"runcast", "runcast-2"}

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
