"""A runner: a registered function, the input it takes, read from its signature, and how it is to be executed."""

import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, Union, get_args, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pydantic
from croniter import croniter

from runcast.context import RunContext
from runcast.errors import ConfigurationError, InvalidInputError
from runcast.records import RunLimit
from runcast.signatures import make_input_model
from runcast.threads import SyncRunContext

RunnerFunction = Callable[..., Any]
LimitKey = Callable[[Mapping[str, Any]], str]
OnFull = Literal["queue", "reject", "cancel_older"]

PROMPT_RUNNER: Final = "prompt"
"""The name of the built-in runner that takes a prompt."""

UNDO_RUNNER: Final = "undo"
"""The name of the built-in runner that undoes another run's steps."""

BUILT_IN: Final = frozenset({PROMPT_RUNNER, UNDO_RUNNER})


class Limit(NamedTuple):
    """How many runs of a runner may be under way at once, in all or for each value of a key.

    `key` is the name of an input, or a function of the whole input. `on_full` says what becomes of one more: it waits
    in the queue, is turned down (HTTP 409), or takes the place of the older ones, which are canceled.
    """

    most: int
    key: str | LimitKey | None = None
    on_full: OnFull = "queue"


class RunnerOptions(NamedTuple):
    """How a runner is executed. Times are in seconds."""

    retries: int = 0  # how often a run that raised is tried again
    timeout_seconds: float | None = None  # how long an attempt may work; waiting isn't working
    cron: str | None = None
    timezone: str = "UTC"
    limit: Limit | None = None

    def check(self, name: str) -> None:
        """Raise `ConfigurationError` if a value can't work."""
        if self.retries < 0:
            raise ConfigurationError(f"runner {name!r}: retries={self.retries}; give 0 or more")
        if self.timeout_seconds is not None and self.timeout_seconds <= 0:
            raise ConfigurationError(f"runner {name!r}: timeout_seconds={self.timeout_seconds}; give more than 0")
        if self.cron is not None:
            self._check_times(name, self.cron)
        if self.limit is not None and self.limit.most < 1:
            raise ConfigurationError(f"runner {name!r}: Limit(most={self.limit.most}); give 1 or more")
        if self.limit is not None and self.limit.on_full not in get_args(OnFull):
            choices = ", ".join(get_args(OnFull))
            raise ConfigurationError(f"runner {name!r}: Limit(on_full={self.limit.on_full!r}); use one of {choices}")

    def _check_times(self, name: str, cron: str) -> None:
        if not croniter.is_valid(cron):
            raise ConfigurationError(f"runner {name!r}: cron={cron!r} can't be read; every day at nine is '0 9 * * *'")
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ConfigurationError(f"runner {name!r}: there is no time zone {self.timezone!r}") from None


class Runner:
    """See the module. Calling it executes the function with an input."""

    def __init__(self, name: str, function: RunnerFunction, options: RunnerOptions | None = None) -> None:
        self.name: Final = name
        self.description: Final = (inspect.getdoc(function) or "").partition("\n\n")[0]
        self.is_async: Final = inspect.iscoroutinefunction(function)
        self.options: Final = options or RunnerOptions()
        self._function: Final = function
        self._model: Final = _input_model(name, function)
        self.options.check(name)
        self._check_limit_key()
        self._check_scheduled_input()

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the input."""
        return self._model.model_json_schema()

    @property
    def on_full(self) -> str:
        """What becomes of a run that is one too many."""
        return self.options.limit.on_full if self.options.limit else "queue"

    def limit_for(self, value: Mapping[str, Any]) -> RunLimit | None:
        """The limit that a run with this input, already checked, is under.

        Raises:
            InvalidInputError: the key can't be found in the input.

        """
        limit = self.options.limit
        if limit is None:
            return None
        if limit.key is None:
            return RunLimit(self.name, limit.most)
        try:
            key = limit.key(value) if callable(limit.key) else value[limit.key]
        except Exception as error:  # noqa: BLE001 - it is the application's function
            raise InvalidInputError(
                f"the key of its limit can't be made of the input: {error!r}", field="input"
            ) from None
        return RunLimit(f"{self.name}:{key}"[:200], limit.most)

    def validate(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """The input as JSON values, defaults filled in.

        Raises:
            InvalidInputError: it doesn't fit the signature; `field` names the first place.

        """
        return self._read(value).model_dump(mode="json")

    def __call__(self, run: Any, value: Mapping[str, Any]) -> Any:
        """Call the function with an input: its result, or what is to be awaited for it."""
        model = self._read(value)
        arguments = {name: getattr(model, name) for name in type(model).model_fields}
        return self._function(run, **arguments)

    def _check_limit_key(self) -> None:
        limit = self.options.limit
        if limit is not None and isinstance(limit.key, str) and limit.key not in self._model.model_fields:
            raise ConfigurationError(f"runner {self.name!r}: its limit's key {limit.key!r} is none of its inputs")

    def _check_scheduled_input(self) -> None:
        if self.options.cron is not None:
            missing = [key for key, field in self._model.model_fields.items() if field.is_required()]
            if missing:
                raise ConfigurationError(
                    f"runner {self.name!r} runs by a schedule: give {', '.join(missing)} a default"
                )

    def _read(self, value: Mapping[str, Any]) -> pydantic.BaseModel:
        try:
            return self._model.model_validate(value)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            place = ".".join(("input", *map(str, first["loc"])))
            raise InvalidInputError(f"{place}: {first['msg']}", field=place) from None


def _input_model(name: str, function: RunnerFunction) -> type[pydantic.BaseModel]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"runner {name!r} yields: a runner returns its result; what comes bit by bit goes through `run.message()`"
        )
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    if not parameters:
        raise ConfigurationError(f"runner {name!r} must take the run as its first argument")
    _check_run(name, function, parameters[0])
    return make_input_model(f"runner {name!r}", name, parameters[1:])


def _check_run(name: str, function: RunnerFunction, first: inspect.Parameter) -> None:
    """Raise `ConfigurationError` if the first argument can't be the run that the function will get."""
    is_async = inspect.iscoroutinefunction(function)
    right, wrong = (RunContext, SyncRunContext) if is_async else (SyncRunContext, RunContext)
    is_positional = first.kind not in (first.KEYWORD_ONLY, first.VAR_KEYWORD)
    if is_positional and _may_be(first.annotation, right):
        return
    if is_positional and _may_be(first.annotation, wrong):
        kind = "an async function" if is_async else "a plain function, which runs in a thread"
        raise ConfigurationError(
            f"runner {name!r} is {kind}: write `{first.name}: {right.__name__}`"
            + (", or make it a plain function" if is_async else ", or make it (and what decorates it) `async def`")
        )
    begin = "async def" if is_async else "def"
    raise ConfigurationError(
        f"runner {name!r} must take the run as its first argument, and its first is `{first}`:"
        f" write `{begin} {getattr(function, '__name__', name)}(run: {right.__name__}, …)`"
    )


def _may_be(annotation: Any, context: type) -> bool:
    """Whether what is annotated so may be such a context. What can't be told may."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _may_be(get_args(annotation)[0], context)
    if origin in (Union, UnionType):
        return any(_may_be(each, context) for each in get_args(annotation))
    kind = annotation if origin is None else origin
    if annotation in (inspect.Parameter.empty, Any) or getattr(kind, "_is_protocol", False):
        return True
    if isinstance(kind, type):
        return issubclass(context, kind) or issubclass(kind, context)
    return kind is not None and kind is not Literal
