"""What docs/prompts.md says of the grammar is so."""

import re
from pathlib import Path

import pytest

from runcast.agent import inputs
from runcast.agent.grammar import FORMS
from runcast.agent.planner import MAX_STEPS, plan_prompt
from runcast.errors import (
    AddressForbiddenError,
    ModelError,
    OutcomeUnknownError,
    PromptNotUnderstoodError,
    RuncastError,
    ServiceRefusedError,
    ToolError,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text("utf-8")


def sentences(language: str) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("sentence", sentences("prompts"))
def test_sentences_are_understood(sentence: str) -> None:
    """Each sentence shown as one that can be asked has a plan."""
    assert plan_prompt(sentence).steps


@pytest.mark.parametrize("sentence", sentences("refused"))
def test_sentences_are_refused(sentence: str) -> None:
    """Each sentence shown as refused is."""
    with pytest.raises(PromptNotUnderstoodError):
        plan_prompt(sentence)


def test_every_form_is_documented() -> None:
    """Each form stands in the table, with its tool and the example that help gives."""
    for form in FORMS:
        tool = plan_prompt(form.example).steps[0].tool
        assert f"| {form.shape} | `{tool}` | `{form.example}` |" in DOCUMENT


def test_limits_are_documented() -> None:
    """Each limit of the grammar stands there with its number."""
    assert f"| {MAX_STEPS} | steps in a prompt |" in DOCUMENT
    assert f"| {inputs.MAX_LINKEDIN_CHARS:,} characters | a post on LinkedIn |" in DOCUMENT
    assert f"| {inputs.MAX_SLACK_CHARS:,} characters | a message on Slack |" in DOCUMENT
    assert f"| {inputs.MAX_EMAIL_CHARS:,} characters | an e-mail |" in DOCUMENT
    assert f"| {inputs.MAX_URL_CHARS:,} characters | a URL |" in DOCUMENT


@pytest.mark.parametrize(
    "error",
    [PromptNotUnderstoodError, ToolError, ServiceRefusedError, AddressForbiddenError, OutcomeUnknownError, ModelError],
)
def test_error_codes_are_documented(error: type[RuncastError]) -> None:
    """Each code that a prompt's run can end with stands in the table."""
    assert f"| `{error.code}` |" in DOCUMENT
