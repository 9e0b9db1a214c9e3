"""From a prompt to a plan, whole or not at all. Pure: nothing is executed, asked or looked up here.

The only exception that comes out, for any text, is `PromptNotUnderstoodError`.
"""

from dataclasses import dataclass
from typing import Any, Final

import pydantic

from runcast.agent.grammar import FORMS, find_nearest, match_form
from runcast.agent.inputs import ToolInput
from runcast.agent.lexer import Clause, excerpt, read_clauses
from runcast.errors import PromptNotUnderstoodError

MAX_STEPS: Final = 20


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One thing to do; `index` counts from 1."""

    index: int
    name: str
    input: ToolInput

    @property
    def tool(self) -> str:
        """The tool that does it."""
        return self.input.tool

    def show(self) -> dict[str, Any]:
        """The step as `plan_generated` tells it."""
        return {"index": self.index, "name": self.name, "tool": self.tool, "input": self.input.show()}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a prompt asks for, in order."""

    steps: tuple[PlannedStep, ...]


def plan_prompt(prompt: str) -> Plan:
    """Read a prompt.

    Raises:
        PromptNotUnderstoodError: a part of it is outside the grammar or past a limit; the message names the part.

    """
    clauses = read_clauses(prompt)
    if not clauses:
        raise PromptNotUnderstoodError(f"the prompt asks for nothing. {describe_forms()}")
    if len(clauses) > MAX_STEPS:
        raise PromptNotUnderstoodError(
            f"the prompt has {len(clauses)} steps, and {MAX_STEPS} is the most that one run executes; "
            "split it into several runs. Nothing was executed."
        )
    return Plan(tuple(_plan_step(index, clause) for index, clause in enumerate(clauses, start=1)))


def describe_forms() -> str:
    """What can be asked, with an example of each."""
    examples = " · ".join(form.example for form in FORMS)
    return f"What can be asked: {examples}. Several can be joined by “then”."


def _plan_step(index: int, clause: Clause) -> PlannedStep:
    matched = match_form(clause.tokens)
    if matched is None:
        raise PromptNotUnderstoodError(_explain(clause))
    form, values = matched
    try:
        tool_input = form.build(values)
    except pydantic.ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        where = excerpt(clause.source)
        raise PromptNotUnderstoodError(f"step {index} “{where}”: {reason}. Nothing was executed.") from None
    return PlannedStep(index, tool_input.step_name, tool_input)


def _explain(clause: Clause) -> str:
    nearest = find_nearest(clause.tokens)
    hint = f" The nearest form is: {nearest.shape}." if nearest else ""
    return f"not understood: “{excerpt(clause.source)}”.{hint} Nothing was executed. {describe_forms()}"
