"""All servers and scenarios by name, in the order in which they are measured and told."""

from collections.abc import Mapping
from typing import Final

from bench.scenarios.base import Scenario
from bench.scenarios.fanout import Fanout
from bench.servers.base import Server
from bench.servers.floor import Floor, JoiningFloor
from bench.servers.node import NodeOriginal, NodeTuned
from bench.servers.runcast import Runcast

SERVERS: Final[Mapping[str, Server]] = {
    server.name: server for server in (Floor(), JoiningFloor(), Runcast(), NodeOriginal(), NodeTuned())
}
SCENARIOS: Final[Mapping[str, Scenario]] = {scenario.name: scenario for scenario in (Fanout(),)}
