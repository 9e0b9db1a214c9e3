"""Executing a plan in front of the watchers, step by step; in `approval` only what people let through.

A step that fails ends the run; what came before stays done. A later attempt skips the steps that are committed.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from runcast.agent.calls import perform
from runcast.agent.planner import Plan, PlannedStep
from runcast.agent.tools.base import Tool, compose_call
from runcast.context import RunContext
from runcast.events import EventType, encode_json

Mode = Literal["auto", "approval", "preview"]
"""`auto` executes, `approval` asks before, `preview` only shows."""

Toolbox = Mapping[str, Tool[Any]]

_NAMED_STEPS: Final = 4  # a sentence that names more is no longer read
_WORDS_PER_DELTA: Final = 3


async def execute_plan(
    run: RunContext, plan: Plan, toolbox: Toolbox, *, mode: Mode, max_result_bytes: int
) -> dict[str, Any]:
    """Execute a plan's steps in order, and return what they gave and a sentence about them.

    Raises:
        ToolError: a step could not be done; the steps after it were not begun.

    """
    shown = [step.show() for step in plan.steps]
    run.emit(EventType.PLAN_GENERATED, {"steps": shown})
    if mode == "preview":
        await _say(run, "Nothing was executed: this is a preview.")
        return {"summary": "Nothing was executed: this is a preview.", "plan": shown}
    steps = plan.steps if mode == "auto" else await _choose(run, plan, shown)
    outputs = [await _execute(run, step, toolbox[step.tool]) for step in steps]
    summary = _summarize(steps, toolbox, outputs, planned=len(plan.steps))
    await _say(run, summary)
    return {"summary": summary, "steps": list_outputs([step.tool for step in steps], outputs, max_result_bytes)}


async def _choose(run: RunContext, plan: Plan, shown: Sequence[Mapping[str, Any]]) -> Sequence[PlannedStep]:
    """Those of the steps that somebody approves."""
    indexes = [step.index for step in plan.steps]
    approval = await run.approve("Execute this plan?", preview={"steps": shown}, steps=indexes)
    chosen = (approval.steps or ()) if approval else ()
    return [step for step in plan.steps if step.index in chosen]


async def _execute(run: RunContext, step: PlannedStep, tool: Tool[Any]) -> Mapping[str, Any]:
    output: Mapping[str, Any] = await perform(run, compose_call(tool, step.input), f"call-{step.index}")
    return output


def _summarize(
    steps: Sequence[PlannedStep], toolbox: Toolbox, outputs: Sequence[Mapping[str, Any]], *, planned: int
) -> str:
    if not steps:
        return "Nothing was executed: the plan was not approved."
    done = [
        toolbox[step.tool].describe(step.input) + (" (dry run: nothing was sent)" if output.get("dryRun") else "")
        for step, output in zip(steps, outputs, strict=True)
    ]
    left_out = f" {planned - len(steps)} of {planned} steps were not approved." if len(steps) < planned else ""
    if len(done) > _NAMED_STEPS:
        dry_runs = sum(1 for output in outputs if output.get("dryRun"))
        all_of_them = "" if left_out else "all "
        return (
            f"Did {all_of_them}{len(done)} steps"
            + (f", {dry_runs} of them as dry runs." if dry_runs else ".")
            + left_out
        )
    sentence = ", then ".join(done)
    return f"{sentence[0].upper()}{sentence[1:]}.{left_out}"


async def _say(run: RunContext, text: str) -> None:
    """Stream a text to the watchers as a message of its own."""
    async with run.message("summary") as said:
        for delta in _cut(text):
            said.write(delta)


def _cut(text: str) -> Iterator[str]:
    words = text.split(" ")
    for at in range(0, len(words), _WORDS_PER_DELTA):
        yield (" " if at else "") + " ".join(words[at : at + _WORDS_PER_DELTA])


def list_outputs(tools: Sequence[str], outputs: Sequence[Any], max_bytes: int) -> list[dict[str, Any]]:
    """Each call's output, as long as there is room; the steps themselves have all of theirs."""
    listed: list[dict[str, Any]] = []
    room = max_bytes
    for tool, output in zip(tools, outputs, strict=True):
        size = len(encode_json(output))
        fits = size <= room
        room -= size if fits else 0
        listed.append({"tool": tool, "output": output if fits else {"omitted": f"{size:,} bytes: see the step"}})
    return listed
