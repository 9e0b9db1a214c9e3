"""Logs: one line per fact on stderr, for people (key=value) or for programs (JSON).

For processes of the command, where `runcast.logs` is what Runcast logs with; the standard library's loggers (uvicorn,
SQLAlchemy, Alembic) come out in the same shape. Logging never raises: a line that can't be shown is shown less well, a
stream that is gone is left alone. Values that are secrets are masked by name, passwords in URLs by shape.
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SECRET_NAME: Final = re.compile(
    r"(^|_)(api_?key|authorization|cookie|credentials?|password|passwd|secret|token|webhook(_url)?)$", re.IGNORECASE
)
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^\s:/@]*):[^\s/@]+(?=@)")
_MASK: Final = "***"
_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31;1"}
_MAX_VALUE_CHARS: Final = 2_000
"""A longer value is cut: a log line is for reading, the run's own log has the rest."""


def configure_logging(*, level: str, format: str, stream: TextIO | None = None) -> None:  # noqa: A002  # the setting's word
    """Set up logging for the process. `format` is `text`, `json`, or `auto`: text on a terminal, else JSON."""
    stream = stream or sys.stderr
    line = _Line(stream)
    is_terminal = stream.isatty()
    is_text = format == "text" or (format == "auto" and is_terminal)
    render = _TextRenderer(is_coloured=is_terminal) if is_text else _JsonRenderer(is_ascii=not _is_unicode(stream))
    shared = [structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _add_time, _mask_secrets]
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, _never_raising(render)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: line,
        cache_logger_on_first_use=False,  # loggers are made at import, before this is called
    )
    _route_standard_logging(line, render, level=_LEVELS[level])


class _Line:
    """Writes each line with one call, so that lines of several processes on one terminal don't mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without emoji gets their names instead

    def msg(self, message: str) -> None:
        try:
            self._stream.write(message + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass  # the terminal is gone; there is nowhere left to say so

    debug = info = warning = error = critical = msg


class _TextRenderer:
    """`12:34:56.789 info    🔗 WebSocket connected run_id=…`, coloured on a terminal."""

    def __init__(self, *, is_coloured: bool) -> None:
        self._is_coloured: Final = is_coloured

    def __call__(self, _logger: WrappedLogger, _name: str, fields: EventDict) -> str:
        level = str(fields.pop("level", "info"))
        event, exception = _plain(fields.pop("event", "")), fields.pop("exception", None)
        clock = str(fields.pop("ts", ""))[11:23]
        parts = [self._paint("2", clock), self._paint(_COLOURS.get(level, "0"), f"{level:<7}"), event]
        parts += [f"{self._paint('36', name)}={_quote(value)}" for name, value in fields.items()]
        return " ".join(parts) + (f"\n{exception}" if exception else "")

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._is_coloured else text


class _JsonRenderer:
    """One object per line: `ts`, `level`, `event`, then whatever comes with it."""

    def __init__(self, *, is_ascii: bool) -> None:
        self._is_ascii: Final = is_ascii

    def __call__(self, _logger: WrappedLogger, _name: str, fields: EventDict) -> str:
        ordered = {"ts": fields.pop("ts", None), "level": fields.pop("level", "info"), "event": fields.pop("event", "")}
        return json.dumps({**ordered, **fields}, default=str, ensure_ascii=self._is_ascii)


def _is_unicode(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "").startswith("utf8")


def _plain(value: object) -> str:
    """The value as text that can't move the cursor or forge a line."""
    text = str(value)
    if len(text) > _MAX_VALUE_CHARS:
        text = f"{text[:_MAX_VALUE_CHARS]}… ({len(text)} characters)"
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _quote(value: object) -> str:
    text = _plain(value)
    return text if text and not set(text) & set(" =\"'") else json.dumps(text, ensure_ascii=False)


def _add_time(_logger: WrappedLogger, _name: str, fields: EventDict) -> EventDict:
    fields["ts"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return fields


def _mask_secrets(_logger: WrappedLogger, _name: str, fields: EventDict) -> EventDict:
    return {name: _mask(name, value) for name, value in fields.items()}


def _mask(name: str, value: Any) -> Any:
    if _SECRET_NAME.search(name):
        return _MASK
    if isinstance(value, Mapping):
        return {key: _mask(str(key), inner) for key, inner in value.items()}
    return _URL_PASSWORD.sub(rf"\1:{_MASK}", value) if isinstance(value, str) else value


Render = Callable[[WrappedLogger, str, EventDict], str]


def _never_raising(render: Render) -> Render:
    def guarded(logger: WrappedLogger, name: str, fields: EventDict) -> str:
        try:
            return render(logger, name, dict(fields))
        except Exception as error:  # noqa: BLE001  # a value with a broken __str__ must not fail a run
            return f'{{"level":"error","event":"a log line could not be shown","reason":"{type(error).__name__}"}}'

    return guarded


def _route_standard_logging(line: _Line, render: Render, *, level: int) -> None:
    handler = _StandardHandler(line, _never_raising(render))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Others' info is noise here, and httpx would log addresses that are secrets (Slack's webhooks).
    root.setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.raiseExceptions = False


class _StandardHandler(logging.Handler):
    """Gives the standard library's records the same shape."""

    def __init__(self, line: _Line, render: Render) -> None:
        super().__init__()
        self._line: Final = line
        self._render: Final = render

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001  # arguments that don't fit the message
            message = str(record.msg)
        fields: EventDict = {"event": message, "level": record.levelname.lower(), "logger": record.name}
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        fields = _mask_secrets(None, "", fields)
        self._line.msg(self._render(None, "", _add_time(None, "", fields)))
