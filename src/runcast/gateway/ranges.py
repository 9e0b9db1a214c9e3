"""Ranges and conditions of a download (RFC 9110): which bytes, or none because the client has them."""

import re
from typing import Final, NamedTuple

from starlette.datastructures import Headers

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Span(NamedTuple):
    """The bytes from `start` up to but not including `end`."""

    start: int
    end: int


def is_known(headers: Headers, tag: str) -> bool:
    """Whether the client says that it has what the tag names."""
    known = headers.get("if-none-match", "")
    return known.strip() == "*" or tag in [each.strip().removeprefix("W/") for each in known.split(",")]


def read_span(headers: Headers, *, size: int, tag: str) -> Span | None:
    """The bytes that are asked for: all, unless one range is, and of the very content that is here. None: there are no
    such bytes. What isn't understood, several ranges too, may be answered with everything.
    """
    everything = Span(0, size)
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or headers.get("if-range", tag) != tag:
        return everything
    first, last = found.groups()
    if first and last and int(last) < int(first):
        return everything
    if first:
        span = Span(int(first), min(int(last) + 1, size) if last else size)
    elif last:
        span = Span(max(0, size - int(last)), size)
    else:
        return everything
    return span if span.start < span.end else None
