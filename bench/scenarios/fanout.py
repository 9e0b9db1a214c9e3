"""Fan-out: one run that a thousand people watch, with 1, 16 and 64 events in flight."""

from typing import Any

from bench.scenarios.base import Column, Effort, Figures, Scenario
from bench.servers.base import Lab, Server

WATCHERS = 1_000
IN_FLIGHT = (1, 16, 64)


class Fanout(Scenario):
    """The next events are published when every watcher has all of the last."""

    name = "fanout"
    title = f"Fan-out: 1 run, {WATCHERS:,} watchers"
    columns = tuple(
        Column(f"per_core_second_{count}", f"{count} in flight, k deliveries/core-s", unit=1e3, is_plotted=True)
        for count in IN_FLIGHT
    ) + (
        Column("p50_ms_1", "1 in flight, p50 ms", digits=2),
        Column("p99_ms_1", "1 in flight, p99 ms", digits=2),
    )

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """See `Scenario.measure`."""
        figures: Figures = {}
        with server.start(lab) as running:
            run_ids = running.create_runs(1)
            with running.watch(run_ids, watchers=effort.scaled(WATCHERS)) as load:
                for in_flight in IN_FLIGHT:
                    answer = load.close_loop(in_flight, warm_seconds=effort.warm_seconds, seconds=effort.seconds)
                    figures |= {f"{name}_{in_flight}": value for name, value in describe_window(answer).items()}
        return figures


def describe_window(answer: dict[str, Any]) -> Figures:
    """The figures of a measured window that every scenario tells in the same words."""
    deliveries = answer["deliveries"]
    return {
        "per_core_second": deliveries / max(answer["server_cpu_s"], 1e-9),
        "per_second": deliveries / answer["wall_s"],
        "per_load_core_second": deliveries / answer["load_cpu_s"],
        "server_core_share": answer["server_cpu_s"] / answer["wall_s"],
        "redis_core_share": answer["redis_cpu_s"] / answer["wall_s"],
        "load_core_share": answer["load_cpu_s"] / answer["wall_s"],
        "deliveries_per_read": deliveries / max(answer["reads"], 1),
        "deliveries": deliveries,
        **{name: answer[name] for name in ("p50_ms", "p90_ms", "p99_ms", "max_ms", "publisher_lag_max_ms")},
    }
