"""An action that somebody has to approve, and that can be undone.

    runcast up examples/approval.py
    runcast run --runner announce --input '{"topic": "the new office"}'

The run shows what it is about to do and waits, for days if it has to, without holding up anybody. Answer in the
console, or:

    curl localhost:3000/runs/RUN_ID/input -d '{"value": {"approved": true}, "by": "Ada"}'

Once it has ended, undo takes back what it did:

    curl -X POST localhost:3000/runs/RUN_ID/undo
"""

from runcast import Runcast, RunContext

BOARD: list[str] = []
"""The notice board, in place of yours."""

app = Runcast()


@app.runner
async def announce(run: RunContext, topic: str) -> dict[str, str | bool | None]:
    """Writes a notice and puts it on the board, if somebody agrees within a day."""
    notice = await run.step("write", write, topic)
    try:
        approval = await run.approve("Put this on the board?", preview={"notice": notice}, timeout_seconds=86_400)
    except TimeoutError:
        return {"published": False, "by": None}
    if approval:
        await run.step("publish", publish, notice)
    return {"published": approval.approved, "by": approval.by}


def write(topic: str) -> str:
    """Find the words."""
    return f"News about {topic}!"


def take_down(notice: str) -> None:
    """The way back. It is found by its name, so it stands at the top of the module; it gets what the step gave."""
    BOARD.remove(notice)


@app.step(undo=take_down)
def publish(notice: str) -> str:
    """The way there."""
    BOARD.append(notice)
    return notice


# ruff: noqa: INP001 - an example is a file of its own, not part of a package
