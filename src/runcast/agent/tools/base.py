"""What a tool is: one thing that a plan's step can do in the world."""

import enum
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from runcast.agent.inputs import ToolInput

I_contra = TypeVar("I_contra", bound=ToolInput, contravariant=True)

Report = Callable[[float, float, str], None]
"""Tells watchers how far a call is: value, total, a few words."""


class Risk(enum.StrEnum):
    """What a call can do to the world outside."""

    NONE = "none"  # nothing leaves this process
    READ = "read"  # others are asked; nothing of theirs changes
    WRITE = "write"  # something changes; doing it twice is the same as doing it once
    PUBLISH = "publish"  # something new comes to be, or is seen by people: never to be done twice


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
