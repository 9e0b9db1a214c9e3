"""What a tool is: one thing that a plan's step can do in the world."""

from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeVar

from runcast.agent.inputs import ToolInput
from runcast.tools import Report, Risk, ToolCall, read_input

I_contra = TypeVar("I_contra", bound=ToolInput, contravariant=True)

FILE_KEY: Final = "file"
"""Where an output holds a file that the call has made: {name, contentType, text}. It becomes an artifact of the run."""


class Tool(Protocol[I_contra]):
    """Takes an input that is already checked, and answers JSON.

    *Secrets* never stand in an output, an error or a log. *Repetition*: a tool sends what publishes at most once a
    call. *Limits*: a call ends in a bounded time with an output of a bounded size. *Failure*: whatever goes wrong
    outside comes out as `ToolError`.
    """

    def risk_of(self, tool_input: I_contra) -> Risk:
        """What this call would do."""
        ...

    def describe(self, tool_input: I_contra) -> str:
        """What was done, as the predicate of a sentence: ``posted on LinkedIn``."""
        ...

    async def call(self, tool_input: I_contra, report: Report) -> Mapping[str, Any]:
        """Do it.

        Raises:
            ToolError: it could not be done; the message says whose fault and what to do.

        """
        ...


class BuiltInTool:
    """A tool as models are offered it."""

    def __init__(self, input_class: type[ToolInput], tool: Tool[Any]) -> None:
        self.name: Final = input_class.tool
        self.description: Final = (input_class.__doc__ or "").strip()
        self._input_class: Final = input_class
        self._tool: Final = tool

    @property
    def input_schema(self) -> dict[str, Any]:
        """See `OfferedTool.input_schema`."""
        return self._input_class.model_json_schema()

    def prepare(self, arguments: Mapping[str, Any]) -> ToolCall:
        """See `OfferedTool.prepare`."""
        return compose_call(self._tool, read_input(self._input_class, arguments))


def compose_call(tool: Tool[Any], tool_input: ToolInput) -> ToolCall:
    """One call with an input that is checked."""
    return ToolCall(
        tool_input.tool,
        tool_input.step_name,
        tool_input.show(),
        tool.risk_of(tool_input),
        lambda report: tool.call(tool_input, report),
    )
