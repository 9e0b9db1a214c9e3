"""Ending asyncio tasks for sure."""

import asyncio
from typing import Any, Final

_AGAIN_SECONDS: Final = 0.2


async def end_tasks(*tasks: "asyncio.Task[Any] | None") -> None:
    """Cancel tasks and return once all have ended, whatever they end with.

    Not for a task that takes time to end cleanly: it would be cut short. One cancellation isn't always enough: a
    library that waits with Python 3.11's `asyncio.wait_for` may swallow it.
    """
    pending = {task for task in tasks if task is not None and not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
