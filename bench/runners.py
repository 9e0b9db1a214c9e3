"""The application that the runs benchmark executes: runners that do nothing but what is measured."""

import asyncio

from runcast import Runcast, RunContext

app = Runcast()


@app.runner
async def noop(run: RunContext) -> None:
    """Nothing: what is left is what every run costs."""


@app.runner
async def say(run: RunContext, deltas: int, burst: int, pause_ms: float, is_silent: bool = False) -> None:  # noqa: FBT001, FBT002 # an input, given by name
    """So many deltas, `burst` at a time. Silent, it only keeps the same time: what is left is the runner's own."""
    for _ in range(0, deltas, burst):
        if not is_silent:
            for _ in range(burst):
                run.emit("message_delta", {"messageId": "m1", "delta": " token"})
        await asyncio.sleep(pause_ms / 1000)
