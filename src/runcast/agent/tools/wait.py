"""The wait: it holds a run for a while and says each second how far it is."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from runcast.agent.inputs import Pause, format_seconds
from runcast.tools import Report, Risk


class WaitTool:
    """Waits. Its time is the event loop's, so a change of the wall clock doesn't matter."""

    def __init__(self, *, tick_seconds: float = 1.0) -> None:
        self._tick_seconds: Final = tick_seconds  # between two reports

    def risk_of(self, tool_input: Pause) -> Risk:  # noqa: ARG002 - the same for every wait
        """See `Tool.risk_of`."""
        return Risk.NONE

    def describe(self, tool_input: Pause) -> str:
        """See `Tool.describe`."""
        return f"waited {format_seconds(tool_input.seconds)}"

    async def call(self, tool_input: Pause, report: Report) -> Mapping[str, Any]:
        """See `Tool.call`."""
        loop = asyncio.get_running_loop()
        total = tool_input.seconds
        started = loop.time()
        passed = 0.0
        while passed < total:
            await asyncio.sleep(min(self._tick_seconds, total - passed))
            passed = min(loop.time() - started, total)
            report(min(round(passed, 3), total), total, f"{round(passed, 1):g} of {format_seconds(total)}")
        return {"waitedSeconds": total}
