"""The planner: what is understood, what is refused and how, and that no text at all can break it."""

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runcast.agent.grammar import FORMS, Form
from runcast.agent.inputs import MAX_LINKEDIN_CHARS, MAX_SLACK_CHARS
from runcast.agent.lexer import QUOTES
from runcast.agent.planner import MAX_STEPS, describe_forms, plan_prompt
from runcast.errors import PromptNotUnderstoodError

ONE_STEP = [
    ("Post 'Hello from Quik.day!' on LinkedIn", "linkedin", {"text": "Hello from Quik.day!"}),
    ("please POST “Hello” to linkedin.", "linkedin", {"text": "Hello"}),
    ("publish «Bonjour» on LinkedIn!", "linkedin", {"text": "Bonjour"}),
    ("Share on LinkedIn: ‘It’s here’", "linkedin", {"text": "It’s here"}),  # noqa: RUF001 - as phones type them
    ("Post 'It's here' on LinkedIn, please", "linkedin", {"text": "It's here"}),
    (r"Post 'the dogs\' bowl' on LinkedIn", "linkedin", {"text": "the dogs' bowl"}),
    ('post:"Hi" on LinkedIn', "linkedin", {"text": "Hi"}),
    ("Send 'Hi' to #general on Slack", "slack", {"text": "Hi", "channel": "#general"}),
    ("Post 'Hi' to #general", "slack", {"text": "Hi", "channel": "#general"}),
    ("Tell #dev-ops 'Hi'", "slack", {"text": "Hi", "channel": "#dev-ops"}),
    ("tell #general on slack: 'Hi'", "slack", {"text": "Hi", "channel": "#general"}),
    ("Send 'Hi' on Slack", "slack", {"text": "Hi"}),
    ("GET https://example.com/a?b=c;d", "http", {"method": "GET", "url": "https://example.com/a?b=c;d"}),
    ("fetch https://example.com.", "http", {"method": "GET", "url": "https://example.com"}),
    ("Get 'https://example.com/then;x'", "http", {"method": "GET", "url": "https://example.com/then;x"}),
    ("delete http://example.com/1", "http", {"method": "DELETE", "url": "http://example.com/1"}),
    (
        'PUT https://example.com with {"a": "} then; x", "b": [1, {}]}',
        "http",
        {"method": "PUT", "url": "https://example.com", "body": '{"a": "} then; x", "b": [1, {}]}'},
    ),
    ("post [1] to https://example.com", "http", {"method": "POST", "url": "https://example.com", "body": "[1]"}),
    ("wait 3 seconds", "wait", {"seconds": 3.0}),
    ("Wait for 1.5 min", "wait", {"seconds": 90.0}),
    ("wait 100 ms", "wait", {"seconds": 0.1}),
    ("sleep 250ms", "wait", {"seconds": 0.25}),
    ("wait a minute", "wait", {"seconds": 60.0}),
    ("wait 1 hour", "wait", {"seconds": 3600.0}),
    ("Email 'Hi' to ada@example.com.", "email", {"to": ["ada@example.com"], "text": "Hi"}),
    ("send 'Hi' to ada@example.com", "email", {"to": ["ada@example.com"], "text": "Hi"}),
    (
        "mail ada@example.com with subject 'Hi': 'Noon?'",
        "email",
        {"to": ["ada@example.com"], "text": "Noon?", "subject": "Hi"},
    ),
    ("Schedule 'Lunch' on 2030-01-31", "calendar", {"title": "Lunch", "start": "2030-01-31", "minutes": 60}),
    (
        "schedule 'Lunch' on 2030-01-31 at 12:30 for 1.5 hours",
        "calendar",
        {"title": "Lunch", "start": "2030-01-31T12:30:00", "minutes": 90},
    ),
    (
        "schedule 'Lunch' on 2030-01-31 at 12:30 for 30min",
        "calendar",
        {"title": "Lunch", "start": "2030-01-31T12:30:00", "minutes": 30},
    ),
    ("read the article https://example.com/a.", "read", {"url": "https://example.com/a"}),
]


