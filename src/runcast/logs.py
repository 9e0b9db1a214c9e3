"""The loggers of Runcast: `log = get_logger()` in each module that has something to say.

They follow whoever has configured structlog, the command or a host, in everything. Where nobody has, as in an
application that Runcast is embedded in or in its tests, they leave out what is below `set_level`: structlog's own
default would show every line.

Never: configures structlog or the standard library's logging. Others' loggers are not ours to change.
"""

from typing import Any, Final

import structlog

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_wrappers: Final[list[Any]] = [structlog.make_filtering_bound_logger(_LEVELS["info"])]


def get_logger() -> Any:
    """A logger for a module."""
    return structlog.wrap_logger(None, wrapper_class=_wrap)  # type: ignore[arg-type]  # called like a class


def set_level(level: str) -> None:
    """Leave out lines below this level where nobody has configured structlog. The last word holds for the process."""
    _wrappers[:] = [structlog.make_filtering_bound_logger(_LEVELS[level])]


def _wrap(logger: Any, **options: Any) -> Any:
    wrapper = structlog.get_config()["wrapper_class"] if structlog.is_configured() else _wrappers[-1]
    return wrapper(logger, **options)
