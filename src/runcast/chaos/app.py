"""The application that a drill's workers run: `runcast worker runcast.chaos.app`."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from runcast.chaos.script import LINES_PER_STEP, Line, write_script
from runcast.context import RunContext
from runcast.registry import RunnerRegistry

RUNNER: Final = "drill"

app = RunnerRegistry()


@app.runner(name=RUNNER)
async def drill(run: RunContext, lines: int, pause_ms: int) -> dict[str, int]:
    """Says its script, line by line, with pauses around `pause_ms`."""
    pace = random.Random(f"{run.id}/{run.attempt}")  # noqa: S311  # a rhythm, not a secret
    script = write_script(run.id, lines=lines)
    for first in range(0, lines, LINES_PER_STEP):
        part = script[first : first + LINES_PER_STEP]
        if len(part) == LINES_PER_STEP:
            await _say_as_step(run, part, pace, pause_ms)
        else:
            await _say(run, part, pace, pause_ms)
    return {"lines": lines}


async def _say_as_step(run: RunContext, part: Sequence[Line], pace: random.Random, pause_ms: int) -> None:
    async def say() -> object:
        await _say(run, part[1:-1], pace, pause_ms)
        return part[-1].payload["output"]

    await run.step(part[0].payload["name"], say)


async def _say(run: RunContext, lines: Sequence[Line], pace: random.Random, pause_ms: int) -> None:
    for line in lines:
        run.emit(line.type, line.payload)
        # Some follow each other at once, as tokens do: they share a batch on every way.
        if pace.random() > 0.3:  # noqa: PLR2004
            await asyncio.sleep(pace.uniform(0, 2 * pause_ms) / 1000)
