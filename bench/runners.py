"""The application that the runs benchmark executes: runners that do nothing but what is measured."""

import asyncio
from contextlib import nullcontext

from runcast import Runcast, RunContext

app = Runcast()


@app.runner
async def noop(run: RunContext) -> None:
    """Nothing: what is left is what every run costs."""


@app.runner
async def say(run: RunContext, deltas: int, burst: int, pause_ms: float, way: str) -> None:
    """So many deltas, `burst` at a time: as the text of a message, or each as an event of its own. Silent, it only
    keeps the same time: what is left is the runner's own.
    """
    async with run.message() if way == "text" else nullcontext() as message:
        for _ in range(0, deltas, burst):
            if message is not None:
                for _ in range(burst):
                    message.write(" token")
            elif way == "events":
                for _ in range(burst):
                    run.emit("message_delta", {"messageId": "m1", "delta": " token"})
            await asyncio.sleep(pause_ms / 1000)