@pytest.mark.parametrize(("prompt", "tool", "shown"), ONE_STEP)
def test_one_sentence(prompt: str, tool: str, shown: dict[str, Any]) -> None:
    """A sentence of the grammar becomes one step with its tool and input."""
    assert [(step.tool, step.input.show()) for step in plan_prompt(prompt).steps] == [(tool, shown)]


@pytest.mark.parametrize(
    "prompt",
    [
        "wait 1 second then GET https://a.example",
        "wait 1 second, then GET https://a.example",
        "wait 1 second and then GET https://a.example",
        "wait 1 second; GET https://a.example",
        "wait 1 second. Then GET https://a.example.",
        "wait 1 second\nGET https://a.example\n",
        "1. wait 1 second\n2) GET https://a.example",
        "- Wait 1 second\r\n- GET https://a.example;",
        ";; then wait 1s; and then please fetch https://a.example then",
    ],
)
def test_joined_sentences(prompt: str) -> None:
    """Every way to join sentences gives the steps in order, counted from 1."""
    shown = [(step.index, step.name) for step in plan_prompt(prompt).steps]
    assert shown == [(1, "Wait 1 second"), (2, "GET https://a.example")]


def test_quoted_separators_do_not_split() -> None:
    """What joins sentences outside of quotes is plain text inside."""
    text = 'first; then "second" and\nthen third.'
    assert [step.input.show()["text"] for step in plan_prompt(f"Post «{text}» on LinkedIn").steps] == [text]


@pytest.mark.parametrize(
    ("prompt", "part", "nearest"),
    [
        ("Pots 'hi' on LinkedIn", "“Pots 'hi' on LinkedIn”", "Post '…' on LinkedIn"),
        ("wait 1s then post hello on LinkedIn", "“post hello on LinkedIn”", "Post '…' on LinkedIn"),
        ("Send 'hi' to general on Slack", "“Send 'hi' to general on Slack”", "Send '…' to #channel on Slack"),
        ("wait some seconds", "“wait some seconds”", "wait N seconds"),
        ("Buy milk", "“Buy milk”", None),
    ],
)
def test_a_part_that_is_not_understood(prompt: str, part: str, nearest: str | None) -> None:
    """The error names the part, the nearest form if one is near, and everything that can be asked."""
    with pytest.raises(PromptNotUnderstoodError) as caught:
        plan_prompt(prompt)
    message = str(caught.value)
    hint = f" The nearest form is: {nearest}." if nearest else ""
    assert message == f"not understood: {part}.{hint} Nothing was executed. {describe_forms()}"
    assert (caught.value.code, caught.value.field) == ("prompt_not_understood", "prompt")


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "the prompt asks for nothing"),
        (" ;\n then. ", "the prompt asks for nothing"),
        ("Post 'hello on LinkedIn", "a quote is never closed: 'hello on LinkedIn; add ' at its end"),
        ("POST https://a.example with {", "JSON is never closed: {"),
        ("POST https://a.example with {'a': 1}", "the JSON is not valid"),
        ("POST https://a.example with [NaN]", "JSON has no NaN"),
        ("GET https://a.example with {}", "GET takes no body"),
        ("GET ftp://a.example", "only http:// and https://"),
        ("GET https://", "the URL names no host"),
        ("GET https://me:secret@a.example", "user name or password"),
        (f"GET https://a.example/{'x' * 2_000}", "a URL takes at most 2,000 characters"),
        ("wait 2 hours", "at most 1 hour"),
        ("Post '  ' on LinkedIn", "the text between the quotes is empty"),
        (f"Post '{'x' * (MAX_LINKEDIN_CHARS + 1)}' on LinkedIn", "at most 3,000 characters; this has 3,001"),
        (f"Tell #a '{'x' * (MAX_SLACK_CHARS + 1)}'", "at most 40,000 characters; this has 40,001"),
        ("wait 1s;" * (MAX_STEPS + 1), "the prompt has 21 steps, and 20 is the most"),
    ],
)
def test_limits_and_slips(prompt: str, reason: str) -> None:
    """What breaks a limit or isn't finished is refused with its reason."""
    with pytest.raises(PromptNotUnderstoodError, match=re.escape(reason)):
        plan_prompt(prompt)


