"""Outlasting outages: what has to be done is tried again until database or Redis can be reached."""

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import stamina

from runcast.errors import UnavailableError

T = TypeVar("T")

LONGEST_WAIT_SECONDS: Final = 2.0
_FIRST_WAIT_SECONDS: Final = 0.1
_JITTER_SECONDS: Final = 1.0


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


def seconds_to_wait(failures: int) -> float:
    """How long to wait after so many failures in a row, for whoever tries again by other means: as above."""
    if failures < 2:  # noqa: PLR2004 - once more at once
        return 0
    growing: float = _FIRST_WAIT_SECONDS * 2 ** min(failures - 2, 10) + random.uniform(0, _JITTER_SECONDS)  # noqa: S311
    return min(LONGEST_WAIT_SECONDS, growing)
