"""The registry: the runners of an application, and how its steps and tools are called.

It knows nothing of servers, so whatever executes and offers runs may know it. What users make is `app.Runcast`.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, overload

from runcast.errors import ConfigurationError, RunnerNotFoundError
from runcast.runners import Limit, Runner, RunnerFunction, RunnerOptions
from runcast.steps import StepOptions, set_options
from runcast.tools import ToolRegistry

F = TypeVar("F", bound=RunnerFunction)


class RunnerRegistry:
    """A set of runners. The built-in ones are offered beside them."""

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
