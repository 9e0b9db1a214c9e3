"""A worker inside somebody else's process.

    async with app.worker():
        ...

It is what `runcast worker` runs, without the process: no signals, and logging as the process has it. What ends it is
the end of the block.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from runcast.assembly import serve_worker
from runcast.config import Settings
from runcast.core.pacing import Backoff
from runcast.logs import get_logger, set_level
from runcast.registry import RunnerRegistry

log = get_logger()

_BACKOFF: Final = Backoff(base_seconds=0.5, cap_seconds=15)


@asynccontextmanager
async def run_worker(settings: Settings | None = None, *, app: RunnerRegistry) -> AsyncIterator[None]:
    """Execute an application's runs while the block lasts. Without settings those of the environment hold.

    At the end it takes no more runs, lets those it has finish for `shutdown_seconds`, and gives the rest back.

    Raises:
        ConfigurationError: there is no REDIS_URL, or a setting doesn't fit.
        UnavailableError: the database can't be reached.

    """
    settings = settings or Settings.load()
    set_level(settings.log_level)
    is_ready = asyncio.Event()
    working = asyncio.create_task(_keep_working(settings, app, is_ready), name="worker")
    starting = asyncio.create_task(is_ready.wait(), name="worker-start")
    try:
        await asyncio.wait([working, starting], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        yield
    finally:
        starting.cancel()
        # Once, and then all the time that its runs are given: the processor sees to the limit.
        working.cancel()
        await asyncio.wait([working])


async def _keep_working(settings: Settings, app: RunnerRegistry, is_ready: asyncio.Event) -> None:
    """Work until cancelled. What breaks it once it was ready breaks nobody else: it is started again."""
    failures = 0
    while True:
        try:
            await serve_worker(settings, app, on_ready=is_ready.set)
        except Exception:
            if not is_ready.is_set():
                raise
            failures += 1
            delay_seconds = _BACKOFF.delay_seconds(failures, jitter=random.random())  # noqa: S311  # spreads, hides nothing
            log.exception("❌ the worker broke and will be started again", restart_in_seconds=round(delay_seconds, 2))
            await asyncio.sleep(delay_seconds)
