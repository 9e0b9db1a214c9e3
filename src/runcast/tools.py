"""Tools: what the model of the prompt runner may call. One registry holds the built-in ones and an application's own.

    @app.tool(risk="read")
    def find_customer(email: str) -> dict[str, str]:
        "Find a customer by e-mail."

What a tool takes is read from its signature, what it is for from its docstring. A call is checked before it is made.
"""

import asyncio
import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, Protocol, TypeVar, overload

import pydantic

from runcast.errors import ConfigurationError, InvalidInputError, RuncastError, ToolError
from runcast.signatures import make_input_model

F = TypeVar("F", bound=Callable[..., Any])

RiskName = Literal["none", "read", "write", "publish"]

Report = Callable[[float, float, str], None]
"""Tells watchers how far a call is: value, total, a few words."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what model providers take
_MESSAGE_CHARS: Final = 1_000


class Risk(StrEnum):
    """What a call can do to the world outside."""

    NONE = "none"  # nothing leaves this process
    READ = "read"  # others are asked; nothing of theirs changes
    WRITE = "write"  # something changes; doing it twice is the same as doing it once
    PUBLISH = "publish"  # something new comes to be, or is seen by people: never to be done twice

    @property
    def is_high(self) -> bool:
        """Whether people are asked before a model's call is made."""
        return self in (Risk.WRITE, Risk.PUBLISH)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call, checked and not made yet."""

    tool: str
    step_name: str  # what people read in the timeline
    input: Mapping[str, Any]  # as events tell it
    risk: Risk
    make: Callable[[Report], Awaitable[Any]]  # gives JSON, or raises


class OfferedTool(Protocol):
    """What a model is offered."""

    @property
    def name(self) -> str:
        """What the model calls it: letters, digits, `_` and `-`."""
        ...

    @property
    def description(self) -> str:
        """What it is for, in words for the model."""
        ...

    @property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of its input, an object."""
        ...

    def prepare(self, arguments: Mapping[str, Any]) -> ToolCall:
        """Check a call's input.

        Raises:
            InvalidInputError: it doesn't fit; `field` names the first place.

        """
        ...


class ToolRegistry(Mapping[str, OfferedTool]):
    """The tools by name. Calling `register` is what `@app.tool` does."""

    def __init__(self) -> None:
        self._tools: Final[dict[str, OfferedTool]] = {}

    def __getitem__(self, name: str) -> OfferedTool:
        return self._tools[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tools)

    def __len__(self) -> int:
        return len(self._tools)

    def add(self, tool: OfferedTool) -> None:
        """Offer a tool.

        Raises:
            ConfigurationError: its name can't be one, or another tool has it.

        """
        if not _NAME.fullmatch(tool.name):
            raise ConfigurationError(f"tool {tool.name!r}: a name has 1 to 64 letters, digits, _ and -")
        if tool.name in self._tools:
            raise ConfigurationError(f"two tools are called {tool.name!r}; give one @app.tool(name=…)")
        self._tools[tool.name] = tool

    @overload
    def register(self, function: F, /) -> F: ...
    @overload
    def register(
        self, function: None = None, /, *, risk: RiskName = "write", name: str | None = None
    ) -> Callable[[F], F]: ...

    def register(
        self, function: F | None = None, /, *, risk: RiskName = "write", name: str | None = None
    ) -> F | Callable[[F], F]:
        """Offer a function, async or plain, under its own name or another.

        `risk` says what a call can do: `none`, `read`, `write` or `publish`. Before the last two people are asked.
        """

        def register(decorated: F) -> F:
            self.add(FunctionTool(name or decorated.__name__, decorated, risk=_read_risk(risk)))
            return decorated

        return register if function is None else register(function)


class FunctionTool:
    """A function as a tool. A plain function runs in a thread."""

    def __init__(self, name: str, function: Callable[..., Any], *, risk: Risk) -> None:
        self.name: Final = name
        self.description: Final = inspect.getdoc(function) or name
        self._function: Final = function
        self._risk: Final = risk
        parameters = list(inspect.signature(function, eval_str=True).parameters.values())
        self._model: Final = make_input_model(f"tool {name!r}", name, parameters)

    @property
    def input_schema(self) -> dict[str, Any]:
        """See `OfferedTool.input_schema`."""
        return self._model.model_json_schema()

    def prepare(self, arguments: Mapping[str, Any]) -> ToolCall:
        """See `OfferedTool.prepare`."""
        model = read_input(self._model, arguments)
        values = {name: getattr(model, name) for name in type(model).model_fields}
        shown = model.model_dump(mode="json")
        return ToolCall(self.name, self.name, shown, self._risk, lambda _: self._call(values))

    async def _call(self, values: Mapping[str, Any]) -> Any:
        try:
            if inspect.iscoroutinefunction(self._function):
                return await self._function(**values)
            result = await asyncio.to_thread(functools.partial(self._function, **values))
            return await result if inspect.isawaitable(result) else result
        except RuncastError:
            raise
        except Exception as error:
            # The application's own words: they tell its model and its people what went wrong.
            raise ToolError(f"{self.name}: {str(error)[:_MESSAGE_CHARS] or type(error).__name__}") from error


M = TypeVar("M", bound=pydantic.BaseModel)


def read_input(model: type[M], arguments: Mapping[str, Any]) -> M:
    """A call's input, checked.

    Raises:
        InvalidInputError: it doesn't fit; `field` names the first place.

    """
    try:
        return model.model_validate(arguments)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(("input", *map(str, first["loc"])))
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidInputError(f"{place}: {reason}", field=place) from None


def _read_risk(name: str) -> Risk:
    try:
        return Risk(name)
    except ValueError:
        raise ConfigurationError(f"a tool's risk is one of {', '.join(Risk)}, not {name!r}") from None
