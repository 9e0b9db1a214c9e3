"""Making tool calls in a run: each is a step, told as tool events, and never made twice if it publishes.

Before a call that publishes, the attempt is committed that makes it. A later attempt that finds such a note and no
committed result knows that the call was in flight, and refuses to make it again.
"""

import functools
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from runcast.agent.tools.base import FILE_KEY
from runcast.context import RunContext
from runcast.errors import InvalidInputError, OutcomeUnknownError, RuncastError, TooLargeError, ToolError
from runcast.events import EventType
from runcast.steps import describe_error, to_json
from runcast.tools import Risk, ToolCall

_FAILURES: Final = (ToolError, InvalidInputError, TooLargeError)
"""What a caller that goes on afterwards can be told."""


async def perform(run: RunContext, call: ToolCall, call_id: str, *, keeps_failure: bool = False) -> Any:
    """Make a call, once, and return what it gave.

    With `keeps_failure` a call that failed is done as well, and gives {error: {code, message}}.

    Raises:
        ToolError: it could not be made.
        OutcomeUnknownError: nobody knows whether it was.

    """
    make = functools.partial(_make, run, call, call_id, keeps_failure)
    output = await run.step(call.step_name, make, **call.input)
    # Here, not inside the step: what a step that is skipped would have said isn't counted again.
    return await _keep_file(run, output)


async def _make(run: RunContext, call: ToolCall, call_id: str, keeps_failure: bool, /, **shown_input: Any) -> Any:  # noqa: FBT001 - bound above
    if call.risk is Risk.PUBLISH:
        await _refuse_repetition(run, call)
    about = {"toolCallId": call_id, "tool": call.tool}
    run.emit(EventType.TOOL_STARTED, {**about, "input": shown_input})
    try:
        output = to_json(await call.make(run.progress))
    except Exception as error:  # noqa: BLE001 - watchers are told of every failure, and it is raised again
        failure = _as_tool_error(call, error)
        described = describe_error(failure)
        told = {"error": {"code": described.code, "message": described.message}}
        run.emit(EventType.TOOL_FAILED, {**about, **told})
        if keeps_failure and isinstance(failure, _FAILURES) and not isinstance(failure, OutcomeUnknownError):
            return told
        raise failure from None
    run.emit(EventType.TOOL_COMPLETED, {**about, "output": output})
    return output


async def _refuse_repetition(run: RunContext, call: ToolCall) -> None:
    """Don't publish again what an attempt that was cut short in the middle may have published already."""
    begun_in = await run.mark("begun")
    if begun_in != run.attempt:
        raise OutcomeUnknownError(
            f"the worker was lost in the step {call.step_name}, which may have been done: "
            "look there, and start a new run if it was not"
        )


async def _keep_file(run: RunContext, output: Any) -> Any:
    file = output.get(FILE_KEY) if isinstance(output, Mapping) else None
    if not isinstance(file, Mapping) or file.keys() != {"name", "contentType", "text"}:
        return output
    kept = await run.artifact(file["name"], data=file["text"], content_type=file["contentType"])
    return {**output, "artifactId": kept.id, "url": kept.url}


def _as_tool_error(call: ToolCall, error: Exception) -> RuncastError:
    if isinstance(error, RuncastError):
        return error
    # A stranger's message may hold anything, so a secret as well: only its kind and place are told.
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(place.filename).name}:{place.lineno}"
    return ToolError(f"the tool {call.tool} stopped with an unexpected {type(error).__name__} at {where}")
