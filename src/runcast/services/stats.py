"""The stats of all gateway processes: each posts a report of itself; whoever is asked reads what is posted.

Posting costs a round trip per interval, whoever watches; nobody is asked anything by another process. The figures of
the process that answers are of this moment, those of the others at most an interval old.

Never: waits long for a board that doesn't answer.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from runcast.concurrency import end_tasks
from runcast.errors import UnavailableError
from runcast.logs import get_logger
from runcast.ports import StatsBoard
from runcast.records import GatewayReport

log = get_logger()

BOARD_TIMEOUT_SECONDS: Final = 1.0
"""What takes longer is given up: an answer of this process alone is better than none."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The reports of the gateways, the own one first. Not `is_complete`: those of the others couldn't be read."""

    reports: tuple[GatewayReport, ...]
    is_complete: bool


class StatsService:
    """`start` before use, `close` after."""

    def __init__(self, *, board: StatsBoard, report: Callable[[], GatewayReport], interval_seconds: float) -> None:
        self._board: Final = board
        self._report: Final = report  # of this process, as it is now
        self._interval_seconds: Final = interval_seconds
        self._posting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to post."""
        self._posting = asyncio.create_task(self._keep_posting(), name="stats")

    async def close(self) -> None:
        """Post no more, and leave no report behind."""
        await end_tasks(self._posting)
        with contextlib.suppress(UnavailableError, TimeoutError):  # then it ends by itself
            async with asyncio.timeout(BOARD_TIMEOUT_SECONDS):
                await self._board.withdraw(self._report().gateway_id)

    async def survey(self) -> Survey:
        """How all gateways are doing; without the board, how this one is."""
        own = self._report()
        try:
            async with asyncio.timeout(BOARD_TIMEOUT_SECONDS):
                posted = await self._board.read()
        except (UnavailableError, TimeoutError):
            return Survey((own,), is_complete=False)
        others = (report for report in posted if report.gateway_id != own.gateway_id)
        return Survey((own, *sorted(others, key=lambda report: report.gateway_id)), is_complete=True)

    async def _keep_posting(self) -> None:
        while True:
            try:
                async with asyncio.timeout(BOARD_TIMEOUT_SECONDS):
                    await self._board.post(self._report())
            except (UnavailableError, TimeoutError) as error:
                log.debug("stats could not be posted", error=str(error))
            except Exception:
                log.exception("❌ posting stats failed; it is tried again")
            await asyncio.sleep(self._interval_seconds)
