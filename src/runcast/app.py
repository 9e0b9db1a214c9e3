"""What users import: `Runcast` registers runners, `RunContext` is a runner's hand on its run.

    app = Runcast()

    @app.runner
    async def greet(run: RunContext, name: str) -> dict[str, str]:
        text = await run.step("compose", compose, name)
        return {"text": text}

Neither does any I/O: what a runner says goes to the run's journal, which the worker provides.
"""

import asyncio
import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, overload

import pydantic

from runcast.errors import ConfigurationError, InvalidInputError, RunnerNotFoundError
from runcast.events import RESERVED_EVENT_TYPES, EventType
from runcast.records import RunError

RunnerFunction = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=RunnerFunction)
T = TypeVar("T")

PROMPT_RUNNER: Final = "prompt"
"""The name of the built-in runner that takes a prompt."""

_current_step: ContextVar[str | None] = ContextVar("runcast_step", default=None)
"""The step that the present task is in. A thread that a step runs in has a copy."""

_EMITTABLE: Final[Mapping[str, EventType]] = {
    event_type.value: event_type for event_type in EventType if event_type not in RESERVED_EVENT_TYPES
}


class Journal(Protocol):
    """Where a run's events go: numbered in the order of the calls, kept and published in that order."""

    def write(self, event_type: EventType, payload: Mapping[str, Any], *, step_id: str | None = None) -> None:
        """Add an event and return at once."""
        ...

    async def start_step(self, name: str, input: Any) -> str:  # noqa: A002
        """Begin a step and return its id."""
        ...

    async def succeed_step(self, step_id: str, output: Any) -> None:
        """End a step; on return its output is committed."""
        ...

    async def fail_step(self, step_id: str, error: RunError) -> None:
        """End a step that raised; on return that is committed."""
        ...

    def cancel_step(self, step_id: str) -> None:
        """End a step that was cut short; never waits, and does nothing if nothing can be written any more."""
        ...


class RunContext:
    """A runner's hand on its run. One per attempt; not to be used after the runner has returned."""

    def __init__(self, *, run_id: str, attempt: int, journal: Journal) -> None:
        self.id: Final = run_id
        self.attempt: Final = attempt  # 1 for the first try
        self._journal: Final = journal

    def emit(self, event_type: str, payload: Mapping[str, Any], *, step_id: str | None = None) -> None:
        """Tell watchers something; never waits. Inside a step the event belongs to it, unless another is named.

        Raises:
            InvalidInputError: the type isn't one that runners emit, or the payload isn't JSON.
            TooLargeError: the event passes `max_event_bytes`.

        """
        # Fast path: every token passes here, so its type is looked up once.
        known_type = _EMITTABLE.get(event_type)
        if known_type is None:
            known = ", ".join(sorted(_EMITTABLE))
            raise InvalidInputError(f"a runner can't emit {event_type!r}; use one of {known}", field="type")
        self._journal.write(known_type, payload, step_id=step_id or _current_step.get())

    async def step(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call `function(*args, **kwargs)` as a named step and return its result, which must be JSON.

        A plain function runs in a thread. What it raises ends the step as failed and comes out here. Watchers are
        shown the arguments, if they are JSON.
        """
        step_id = await self._journal.start_step(name, _arguments(function, args, kwargs))
        outer = _current_step.set(step_id)
        try:
            output = await _call(function, args, kwargs)
            await self._journal.succeed_step(step_id, output)
        except asyncio.CancelledError:
            self._journal.cancel_step(step_id)
            raise
        except Exception as error:
            await self._journal.fail_step(step_id, describe_error(error))
            raise
        finally:
            _current_step.reset(outer)
        return output


class Runner:
    """A registered function and the input it takes, read from its signature."""

    def __init__(self, name: str, function: RunnerFunction) -> None:
        self.name: Final = name
        self.description: Final = (inspect.getdoc(function) or "").partition("\n\n")[0]
        self._function: Final = function
        self._model: Final = _input_model(name, function)

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the input."""
        return self._model.model_json_schema()

    def validate(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """The input as JSON values, defaults filled in.

        Raises:
            InvalidInputError: it doesn't fit the signature; `field` names the first place.

        """
        return self._read(value).model_dump(mode="json")

    async def __call__(self, run: RunContext, value: Mapping[str, Any]) -> Any:
        """Execute the runner with an input."""
        model = self._read(value)
        arguments = {name: getattr(model, name) for name in type(model).model_fields}
        return await self._function(run, **arguments)

    def _read(self, value: Mapping[str, Any]) -> pydantic.BaseModel:
        try:
            return self._model.model_validate(value)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(("input", *map(str, first["loc"])))
            raise InvalidInputError(f"{place}: {first['msg']}", field=place) from None


class Runcast:
    """An application: a set of runners. The built-in prompt runner is offered beside them."""

    def __init__(self) -> None:
        self._runners: Final[dict[str, Runner]] = {}

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
    def runner(self, function: None = None, /, *, name: str | None = None) -> Callable[[F], F]: ...

    def runner(self, function: F | None = None, /, *, name: str | None = None) -> F | Callable[[F], F]:
        """Register an async function as a runner, under its own name or another."""
        if function is not None:
            return self._register(function, function.__name__)

        def register(decorated: F) -> F:
            return self._register(decorated, name or decorated.__name__)

        return register

    def _register(self, function: F, name: str) -> F:
        if not _is_async(function):
            raise ConfigurationError(f"runner {name!r} must be an async function")
        if name in self._runners:
            raise ConfigurationError(f"two runners are called {name!r}; give one @app.runner(name=…)")
        self._runners[name] = Runner(name, function)
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


def describe_error(error: BaseException) -> RunError:
    """What watchers are told of an exception: our own code for our errors, the class name for others."""
    code = getattr(error, "code", None)
    message = str(error) or type(error).__name__
    return RunError(code=code if isinstance(code, str) else type(error).__name__, message=message[:2_000])


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


def _input_model(name: str, function: RunnerFunction) -> type[pydantic.BaseModel]:
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    if not parameters:
        raise ConfigurationError(f"runner {name!r} must take the run as its first argument")
    fields: dict[str, Any] = {}
    for parameter in parameters[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigurationError(f"runner {name!r}: {parameter} can't come from JSON; name each argument")
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields[parameter.name] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    return pydantic.create_model(f"{name}_input", __config__=config, **fields)


def _arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A call's arguments by name where the function tells its names, else in order."""
    if not args and not kwargs:
        return None
    try:
        signature = inspect.signature(function)
        arguments = dict(signature.bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {"args": args, **kwargs}
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:  # it holds names of its own
            arguments.update(arguments.pop(parameter.name, {}))
    return arguments


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function)


async def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if _is_async(function):
        return await function(*args, **kwargs)
    result = await asyncio.to_thread(functools.partial(function, *args, **kwargs))
    return await result if inspect.isawaitable(result) else result
