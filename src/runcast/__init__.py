"""Runcast executes runs and shows them live."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runcast.app import Runcast, RunContext
    from runcast.errors import FatalError, RuncastError

__all__ = ["FatalError", "RunContext", "Runcast", "RuncastError"]
__version__ = "0.1.0"

_HOMES = {"RunContext": "app", "Runcast": "app", "FatalError": "errors", "RuncastError": "errors"}


def __getattr__(name: str) -> Any:
    # Imported when asked for: the command answers `--help` without loading what validates inputs.
    if name in _HOMES:
        from importlib import import_module  # noqa: PLC0415 - see above

        return getattr(import_module(f"runcast.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'runcast' has no attribute {name!r}")
