"""The built-in prompt runner: plans a prompt, then executes the plan step by step, in front of the watchers.

Nothing is executed before the whole prompt is understood. A step that fails ends the run; what came before stays done.
"""

import functools
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from runcast.agent.planner import Plan, PlannedStep, plan_prompt
from runcast.agent.tools import create_toolbox
from runcast.agent.tools.base import Risk, Tool
from runcast.app import PROMPT_RUNNER, Runcast, RunContext, describe_error
from runcast.config import Settings
from runcast.errors import OutcomeUnknownError, RuncastError, ToolError
from runcast.events import EventType, encode_json

_MAX_RESULT_BYTES: Final = 262_144
_NAMED_STEPS: Final = 4  # a sentence that names more is no longer read
_WORDS_PER_DELTA: Final = 3

Toolbox = Mapping[str, Tool[Any]]


def register_prompt_runner(app: Runcast, settings: Settings) -> None:
    """Offer the prompt runner in an application.

    Raises:
        ConfigurationError: a tool's settings can't work, or the application has a runner of this name.

    """
    toolbox = create_toolbox(settings)
    # The result is told in one event, together with its surroundings.
    max_result_bytes = min(_MAX_RESULT_BYTES, settings.max_event_bytes // 2)

    @app.runner(name=PROMPT_RUNNER)
    async def prompt_runner(run: RunContext, prompt: str) -> dict[str, Any]:
        """Do what a prompt says: post on LinkedIn, send to Slack, request a URL, wait."""
        plan = plan_prompt(prompt)
        return await execute_plan(run, plan, toolbox, max_result_bytes=max_result_bytes)


async def execute_plan(run: RunContext, plan: Plan, toolbox: Toolbox, *, max_result_bytes: int) -> dict[str, Any]:
    """Execute a plan's steps in order, and return what they gave and a sentence about them.

    Raises:
        ToolError: a step could not be done; the steps after it were not begun.

    """
    run.emit(EventType.PLAN_GENERATED, {"steps": [step.show() for step in plan.steps]})
    if run.attempt > 1:
        _refuse_repetition(plan, toolbox)
    outputs: list[Mapping[str, Any]] = []
    for step in plan.steps:
        call = functools.partial(_call_tool, run, step, toolbox[step.tool])
        outputs.append(await run.step(step.name, call, **step.input.show()))
    summary = _summarize(plan, toolbox, outputs)
    _say(run, summary)
    return {"summary": summary, "steps": _list_outputs(plan, outputs, max_result_bytes)}


async def _call_tool(run: RunContext, step: PlannedStep, tool: Tool[Any], /, **shown_input: Any) -> Any:
    call = {"toolCallId": f"call-{run.attempt}-{step.index}", "tool": step.tool}
    run.emit(EventType.TOOL_STARTED, {**call, "input": shown_input})
    try:
        output = await tool.call(step.input, functools.partial(_report, run))
    except Exception as error:  # noqa: BLE001 - watchers are told of every failure, and it is raised again
        failure = _as_tool_error(step, error)
        described = describe_error(failure)
        run.emit(EventType.TOOL_FAILED, {**call, "error": {"code": described.code, "message": described.message}})
        raise failure from None
    run.emit(EventType.TOOL_COMPLETED, {**call, "output": output})
    return output


def _as_tool_error(step: PlannedStep, error: Exception) -> RuncastError:
    if isinstance(error, RuncastError):
        return error
    # A stranger's message may hold anything, so a secret as well: only its kind and place are told.
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return ToolError(f"the tool {step.tool} stopped with an unexpected {type(error).__name__} at {where}")


def _report(run: RunContext, value: float, total: float, message: str) -> None:
    run.emit(EventType.PROGRESS, {"value": value, "total": total, "message": message})


def _refuse_repetition(plan: Plan, toolbox: Toolbox) -> None:
    """Don't publish again what the attempt before, whose worker was lost, may have published already."""
    for step in plan.steps:
        if toolbox[step.tool].risk_of(step.input) is Risk.PUBLISH:
            raise OutcomeUnknownError(
                f"the worker was lost, and step {step.index} ({step.name}) may have been done before: "
                "look there, and start a new run if it was not"
            )


def _summarize(plan: Plan, toolbox: Toolbox, outputs: Sequence[Mapping[str, Any]]) -> str:
    done = [
        toolbox[step.tool].describe(step.input) + (" (dry run: nothing was sent)" if output.get("dryRun") else "")
        for step, output in zip(plan.steps, outputs, strict=True)
    ]
    if len(done) > _NAMED_STEPS:
        dry_runs = sum(1 for output in outputs if output.get("dryRun"))
        return f"Did all {len(done)} steps" + (f", {dry_runs} of them as dry runs." if dry_runs else ".")
    sentence = ", then ".join(done)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _say(run: RunContext, text: str) -> None:
    """Stream a text to the watchers as a message of its own."""
    message_id = f"summary-{run.attempt}"
    run.emit(EventType.MESSAGE_STARTED, {"messageId": message_id})
    for delta in _cut(text):
        run.emit(EventType.MESSAGE_DELTA, {"messageId": message_id, "delta": delta})
    run.emit(EventType.MESSAGE_COMPLETED, {"messageId": message_id, "text": text})


def _cut(text: str) -> Iterator[str]:
    words = text.split(" ")
    for at in range(0, len(words), _WORDS_PER_DELTA):
        yield (" " if at else "") + " ".join(words[at : at + _WORDS_PER_DELTA])


def _list_outputs(plan: Plan, outputs: Sequence[Mapping[str, Any]], max_bytes: int) -> list[dict[str, Any]]:
    """Each step's output, as long as there is room; the steps themselves have all of theirs."""
    listed: list[dict[str, Any]] = []
    room = max_bytes
    for step, output in zip(plan.steps, outputs, strict=True):
        size = len(encode_json(output))
        fits = size <= room
        room -= size if fits else 0
        listed.append({"tool": step.tool, "output": output if fits else {"omitted": f"{size:,} bytes: see the step"}})
    return listed
