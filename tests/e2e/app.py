"""The application that the browser tests' server runs: runners which wait where the test tells them to."""

import httpx

from runcast import Runcast, RunContext

app = Runcast()

TOKENS = [f"word{number} " for number in range(40)]


@app.runner
async def hold(run: RunContext, gate: str) -> dict[str, str]:
    """Two steps; the first ends when its gate opens."""
    await run.step("wait at the gate", wait_at, gate)
    await run.step("go on", str.upper, "done")
    return {"passed": gate}


@app.runner
async def talk(run: RunContext, gate: str) -> dict[str, int]:
    """Streams half of a text, and the rest after its gate has opened."""
    half = len(TOKENS) // 2
    run.emit("message_started", {"messageId": "text"})
    for token in TOKENS[:half]:
        run.emit("message_delta", {"messageId": "text", "delta": token})
    await run.step("wait at the gate", wait_at, gate)
    for token in TOKENS[half:]:
        run.emit("message_delta", {"messageId": "text", "delta": token})
    run.emit("message_completed", {"messageId": "text", "text": "".join(TOKENS)})
    return {"tokens": len(TOKENS)}


@app.runner
async def count(run: RunContext, number: int) -> dict[str, int]:
    """One quick step."""
    return {"next": await run.step("add one", lambda: number + 1)}


@app.runner
async def explode(run: RunContext) -> None:
    """Raises in a step."""
    await run.step("light the fuse", _explode)


async def wait_at(gate: str) -> None:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        (await client.get(gate)).raise_for_status()


def _explode() -> None:
    raise ValueError("the powder was dry")
