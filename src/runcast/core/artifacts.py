"""What an artifact may be called, of which type it is, and what it may link to. A name is for people, never a path."""

import mimetypes
import re
import unicodedata
from typing import Final
from urllib.parse import urlsplit

from runcast.errors import InvalidInputError
from runcast.records import is_run_id

MAX_NAME_CHARS: Final = 200
MAX_URL_CHARS: Final = 2_000
UNKNOWN_TYPE: Final = "application/octet-stream"

_WORD: Final = r"[A-Za-z0-9!#$&^_.+-]{1,80}"
_CONTENT_TYPE: Final = re.compile(rf'{_WORD}/{_WORD}(; ?{_WORD}=({_WORD}|"[ -!#-\[\]-~]{{0,80}}")){{0,4}}')
_ENCODINGS: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_KNOWN_TYPES: Final = mimetypes.MimeTypes()  # its own table: what a machine adds to it would differ from the next one's
_CONTROL_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING: Final = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
"""They show a name in another order than it has: `exe.png` for what ends in `.exe`."""


def check_artifact_id(artifact_id: str) -> None:
    """Return if it can be part of a path.

    Raises:
        InvalidInputError: it can't.

    """
    if not is_run_id(artifact_id):
        raise InvalidInputError("an artifact's id has 1 to 64 letters, digits, - and _", field="artifactId")


def check_name(name: str) -> None:
    """Return if a file may be saved under this name.

    Raises:
        InvalidInputError: it is empty, too long, or has what means something to a file system or hides what it is.

    """
    if not 1 <= len(name) <= MAX_NAME_CHARS:
        raise InvalidInputError(f"an artifact's name has 1 to {MAX_NAME_CHARS} characters", field="name")
    if name != name.strip() or name in {".", ".."} or "/" in name or "\\" in name:
        raise InvalidInputError(f"{name!r} is no name of a file: no / and \\, no space at its ends", field="name")
    if any(_is_hidden(character) for character in name):
        raise InvalidInputError(f"{name!r} has characters that can't be seen", field="name")


def check_link(url: str) -> None:
    """Return if the address can be shown as a link.

    Raises:
        InvalidInputError: it isn't one of the web, or too long.

    """
    is_plain = len(url) <= MAX_URL_CHARS and all("!" <= character <= "~" for character in url)
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_web = False
    if not is_plain or not is_web:
        raise InvalidInputError(
            f"a link is an http:// or https:// address of up to {MAX_URL_CHARS} ASCII characters", field="url"
        )


def choose_content_type(name: str, given: str | None) -> str:
    """The type that is given, else what the name's ending says. Text without a word on it is UTF-8.

    Raises:
        InvalidInputError: what is given is no content type.

    """
    if given is not None:
        if _CONTENT_TYPE.fullmatch(given) is None:
            raise InvalidInputError(f"{given[:100]!r} is no content type such as text/csv", field="contentType")
        return given
    guessed, encoding = _KNOWN_TYPES.guess_type(f"/{name}")  # as a path: else what looks like a URL is read as one
    if encoding is not None:
        return _ENCODINGS.get(encoding, UNKNOWN_TYPE)
    if guessed is None:
        return UNKNOWN_TYPE
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _CONTROL_CATEGORIES or unicodedata.bidirectional(character) in _TURNING
