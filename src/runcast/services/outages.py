"""Outlasting outages: what has to be done is tried again until database or Redis can be reached."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import stamina

from runcast.errors import UnavailableError

T = TypeVar("T")

LONGEST_WAIT_SECONDS: Final = 2.0


async def outlast_outages(action: Callable[[], Awaitable[T]]) -> T:
    """Do something as often as it takes, with growing waits between; what else it raises comes out."""
    try:
        # Fast path: setting up retries costs more than most of what is done here, and is hardly ever needed.
        return await action()
    except UnavailableError:
        pass
    async for attempt in stamina.retry_context(
        on=UnavailableError, attempts=None, timeout=None, wait_max=LONGEST_WAIT_SECONDS
    ):
        with attempt:
            return await action()
    raise AssertionError("retries without an end have ended")
