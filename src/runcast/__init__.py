"""Runcast executes runs and shows them live."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runcast.app import Limit, Runcast, RunContext, SyncRunContext
    from runcast.errors import ChildFailedError, FatalError, RunCanceledError, RuncastError

__all__ = [
    "ChildFailedError",
    "FatalError",
    "Limit",
    "RunCanceledError",
    "RunContext",
    "Runcast",
    "RuncastError",
    "SyncRunContext",
]
__version__ = "0.1.0"

_HOMES = {name: "errors" if name.endswith("Error") else "app" for name in __all__}


def __getattr__(name: str) -> Any:
    # Imported when asked for: the command answers `--help` without loading what validates inputs.
    if name in _HOMES:
        from importlib import import_module  # noqa: PLC0415 - see above

        return getattr(import_module(f"runcast.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'runcast' has no attribute {name!r}")
