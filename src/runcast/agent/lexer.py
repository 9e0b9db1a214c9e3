"""From a prompt to clauses of tokens. Pure; one pass, so its time grows with the prompt's length only.

What stands between quotes, in JSON or in a URL is one token and is never cut; separators are looked for outside only.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from runcast.errors import PromptNotUnderstoodError

# Ambiguous to the linter (RUF001); telling such quotes apart is this module's work.
_LEFT_SINGLE: Final = "‘"  # noqa: RUF001
_RIGHT_SINGLE: Final = "’"  # noqa: RUF001

QUOTES: Final[Mapping[str, str]] = {"'": "'", '"': '"', "“": "”", _LEFT_SINGLE: _RIGHT_SINGLE, "«": "»"}
"""Every quote that opens a text, and the one that closes it."""

SEPARATORS: Final = frozenset({"then", "and"})
_BREAKS: Final = frozenset("\n;")
_IGNORED: Final = frozenset({"please"})
_BULLETS: Final = frozenset({"-", "*", "•"})
_APOSTROPHES: Final = frozenset({"'", _RIGHT_SINGLE})
_TRAILING: Final = ".,;:!?"
_SENTENCE_ENDS: Final = frozenset(".;!?")
_EXCERPT_CHARS: Final = 80


class Kind(enum.Enum):
    """What a token is."""

    WORD = enum.auto()
    TEXT = enum.auto()  # what stood between quotes, without them
    URL = enum.auto()
    JSON = enum.auto()
    SEPARATOR = enum.auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the prompt, and where it stands there."""

    kind: Kind
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Clause:
    """What lies between two separators. `source` is as it was typed."""

    tokens: tuple[Token, ...]
    source: str


def read_clauses(prompt: str) -> list[Clause]:
    """The prompt's clauses that say something, in order.

    Raises:
        PromptNotUnderstoodError: a quote or a bracket is never closed.

    """
    clauses: list[Clause] = []
    pending: list[Token] = []
    for token in (*read_tokens(prompt), Token(Kind.SEPARATOR, "", len(prompt), len(prompt))):
        if token.kind is not Kind.SEPARATOR:
            pending.append(token)
        elif pending:
            clauses.append(Clause(tuple(pending), prompt[pending[0].start : pending[-1].end]))
            pending = []
    return clauses


def read_tokens(prompt: str) -> Iterator[Token]:
    """The prompt's tokens, separators included."""
    at = 0
    is_first = True  # whether a clause begins here, where a bullet or a number is only decoration
    while at < len(prompt):
        tokens, at = _read(prompt, at, is_first=is_first)
        for token in tokens:
            is_first = token.kind is Kind.SEPARATOR
            yield token


def excerpt(text: str) -> str:
    """A piece of foreign text, fit to stand in a message."""
    line = " ".join(text[: _EXCERPT_CHARS * 2].encode(errors="replace").decode().split())
    return line if len(line) <= _EXCERPT_CHARS else f"{line[: _EXCERPT_CHARS - 1]}…"


def _read(prompt: str, at: int, *, is_first: bool) -> tuple[list[Token], int]:
    """What begins at `at`, and where to go on."""
    char = prompt[at]
    if char in _BREAKS:
        return [Token(Kind.SEPARATOR, char, at, at + 1)], at + 1
    if char.isspace():
        return [], at + 1
    if char in QUOTES:
        return _read_quoted(prompt, at)
    if char in "{[":
        return _read_json(prompt, at)
    return _read_bare(prompt, at, is_first=is_first)


def _read_quoted(prompt: str, start: int) -> tuple[list[Token], int]:
    closer = QUOTES[prompt[start]]
    kept: list[str] = []
    at = start + 1
    while at < len(prompt):
        char = prompt[at]
        if char == "\\" and prompt[at + 1 : at + 2] in (closer, "\\"):
            kept.append(prompt[at + 1])
            at += 2
        elif char == closer and not _is_apostrophe(prompt, at):
            return [Token(Kind.TEXT, "".join(kept), start, at + 1)], at + 1
        else:
            kept.append(char)
            at += 1
    opened = excerpt(prompt[start:])
    raise PromptNotUnderstoodError(f"a quote is never closed: {opened}; add {closer} at its end. Nothing was executed.")


def _is_apostrophe(prompt: str, at: int) -> bool:
    """Whether a quote that could close stands inside a word, as in ``it's``."""
    return prompt[at] in _APOSTROPHES and prompt[at - 1].isalnum() and prompt[at + 1 : at + 2].isalnum()


def _read_json(prompt: str, start: int) -> tuple[list[Token], int]:
    depth = 0
    in_string = False
    at = start
    while at < len(prompt):
        char = prompt[at]
        if in_string:
            at += char == "\\"  # whatever is escaped can't end the string
            in_string = char != '"'
        elif char == '"':
            in_string = True
        elif char in "{[":
            depth += 1
        elif char in "}]":
            depth -= 1
        at += 1
        if depth == 0:
            return [Token(Kind.JSON, prompt[start:at], start, at)], at
    opened = excerpt(prompt[start:])
    raise PromptNotUnderstoodError(f"JSON is never closed: {opened}. Nothing was executed.")


def _read_bare(prompt: str, start: int, *, is_first: bool) -> tuple[list[Token], int]:
    end = _find_end(prompt, start)
    raw = prompt[start:end]
    if is_first and (raw in _BULLETS or (raw[-1] in ".)" and raw[:-1].isdecimal())):
        return [], end
    is_url = "://" in raw
    text = raw.rstrip(_TRAILING)
    tokens: list[Token] = []
    if text.lower() in SEPARATORS:
        tokens.append(Token(Kind.SEPARATOR, text, start, end))
    elif text and text.lower() not in _IGNORED:
        tokens.append(Token(Kind.URL if is_url else Kind.WORD, text, start, start + len(text)))
    if _SENTENCE_ENDS & set(raw[len(text) :]):
        tokens.append(Token(Kind.SEPARATOR, raw[len(text) :], start + len(text), end))
    return tokens, end


def _find_end(prompt: str, start: int) -> int:
    """Where a word or URL ends: at white space, and a word also before a break, a quote or JSON."""
    end = start + 1
    scheme_at = -1
    while end < len(prompt) and not prompt[end].isspace():
        if scheme_at < 0 and prompt.startswith("://", end):
            scheme_at = end
        if scheme_at < 0 and _ends_word(prompt, end):
            break
        end += 1
    return end


def _ends_word(prompt: str, at: int) -> bool:
    char = prompt[at]
    if char in QUOTES:
        return char not in ("'", _LEFT_SINGLE) or not prompt[at - 1].isalnum()
    return char in "{[" or char in _BREAKS
