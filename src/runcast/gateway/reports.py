"""What a gateway process says of itself in the stats of all."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from runcast.gateway.connections import Connections
from runcast.ports import RunLog
from runcast.records import GatewayReport
from runcast.services.hub import RunHub

MAX_LISTED_CONNECTIONS: Final = 200
"""Connections that a report lists, and an answer of stats; the rest are counted."""


def report_gateway(
    gateway_id: str, *, connections: Connections, hub: RunHub, log: RunLog, clock: Callable[[], datetime]
) -> GatewayReport:
    """The state of this process now. Its cost doesn't grow with its watchers."""
    return GatewayReport(
        gateway_id=gateway_id,
        at=clock(),
        connections=connections.count,
        link=log.get_stats(),
        is_degraded=hub.is_degraded,
        watchers=connections.report_watchers(limit=MAX_LISTED_CONNECTIONS),
    )