def test_limits_themselves_are_allowed() -> None:
    """A text, and a number of steps, may be as large as the limit says."""
    longest = f"Post '{'x' * MAX_LINKEDIN_CHARS}' on LinkedIn"
    assert len(plan_prompt(longest).steps) == 1
    assert len(plan_prompt("wait 1s;" * MAX_STEPS).steps) == MAX_STEPS


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.shape)
def test_examples_are_understood(form: Form) -> None:
    """Every example that help gives is a sentence of the grammar."""
    assert len(plan_prompt(form.example).steps) == 1


# Any text, and often one made of the very characters that mean something inside quotes.
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
texts = (st.text(characters, min_size=1) | st.text("\\'\"”»a ", min_size=1)).filter(str.strip)


@given(text=texts, opener=st.sampled_from(sorted(QUOTES)))
def test_any_text_in_quotes_survives(text: str, opener: str) -> None:
    """Whatever text is quoted, with its closing quote and backslash escaped, comes out as it was."""
    closer = QUOTES[opener]
    quoted = opener + text.replace("\\", "\\\\").replace(closer, f"\\{closer}") + closer
    (step,) = plan_prompt(f"Tell #a {quoted}").steps
    assert step.input.show()["text"] == text


words = st.sampled_from(["then", "and", ";", "\n", ".", ", then", "on LinkedIn", "{", "]", "https://x;y", "'", "it's"])


@given(pieces=st.lists(words, min_size=1, max_size=12))
def test_quoted_text_is_never_cut(pieces: list[str]) -> None:
    """However full of separators a quoted text is, it stays one text in one step, and the step after it is found."""
    text = " ".join(pieces) + "!"
    steps = plan_prompt(f'Post "{text}" on LinkedIn then wait 1s').steps
    assert [step.input.show() for step in steps] == [{"text": text}, {"seconds": 1.0}]


strings = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | strings,
    lambda inner: st.lists(inner) | st.dictionaries(strings, inner),
)


@given(value=st.lists(json_values) | st.dictionaries(strings, json_values))
def test_any_json_body_survives(value: Any) -> None:
    """Whatever JSON follows `with` is the body, character by character."""
    body = json.dumps(value, ensure_ascii=False)
    steps = plan_prompt(f"PATCH https://a.example with {body}; wait 1s").steps
    assert [step.input.show().get("body") for step in steps] == [body, None]


fragments = st.sampled_from(
    [
        *("post", "send", "to", "on", "linkedin", "#a", "slack", "get", "with", "wait", "3", "s", "seconds", "then"),
        *(
            "'",
            '"',
            "“",
            "”",
            "«",
            "»",
            "\\",
            "{",
            "}",
            "[",
            "]",
            ";",
            "\n",
            " ",
            ".",
            ",",
            "and",
            "https://",
            "http://[",
        ),
        *("1.", "-", "://", "\x00", "\ud800", "é", "٣", "²"),
    ]
)


@settings(max_examples=400)
@given(
    prompt=st.lists(fragments, max_size=40).map(" ".join) | st.lists(fragments, max_size=40).map("".join) | st.text()
)
def test_no_text_raises_anything_else(prompt: str) -> None:
    """For any text there is a plan or the planner's own error, whose message is fit to be sent."""
    try:
        plan_prompt(prompt)
    except PromptNotUnderstoodError as error:
        str(error).encode()


@pytest.mark.parametrize(
    "piece", ["a ", "'", "\\", "{", "[", "://", "'a ", '"\\', "then ", "wait ", "Post 'x' ", "1.", "#"]
)
def test_long_prompts_are_read_quickly(piece: str) -> None:
    """The longest text costs time in proportion to its length, whatever it repeats."""
    prompt = (piece * 100_000)[:100_000]
    started = time.perf_counter()
    with pytest.raises(PromptNotUnderstoodError):
        plan_prompt(prompt)
    assert time.perf_counter() - started < 2
