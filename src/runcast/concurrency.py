"""Ending asyncio tasks for sure, and calling what blocks in a thread of its own."""

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

T = TypeVar("T")

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


async def run_in_thread(
    function: Callable[[], T],
    *,
    name: str,
    cancel: Callable[[], None],
    is_late: Callable[[], bool] = lambda: False,
) -> T:
    """Call what blocks in a thread of its own, in a copy of the present context, and give its result.

    Canceled, it is told to stop by `cancel` and waited for; not so if it is late: then it is left to itself.
    """
    # A thread of a pool would do, unless it waited for another that waits for a place in the same pool.
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
    call = functools.partial(contextvars.copy_context().run, function)
    calling = asyncio.get_running_loop().run_in_executor(executor, call)
    try:
        await asyncio.wait([calling])
        return calling.result()
    except asyncio.CancelledError:
        calling.add_done_callback(_forget_error)
        cancel()
        if not is_late():
            await asyncio.wait([calling])
        raise
    finally:
        executor.shutdown(wait=False)


def _forget_error(calling: "asyncio.Future[Any]") -> None:
    if not calling.cancelled():
        calling.exception()  # it was told to stop: what it raised then is its way to do so
