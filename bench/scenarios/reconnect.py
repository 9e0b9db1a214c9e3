"""Reconnect storm: all clients lose the network, miss events, and come back at once. Only for who keeps history."""

import time

from bench.scenarios.base import Column, Effort, Figures, Scenario
from bench.servers.base import Lab, RunningServer, Server

_BEFORE = 200  # events that every client has seen: history that nobody asks for again
_NOTICE_SECONDS = 1.0  # until a server has noticed that its clients are gone

# Name: runs, clients of each, events missed.
CASES = {
    "1000_1": (1, 1_000, 1),
    "1000_100": (1, 1_000, 100),
    "100_1": (1, 100, 1),
    "100_runs_1": (100, 1, 1),
}


class Reconnect(Scenario):
    """Until everybody is whole again, and what Redis had to send for that."""

    name = "reconnect"
    title = "Reconnect storm"
    note = (
        f"Clients have {_BEFORE} events, go without a word, miss some and come back with their cursors. Whole: each has"
        " all it missed. KB: what Redis sent meanwhile; Nchan keeps its messages in its own memory."
    )
    columns = (
        Column("whole_s_1000_1", "1,000 × 1 missed: s", digits=2, is_plotted=True),
        Column("redis_kb_1000_1", "KB", digits=0),
        Column("whole_s_1000_100", "1,000 × 100: s", digits=2, is_plotted=True),
        Column("redis_kb_1000_100", "KB", digits=0),
        Column("whole_s_100_1", "100 × 1, same run: s", digits=2),
        Column("redis_kb_100_1", "KB", digits=0),
        Column("whole_s_100_runs_1", "100 × 1, 100 runs: s", digits=2),
        Column("redis_kb_100_runs_1", "KB", digits=0),
    )

    def suits(self, server: Server) -> bool:
        """See `Scenario.suits`."""
        return super().suits(server) and server.keeps_history

    def measure(self, server: Server, lab: Lab, effort: Effort) -> Figures:
        """See `Scenario.measure`."""
        figures: Figures = {}
        with server.start(lab) as running:
            running.endpoint = server.recovering(running.endpoint)
            for name, (runs, watchers, missed) in CASES.items():
                case = _measure_case(running, runs=runs, watchers=effort.scaled(watchers), missed=missed)
                figures |= {f"{figure}_{name}": value for figure, value in case.items()}
        return figures


def _measure_case(running: RunningServer, *, runs: int, watchers: int, missed: int) -> Figures:
    with running.watch(running.create_runs(runs), watchers=watchers) as load:
        load.publish(_BEFORE)
        load.leave()
        time.sleep(_NOTICE_SECONDS)
        load.publish(missed)
        before = running.lab.redis.read_output_bytes()
        back = load.come_back()
        return {
            "whole_s": back["whole_s"],
            "redis_kb": (running.lab.redis.read_output_bytes() - before) / 1000,
            "others_core_share": back["others_cpu_s"] / max(back["wall_s"], 1),
            "cpu_us_per_client": back["server_cpu_s"] * 1e6 / back["clients"],
        }
