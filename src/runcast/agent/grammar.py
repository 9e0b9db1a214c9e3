"""The sentences that the prompt runner understands, as a table: whatever matches no pattern is refused. Pure.

A pattern is words and slots with spaces between; ``a|b`` is either word, capitals are a slot. Case doesn't matter.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Final

from runcast.agent.inputs import (
    CalendarEvent,
    Email,
    HttpRequest,
    LinkedInPost,
    Pause,
    SlackMessage,
    ToolInput,
    WebPage,
)
from runcast.agent.lexer import Kind, Token

_NEAR: Final = 0.5  # the share of a pattern that a clause must match to be called near it
_ALIKE: Final = 0.75  # how alike two words must be to be one with a slip of the finger
_COMPARED_TOKENS: Final = 30
_COMPARED_CHARS: Final = 20
_NUMBER_CHARS: Final = 12

_METHODS: Final[Mapping[str, str]] = {
    "fetch": "GET",
    **{method.lower(): method for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")},
}
_ONE: Final = frozenset({"a", "an", "one"})
_UNIT_SECONDS: Final[Mapping[str, float]] = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3_600.0),
}

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Form:
    """One thing that can be asked: how it looks, an example, and every way to say it."""

    shape: str
    example: str
    patterns: tuple[str, ...]
    build: Callable[[Values], ToolInput]


def _build_post(values: Values) -> ToolInput:
    return LinkedInPost(text=values["TEXT"])


def _build_message(values: Values) -> ToolInput:
    return SlackMessage(text=values["TEXT"], channel=values.get("CHANNEL"))


def _build_request(values: Values) -> ToolInput:
    return HttpRequest(method=values["METHOD"], url=values["URL"], body=values.get("JSON"))


def _build_email(values: Values) -> ToolInput:
    return Email(to=(values["ADDRESS"],), text=values["TEXT"], subject=values.get("SUBJECT"))


def _build_event(values: Values) -> ToolInput:
    start = datetime.combine(values["DATE"], values["TIME"]) if "TIME" in values else values["DATE"]
    is_timed = "NUMBER" in values or "DURATION" in values
    about = {"title": values["TEXT"], "start": start, **({"minutes": _seconds(values) / 60} if is_timed else {})}
    return CalendarEvent.model_validate(about)  # which refuses a part of a minute


def _build_page(values: Values) -> ToolInput:
    return WebPage(url=values["URL"])


def _build_pause(values: Values) -> ToolInput:
    return Pause(seconds=_seconds(values))


def _seconds(values: Values) -> float:
    if "NUMBER" in values:
        # Rounded, or 100 ms would be 0.1000000000000001 s.
        return float(round(values["NUMBER"] * values["UNIT"], 6))
    return float(values["DURATION"])


FORMS: Final = (
    Form(
        "Post '…' on LinkedIn",
        "Post 'Hello' on LinkedIn",
        (
            "post|publish|share|send TEXT on|to linkedin",
            "post|publish|share|send on|to linkedin TEXT",
        ),
        _build_post,
    ),
    Form(
        "Send '…' to #channel on Slack",
        "Send 'Hello' to #general on Slack",
        (
            "send|post|write|say TEXT to|in|on CHANNEL",
            "send|post|write|say TEXT to|in|on CHANNEL on|in slack",
            "send|post|write|say TEXT to|in|on slack",
            "send|post|write|say to|in|on CHANNEL TEXT",
            "send|post|write|say to|in|on CHANNEL on|in slack TEXT",
            "send|post|write|say to|in|on slack TEXT",
            "tell CHANNEL TEXT",
            "tell CHANNEL on|in slack TEXT",
        ),
        _build_message,
    ),
    Form(
        "Email '…' to name@example.com",
        "Email 'Hello' to ada@example.com",
        (
            "email|mail TEXT to ADDRESS",
            "email|mail ADDRESS TEXT",
            "email|mail TEXT to ADDRESS with subject SUBJECT",
            "email|mail ADDRESS with subject SUBJECT TEXT",
            "send TEXT to ADDRESS",
            "send TEXT to ADDRESS with subject SUBJECT",
        ),
        _build_email,
    ),
    Form(
        "Schedule '…' on YYYY-MM-DD at HH:MM",
        "Schedule 'Lunch' on 2030-01-31 at 12:30",
        (
            "schedule TEXT on DATE",
            "schedule TEXT on DATE at TIME",
            "schedule TEXT on DATE at TIME for NUMBER UNIT",
            "schedule TEXT on DATE at TIME for DURATION",
        ),
        _build_event,
    ),
    Form(
        "Read https://…",
        "Read https://example.com",
        ("read URL", "read page|article URL", "read the page|article URL"),
        _build_page,
    ),
    Form(
        "GET https://…",
        "GET https://example.com",
        ("METHOD URL", "METHOD from URL"),
        _build_request,
    ),
    Form(
        "POST https://… with {json}",
        'POST https://example.com/items with {"name": "Hello"}',
        ("METHOD URL with JSON", "METHOD URL with body|json JSON", "METHOD JSON to URL"),
        _build_request,
    ),
    Form(
        "wait N seconds",
        "wait 3 seconds",
        (
            "wait|pause|sleep NUMBER UNIT",
            "wait|pause|sleep for NUMBER UNIT",
            "wait|pause|sleep DURATION",
            "wait|pause|sleep for DURATION",
        ),
        _build_pause,
    ),
)
"""All that can be asked, in the order in which help lists it."""


def match_form(tokens: Sequence[Token]) -> tuple[Form, Values] | None:
    """The form that the tokens have, and what stands in its slots."""
    for form, elements in _PATTERNS:
        values = _match(elements, tokens)
        if values is not None:
            return form, values
    return None


def find_nearest(tokens: Sequence[Token]) -> Form | None:
    """The form that the tokens come closest to, if one is close."""
    compared = tokens[:_COMPARED_TOKENS]
    score, form = max(
        ((_score(elements, compared), form) for form, elements in _PATTERNS),
        key=lambda scored: scored[0],
    )
    return form if score >= _NEAR else None


def _match(elements: Sequence[str], tokens: Sequence[Token]) -> Values | None:
    if len(elements) != len(tokens):
        return None
    values: dict[str, Any] = {}
    for element, token in zip(elements, tokens, strict=True):
        if element in _SLOTS:
            value = _SLOTS[element](token)
            if value is None:
                return None
            values[element] = value
        elif not _is_word(token, element):
            return None
    return values


def _is_word(token: Token, element: str) -> bool:
    return token.kind is Kind.WORD and token.text.lower() in element.split("|")


def _score(elements: Sequence[str], tokens: Sequence[Token]) -> float:
    """How much of a pattern the tokens hold, in its order, slips of the finger allowed."""
    found = 0
    at = 0
    for element in elements:
        for place in range(at, len(tokens)):
            if _resembles(tokens[place], element):
                found, at = found + 1, place + 1
                break
    return found / len(elements)


def _resembles(token: Token, element: str) -> bool:
    if element in _SLOTS:
        return _SLOTS[element](token) is not None
    word = token.text.lower()
    if token.kind is not Kind.WORD or len(word) > _COMPARED_CHARS:
        return False
    return bool(difflib.get_close_matches(word, element.split("|"), n=1, cutoff=_ALIKE))


def _read_text(token: Token) -> str | None:
    return token.text if token.kind is Kind.TEXT else None


def _read_channel(token: Token) -> str | None:
    return token.text if token.kind is Kind.WORD and token.text.startswith("#") and len(token.text) > 1 else None


def _read_address(token: Token) -> str | None:
    is_address = token.kind is Kind.WORD and "@" in token.text[1:-1] and "://" not in token.text
    return token.text if is_address else None


def _read_date(token: Token) -> date | None:
    try:
        return date.fromisoformat(token.text) if token.kind is Kind.WORD else None
    except ValueError:
        return None


def _read_time(token: Token) -> time | None:
    try:
        # With a colon, or `12` would be noon to Python and perhaps not to whoever wrote it.
        return time.fromisoformat(token.text) if token.kind is Kind.WORD and ":" in token.text else None
    except ValueError:
        return None


def _read_url(token: Token) -> str | None:
    is_url = token.kind is Kind.URL or (token.kind is Kind.TEXT and "://" in token.text)
    return token.text if is_url else None


def _read_json(token: Token) -> str | None:
    return token.text if token.kind is Kind.JSON else None


def _read_method(token: Token) -> str | None:
    return _METHODS.get(token.text.lower()) if token.kind is Kind.WORD else None


def _read_number(token: Token) -> float | None:
    return _to_number(token.text) if token.kind is Kind.WORD else None


def _read_unit(token: Token) -> float | None:
    return _UNIT_SECONDS.get(token.text.lower()) if token.kind is Kind.WORD else None


def _read_duration(token: Token) -> float | None:
    """Number and unit in one word: ``3s``, ``250ms``."""
    if token.kind is not Kind.WORD:
        return None
    unit = token.text.lstrip("0123456789.")
    number = _to_number(token.text.removesuffix(unit)) if unit else None
    seconds = _UNIT_SECONDS.get(unit.lower())
    return None if number is None or seconds is None else round(number * seconds, 6)


def _to_number(text: str) -> float | None:
    if text.lower() in _ONE:
        return 1.0
    digits = text.replace(".", "", 1)
    is_number = digits.isascii() and digits.isdecimal() and len(text) <= _NUMBER_CHARS
    return float(text) if is_number else None


_SLOTS: Final[Mapping[str, Callable[[Token], Any]]] = {
    "TEXT": _read_text,
    "SUBJECT": _read_text,
    "ADDRESS": _read_address,
    "DATE": _read_date,
    "TIME": _read_time,
    "CHANNEL": _read_channel,
    "URL": _read_url,
    "JSON": _read_json,
    "METHOD": _read_method,
    "NUMBER": _read_number,
    "UNIT": _read_unit,
    "DURATION": _read_duration,
}

_PATTERNS: Final = tuple((form, tuple(pattern.split())) for form in FORMS for pattern in form.patterns)
