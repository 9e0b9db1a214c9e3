"""The load against servers that are right: it counts what was delivered and how long that took."""

import pytest

from bench.registry import SERVERS
from bench.servers.base import Lab, Server

CLIENTS = 20
EVENTS = 50


@pytest.mark.parametrize("server", [SERVERS["floor"], SERVERS["floor-join"], SERVERS["runcast"]], ids=lambda s: s.name)
def test_a_fan_out_is_measured(server: Server, lab: Lab) -> None:
    """Every client gets every event; CPU time and latencies are those of the window."""
    with server.start(lab) as running, running.watch(running.create_runs(1), watchers=CLIENTS) as load:
        assert load.arrival["clients"] == CLIENTS
        assert load.arrival["greeted_s"] > 0
        answer = load.publish(EVENTS)
        assert (answer["published"], answer["deliveries"]) == (EVENTS, CLIENTS * EVENTS)
        window = load.close_loop(4, warm_seconds=0, seconds=0.05)
        assert window["deliveries"] == CLIENTS * window["published"]
        assert window["published"] % 4 == 0
        assert 0 < window["p50_ms"] <= window["p99_ms"]
        assert window["server_cpu_s"] > 0


def test_clients_that_come_back_get_what_they_missed(lab: Lab) -> None:
    """They are whole when each has the events that were published while they were away."""
    with SERVERS["runcast"].start(lab) as running, running.watch(running.create_runs(2), watchers=5) as load:
        load.publish(10)
        load.leave()
        load.publish(7)
        back = load.come_back()
        assert back["deliveries"] == 2 * 5 * 7
        assert load.publish(3)["deliveries"] == 2 * 5 * 3


def test_events_come_at_the_rate_that_is_asked_for(lab: Lab) -> None:
    """An open loop publishes so many a second, whoever has them."""
    with SERVERS["floor"].start(lab) as running, running.watch(running.create_runs(5), watchers=2) as load:
        answer = load.open_loop(1_000, warm_seconds=0.05, seconds=0.2)
        assert answer["published"] == pytest.approx(200, abs=20)
        assert answer["deliveries"] >= 2 * answer["published"]
