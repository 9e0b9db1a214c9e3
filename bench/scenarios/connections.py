"""Connections themselves: what one costs while nothing happens, and what it costs when they all come at once."""

import time

from bench.machine import read_memory_kib
from bench.scenarios.base import VARIANTS, Column, Effort, Figures, Scenario
from bench.servers.base import Lab, Server

IDLE = 10_000
STORM = 5_000
RUNS = 100
_SETTLE_SECONDS = 1


class Idle(Scenario):
    """Memory."""

    name = "idle"
    title = f"Idle: {IDLE:,} connections to {RUNS} runs"
    note = (
        "The growth of the server's proportional set size, per connection, a second after the last was greeted;"
        " the kernel's socket buffers are not in it."
    )
    columns = (
        Column("kib_per_connection", "KiB per connection", digits=1, is_plotted=True),
        Column("empty_mib", "MiB without any"),
        Column("greeted_s", "all greeted after s", digits=2),
    )
    left_out = VARIANTS

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """See `Scenario.measure`."""
        runs = effort.scaled(RUNS)
        with server.start(lab) as running:
            run_ids = running.create_runs(runs)
            empty = read_memory_kib(running.pids)
            with running.watch(run_ids, watchers=IDLE // RUNS) as load:
                time.sleep(_SETTLE_SECONDS)
                full = read_memory_kib(running.pids)
                return {
                    "kib_per_connection": (full - empty) / (runs * (IDLE // RUNS)),
                    "empty_mib": empty / 1024,
                    "greeted_s": load.arrival["greeted_s"],
                }


class Storm(Scenario):
    """Time."""

    name = "storm"
    title = f"Connect storm: {STORM:,} connections to {RUNS} runs"
    note = (
        "400 handshakes are under way at once, until all are done. Greeted: the server has said that nothing will be"
        " missed from here on; where a peer says nothing of the kind, it is the upgrade."
    )
    columns = (
        Column("upgraded_s", "all upgraded, s", digits=2),
        Column("greeted_s", "all greeted, s", digits=2, is_plotted=True),
        Column("cpu_us_per_connection", "CPU µs per connection"),
    )
    left_out = VARIANTS | {"channels"}  # by far the slowest

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """See `Scenario.measure`."""
        runs = effort.scaled(RUNS)
        with (
            server.start(lab) as running,
            running.watch(running.create_runs(runs), watchers=STORM // RUNS) as load,
        ):
            arrival = load.arrival
            return {
                "others_core_share": arrival["others_cpu_s"] / arrival["wall_s"],
                "upgraded_s": arrival["upgraded_s"],
                "greeted_s": arrival["greeted_s"],
                "cpu_us_per_connection": arrival["server_cpu_s"] * 1e6 / arrival["clients"],
            }
