"""What users import: `Runcast`, the registry of runners, and what goes with it.

app = Runcast()

@app.runner
async def greet(run: RunContext, name: str) -> dict[str, str]:
text = await run.step("compose", compose, name)
return {"text": text}
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, overload

from runcast.context import Approval, ChildRun, RunContext
from runcast.errors import ConfigurationError, RunnerNotFoundError
from runcast.runners import PROMPT_RUNNER, UNDO_RUNNER, Limit, Runner, RunnerFunction, RunnerOptions
from runcast.steps import StepOptions, describe_error, set_options
from runcast.threads import SyncRunContext
from runcast.tools import ToolRegistry

__all__ = [
    "PROMPT_RUNNER",
    "UNDO_RUNNER",
    "Approval",
    "ChildRun",
    "Limit",
    "RunContext",
    "Runcast",
    "Runner",
    "SyncRunContext",
    "describe_error",
    "load_app",
]

F = TypeVar("F", bound=RunnerFunction)


class Runcast:
    """An application: a set of runners. The built-in prompt runner is offered beside them."""

    def __init__(self) -> None:
        self._runners: Final[dict[str, Runner]] = {}
        self.tools: Final = ToolRegistry()  # what a model may call in the prompt runner
        self.tool: Final = self.tools.register  # `@app.tool(risk="read")`

    @property
    def runners(self) -> Mapping[str, Runner]:
        """The runners by name."""
        return self._runners

    def get_runner(self, name: str) -> Runner:
        """One runner.

        Raises:
            RunnerNotFoundError: none has this name.

        """
        try:
            return self._runners[name]
        except KeyError:
            raise RunnerNotFoundError(name, list(self._runners)) from None

    @overload
    def runner(self, function: F, /) -> F: ...
    @overload
    def runner(
        self,
        function: None = None,
        /,
        *,
        name: str | None = None,
        retries: int = 0,
        timeout_seconds: float | None = None,
        cron: str | None = None,
        timezone: str = "UTC",
        limit: Limit | None = None,
    ) -> Callable[[F], F]: ...

    def runner(self, function: F | None = None, /, *, name: str | None = None, **options: Any) -> F | Callable[[F], F]:
        """Register a function as a runner, under its own name or another. A plain function runs in a thread.

        A run that raises is tried again `retries` times, with growing waits, unless it raises a `FatalError`. An
        attempt may work for `timeout_seconds`. With `cron` a run is created at each of its times, with the input's
        defaults. `limit` bounds how many runs are under way at once.
        """
        if function is not None:
            return self._register(function, function.__name__, RunnerOptions())

        def register(decorated: F) -> F:
            return self._register(decorated, name or decorated.__name__, RunnerOptions(**options))

        return register

    def step(
        self,
        *,
        retries: int = 0,
        timeout_seconds: float | None = None,
        wait_seconds: float = 1.0,
        longest_wait_seconds: float = 60.0,
        undo: Callable[..., Any] | None = None,
    ) -> Callable[[F], F]:
        """Say how a function is called wherever it is a step.

        It is tried again `retries` times, after waits that double from `wait_seconds` and are spread; each try may
        take `timeout_seconds`. `undo` is a function at the top of a module that takes what the step gave.
        """

        def register(function: F) -> F:
            set_options(function, StepOptions(retries, timeout_seconds, wait_seconds, longest_wait_seconds, undo))
            return function

        return register

    def _register(self, function: F, name: str, options: RunnerOptions) -> F:
        if not callable(function):
            raise ConfigurationError(f"runner {name!r} must be a function")
        if name in self._runners:
            raise ConfigurationError(f"two runners are called {name!r}; give one @app.runner(name=…)")
        self._runners[name] = Runner(name, function, options)
        return function


def load_app(reference: str) -> Runcast:
    """The application that `module:attribute` or `path/to/file.py[:attribute]` names; the attribute defaults to `app`.

    Raises:
        ConfigurationError: it can't be imported or isn't a `Runcast`.

    """
    place, _, attribute = reference.partition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    app = getattr(module, attribute or "app", None)
    if not isinstance(app, Runcast):
        raise ConfigurationError(f"{reference}: {attribute or 'app'} is not a Runcast application")
    return app


def _load_file(path: Path) -> object:
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # pickling and type hints look modules up there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigurationError(f"{path}: {type(error).__name__}: {error}") from error
    return module


def _load_module(name: str) -> object:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise ConfigurationError(f"{name}: {type(error).__name__}: {error}") from error
