"""How a part runs as a process: its loop, its signals, its garbage."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final

from runcast.cli.exits import EXIT_INTERRUPTED

_COLLECT_AFTER: Final = 20_000  # new objects that the garbage collector lets pass


def serve(part: Coroutine[Any, Any, None], *, on_retire: Callable[[], None] | None = None) -> None:
    """Run a part until SIGTERM or Ctrl-C; a second signal ends it at once. SIGUSR1 tells it to come to its end."""
    _spare_collections()
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        runner.run(_until_signal(part, on_retire))


def _spare_collections() -> None:
    """Let the garbage collector look less often, and never at what was imported.

    A part makes few cycles, but with ten thousand connections every full collection would hold it up for tens of
    milliseconds, and by default a storm of connects causes one after the other.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


async def _until_signal(part: Coroutine[Any, Any, None], on_retire: Callable[[], None] | None) -> None:
    serving = asyncio.ensure_future(part)
    signals = 0

    def receive_signal() -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(EXIT_INTERRUPTED)
        serving.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, receive_signal)
    if on_retire is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, on_retire)
    try:
        await serving
    except asyncio.CancelledError:
        if not signals:
            raise


def new_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """The faster loop where there is one."""
    try:
        import uvloop  # noqa: PLC0415  # not there on every platform
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
