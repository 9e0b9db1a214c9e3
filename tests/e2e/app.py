"""The application that the browser tests' server runs: runners which wait where the test tells them to."""

from datetime import date
from typing import Annotated, Any, Literal

import httpx
from pydantic import BaseModel, Field

from runcast import Runcast, RunContext

app = Runcast()

TOKENS = [f"word{number} " for number in range(40)]
SQUARE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><rect width="40" height="40" fill="teal"/></svg>'
)
_tried: set[str] = set()


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


class Address(BaseModel):
    """Where it goes."""

    city: str = Field(min_length=2)
    zip: str | None = None


class Order(BaseModel):
    """An order."""

    item: str = Field(description="What is ordered")
    pieces: int = Field(ge=1, le=10)


@app.runner
async def order(  # noqa: PLR0917 - a form of many fields
    run: RunContext,
    customer: str,
    size: Literal["small", "large"],
    day: date,
    address: Address,
    pieces: Annotated[int, Field(ge=1, le=10, description="How many are sent")] = 1,
    is_gift: bool = False,  # noqa: FBT001, FBT002 - a field of the form
    tags: list[str] | None = None,
) -> dict[str, Any]:
    """Takes an order and gives it back."""
    run.progress(1, 2)
    return {
        "customer": customer,
        "size": size,
        "day": day.isoformat(),
        "address": address.model_dump(),
        "pieces": pieces,
        "gift": is_gift,
        "tags": tags,
    }


@app.runner
async def report(run: RunContext) -> dict[str, Any]:
    """Writes a text, and sends it if somebody says so."""
    async with run.message() as text:
        text.write("All is well.")
    approval = await run.approve("Send the report?", preview="Dear Ada,\nall is well.")
    if not approval:
        return {"sent": False}
    await run.step("send", str.upper, "sent")
    return {"sent": True, "by": approval.by, "comment": approval.comment}


@app.runner
async def plan(run: RunContext) -> dict[str, Any]:
    """Does those of its steps that somebody approves."""
    steps = [{"index": 1, "name": "pack"}, {"index": 2, "name": "weigh"}, {"index": 3, "name": "ship"}]
    approval = await run.approve("Do these steps?", preview=steps, steps=[1, 2, 3])
    for step in steps:
        if approval and step["index"] in (approval.steps or ()):
            await run.step(str(step["name"]), str.upper, "done")
    return {"steps": approval.steps}


@app.runner
async def survey(run: RunContext) -> dict[str, Any]:
    """Asks for an order."""
    answer = await run.ask("What shall be ordered?", schema=Order)
    return {"item": answer.item, "pieces": answer.pieces}


@app.runner
async def paint(run: RunContext) -> None:
    """Makes a picture and a table."""
    await run.artifact("square.svg", data=SQUARE, content_type="image/svg+xml")
    await run.artifact("rows.csv", data="a,b\n1,2\n")
    run.log("painted", level="warning")
    run.usage(model="small", inputTokens=10, outputTokens=3)


@app.runner
async def book(run: RunContext) -> None:
    """Two steps, one of which can be undone; the other starts a run of its own."""
    await run.step("reserve", reserve, "seat 7")
    await run.call("count", number=1)


def release(seat: str) -> str:
    return f"{seat} is free again"


@app.step(undo=release)
def reserve(seat: str) -> str:
    return seat


@app.runner
async def flaky(run: RunContext, gate: str) -> None:
    """Its step succeeds at the second try, once the gate is open."""
    await run.step("try", try_twice, gate, run.id)


@app.step(retries=2, wait_seconds=0.05)
async def try_twice(gate: str, run_id: str) -> str:
    if run_id not in _tried:
        _tried.add(run_id)
        raise ValueError("not yet")
    await wait_at(gate)
    return "at last"


async def wait_at(gate: str) -> None:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        (await client.get(gate)).raise_for_status()


def _explode() -> None:
    raise ValueError("the powder was dry")
