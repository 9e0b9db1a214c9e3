"""All servers and scenarios by name, in the order in which they are measured and told."""

from collections.abc import Mapping
from typing import Final

from bench.scenarios.base import Scenario
from bench.scenarios.connections import Idle, Storm
from bench.scenarios.fanout import Fanout, ManyRuns
from bench.scenarios.gateways import Gateways
from bench.scenarios.growth import Growth
from bench.scenarios.queries import Queries
from bench.scenarios.reconnect import Reconnect
from bench.scenarios.run_path import RunPath
from bench.scenarios.steady import Latency, RunShaped, Tokens
from bench.servers.base import Server
from bench.servers.bun import Bun
from bench.servers.channels import Channels
from bench.servers.floor import Floor, JoiningFloor, LoggedFloor
from bench.servers.nats import Nats
from bench.servers.nchan import Nchan
from bench.servers.node import NodeOriginal, NodeTuned
from bench.servers.runcast import PolledRuncast, PollingRuncast, Runcast, TwoGateways
from bench.servers.socketio import SocketIO, SocketIOStreams

_SERVERS: Final = (
    Floor(),
    JoiningFloor(),
    LoggedFloor(),
    Runcast(),
    TwoGateways(),
    PollingRuncast(),
    PolledRuncast(),
    NodeOriginal(),
    NodeTuned(),
    Bun(),
    Nats(),
    Nchan(),
    SocketIO(),
    SocketIOStreams(),
    Channels(),
)
_SCENARIOS: Final = (
    Fanout(),
    ManyRuns(),
    Gateways(),
    Tokens(),
    RunShaped(),
    Latency(),
    Idle(),
    Storm(),
    Reconnect(),
    Queries(),
    Growth(),
    RunPath(),
)

SERVERS: Final[Mapping[str, Server]] = {server.name: server for server in _SERVERS}
SCENARIOS: Final[Mapping[str, Scenario]] = {scenario.name: scenario for scenario in _SCENARIOS}
