"""Steps: how a function is called as a named part of a run, so that a later attempt needn't call it again.

A step whose result is committed is skipped, and gives that result. One that was in flight is executed again: at least
once for a step in flight, once for a committed one.
"""

import asyncio
import contextlib
import functools
import hashlib
import importlib
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

import pydantic
import pydantic_core
import stamina

from runcast.concurrency import run_in_thread
from runcast.errors import (
    ConfigurationError,
    FatalError,
    InvalidInputError,
    RunCanceledError,
    StaleAttemptError,
    StepFailedError,
    StepTimedOutError,
)
from runcast.journaling import BegunStep, Journal, StepFailure
from runcast.records import RunError, Undo

T = TypeVar("T")

current_step: ContextVar[str | None] = ContextVar("runcast_step", default=None)
"""The step that the present task is in. A thread that a step runs in has a copy."""

MAX_NAME_CHARS: Final = 200
_OPTIONS: Final = "__runcast_step__"
_FINAL: Final = (FatalError, InvalidInputError, RunCanceledError, StaleAttemptError)


class StepOptions(NamedTuple):
    """How a step's function is called. Times are in seconds."""

    retries: int = 0
    timeout_seconds: float | None = None  # of each try
    wait_seconds: float = 1.0  # before the first retry; doubles, with jitter
    longest_wait_seconds: float = 60.0
    undo: Callable[..., Any] | None = None


def set_options(function: Callable[..., Any], options: StepOptions) -> None:
    """Have a function called so wherever it is a step.

    Raises:
        ConfigurationError: a value can't work.

    """
    if options.retries < 0 or options.wait_seconds < 0 or options.longest_wait_seconds < 0:
        raise ConfigurationError(f"step {function!r}: retries and waits are 0 or more")
    if options.undo is not None:
        name_function(options.undo)
    setattr(function, _OPTIONS, options)


def name_function(function: Callable[..., Any]) -> str:
    """The name under which another process finds the function.

    Raises:
        ConfigurationError: it has none: it isn't defined at the top of a module.

    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<locals>")
    if not module or "<" in name:
        raise ConfigurationError(
            f"{name} can't be an undo: define it at the top of a module, so that it is found later"
        )
    return f"{module}:{name}"


def find_function(name: str) -> Callable[..., Any]:
    """The function that `name_function` has named.

    Raises:
        FatalError: it isn't there any more.

    """
    module, _, path = name.partition(":")
    try:
        found = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise FatalError(f"the function {name} is not there any more: {error}") from None
    assert callable(found)  # noqa: S101 - it was when it was named
    return found


class Step(Coroutine[Any, Any, T]):
    """`run.step(…)`: awaited, it calls its function and gives the result; entered, it is a block of the runner.

    It is a coroutine, so a `TaskGroup` takes it as it is: `group.create_task(run.step(…))`. A block is entered in
    every attempt: ask `is_done` what an earlier one has committed. One that is neither warns, as a coroutine does.
    """

    _is_used = True  # what isn't fully made has nothing to warn of

    def __init__(self, journal: Journal, name: str, call: "StepCall | None") -> None:
        if not 1 <= len(name) <= MAX_NAME_CHARS:
            raise InvalidInputError(f"a step's name has 1 to {MAX_NAME_CHARS} characters", field="name")
        self.is_done = False  # whether an earlier attempt has committed it
        self.output: Any = None
        self._journal: Final = journal
        self._name: Final = name
        self._call: Final = call
        self._id = ""
        self._failure: StepFailure | None = None  # that an earlier attempt has committed
        self._undo: Undo | None = None
        self._outer: Token[str | None] | None = None
        self._is_used = False

    def __del__(self) -> None:
        if self._is_used or sys.is_finalizing():
            return
        how = "never entered: `async with" if self._call is None else "never awaited: `await"
        words = f"step {self._name!r} was {how} run.step(…)`"
        warnings.warn(words, RuntimeWarning, stacklevel=2, source=self)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        """See `collections.abc.Coroutine`."""
        return self._coroutine.send(value)

    def throw(self, *raised: Any) -> Any:
        """See `collections.abc.Coroutine`."""
        return self._coroutine.throw(*raised)

    def close(self) -> None:
        """See `collections.abc.Coroutine`."""
        self._is_used = True
        if self._call is not None:
            self._coroutine.close()

    async def __aenter__(self) -> Self:
        self._is_used = True
        if self._call is not None:
            raise TypeError("a step with a function is awaited: `await run.step(name, function)`")
        self._begin(None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
        if self.is_done:
            return
        if error is None:
            await self._journal.succeed_step(self._id, self.output, undo=self._undo)
        elif isinstance(error, Exception):
            await self._journal.fail_step(self._id, _describe_failure(error), retry_in_seconds=None)
        else:
            self._journal.cancel_step(self._id)

    def set_output(self, value: Any) -> None:
        """What the step gives: committed at the end of the block, and `output` in later attempts. Must be JSON."""
        self.output = to_json(value)

    def set_undo(self, function: Callable[..., Any], *args: Any) -> None:
        """How the step is undone: a function at the top of a module, and what it is called with, which must be JSON."""
        self._undo = Undo(name_function(function), to_json(list(args)))

    @functools.cached_property
    def _coroutine(self) -> Coroutine[Any, Any, T]:
        self._is_used = True
        if self._call is None:
            raise TypeError("a step without a function is a block: `async with run.step(name):`")
        return self._execute(self._call)

    async def _execute(self, call: "StepCall") -> T:
        self._begin(call.shown_input)
        try:
            if self.is_done:
                result: T = call.restore(self.output)
                return result
            if self._failure is not None:
                raise _restore_error(self._failure)
            return await self._try(call)
        except asyncio.CancelledError:
            self._journal.cancel_step(self._id)
            raise
        finally:
            self._leave()

    def _begin(self, shown_input: Any) -> None:
        begun: BegunStep = self._journal.start_step(
            self._name, shown_input, parent_id=current_step.get(), is_block=self._call is None
        )
        self._id, self.is_done, self.output, self._failure = begun
        self._outer = current_step.set(self._id)

    def _leave(self) -> None:
        assert self._outer is not None  # noqa: S101 - it was entered
        current_step.reset(self._outer)

    async def _try(self, call: "StepCall") -> T:
        options = call.options
        if not options.retries:
            return await self._try_once(call, retry_in_seconds=None)
        async for attempt in stamina.retry_context(
            on=may_retry,
            attempts=options.retries + 1,
            timeout=None,
            wait_initial=options.wait_seconds,
            wait_max=options.longest_wait_seconds,
            wait_jitter=options.wait_seconds,
        ):
            with attempt:
                if attempt.num > 1:
                    self._journal.restart_step(self._id, attempt.num)
                is_last = attempt.num > options.retries
                return await self._try_once(call, retry_in_seconds=None if is_last else float(attempt.next_wait))
        raise AssertionError("retries end with a result or an error")

    async def _try_once(self, call: "StepCall", *, retry_in_seconds: float | None) -> T:
        try:
            output = await call.run()
            await self._journal.succeed_step(self._id, to_json(output), undo=call.undo_of(output))
        except StaleAttemptError:
            raise
        except Exception as error:
            wait = retry_in_seconds if may_retry(error) else None
            await self._journal.fail_step(self._id, _describe_failure(error), retry_in_seconds=wait)
            raise
        result: T = output
        return result


class StepCall:
    """A function with its arguments."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.options: Final[StepOptions] = getattr(function, _OPTIONS, StepOptions())
        self._function: Final = function
        self._args: Final = args
        self._kwargs: Final = kwargs

    @property
    def shown_input(self) -> Any:
        """The arguments by name where the function tells its names, else in order; as JSON, those that can be."""
        shown = {name: shown for name, value in self._arguments.items() if (shown := _show(value)) is not _HIDDEN}
        return shown or None

    @property
    def _arguments(self) -> dict[str, Any]:
        try:
            signature = inspect.signature(self._function)
            arguments = dict(signature.bind(*self._args, **self._kwargs).arguments)
        except (TypeError, ValueError):
            return {**({"args": list(self._args)} if self._args else {}), **self._kwargs}
        for parameter in signature.parameters.values():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:  # it holds names of its own
                arguments.update(arguments.pop(parameter.name, {}))
        return arguments

    async def run(self) -> Any:
        """The result. A plain function runs in a thread; when its time is over it is left to itself, and told so by the
        run if it has that.
        """
        limit = self.options.timeout_seconds
        deadline = asyncio.timeout(limit)
        try:
            async with deadline:
                return await self._call(deadline.expired)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise StepTimedOutError(f"the step has not ended within {limit:g} s") from None

    def undo_of(self, output: Any) -> Undo | None:
        """How the step is undone once it has given this."""
        undo = self.options.undo
        return None if undo is None else Undo(name_function(undo), [to_json(output)])

    def restore(self, output: Any) -> Any:
        """A committed result, as the function gave it: of the type that it says it returns."""
        return restore_result(self._function, output, of="the step")

    async def _call(self, is_late: Callable[[], bool]) -> Any:
        if inspect.iscoroutinefunction(self._function):
            return await self._bind(as_awaited)()
        contexts: list[BlockingContext] = []

        def hand_over(argument: Any) -> Any:
            context = as_blocking(argument)
            if context is None:
                return argument
            contexts.append(context)
            return context

        def cancel() -> None:
            for context in contexts:
                context.cancel()

        # What decorates an async function may be plain itself: the run is for the function.
        is_async_within = inspect.iscoroutinefunction(inspect.unwrap(self._function))
        call = self._bind(as_awaited if is_async_within else hand_over)
        if contexts:
            result = await run_in_thread(call, name="step", cancel=cancel, is_late=is_late)
        else:
            result = await asyncio.to_thread(call)
        return await result if inspect.isawaitable(result) else result

    def _bind(self, hand_over: Callable[[Any], Any]) -> Callable[[], Any]:
        args = map(hand_over, self._args)
        kwargs = {name: hand_over(argument) for name, argument in self._kwargs.items()}
        return functools.partial(self._function, *args, **kwargs)


class BlockingContext(Protocol):
    """A run's context as a function in a thread has it."""

    def cancel(self) -> None:
        """Have the function stop."""
        ...


@functools.singledispatch
def as_blocking(argument: Any) -> BlockingContext | None:
    """A run's context for a function in a thread; None if it is something else. `threads` says how."""
    del argument
    return None


@functools.singledispatch
def as_awaited(argument: Any) -> Any:
    """An argument for an async function: a run's context as one that is awaited. `threads` says how."""
    return argument


def restore_result(function: Callable[..., Any], output: Any, *, of: str) -> Any:
    """What a function gave, read from JSON: of the type that it says it returns.

    Raises:
        FatalError: it isn't of that type.

    """
    adapter = _result_adapter(getattr(function, "__func__", function))
    if adapter is None:
        return output
    try:
        return adapter.validate_python(output)
    except pydantic.ValidationError as error:
        raise FatalError(f"the committed result of {of} doesn't fit what it returns now: {error}") from None


def to_json(value: Any) -> Any:
    """A value as JSON has it: models and dataclasses as objects, times as text.

    Raises:
        InvalidInputError: it holds something that JSON can't say.

    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    try:
        return pydantic_core.to_jsonable_python(value, inf_nan_mode="strings")
    except (pydantic_core.PydanticSerializationError, UnicodeDecodeError, ValueError) as error:
        raise InvalidInputError(f"a result isn't JSON: {error}") from None


def describe_error(error: BaseException) -> RunError:
    """What watchers are told of an exception: our own code for our errors, the class name for others."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # what a `TaskGroup` wraps one error in says nothing
    code = getattr(error, "code", None)
    message = str(error) or type(error).__name__
    return RunError(code=code if isinstance(code, str) else type(error).__name__, message=message[:2_000])


def _describe_failure(error: Exception) -> StepFailure:
    kind = type(error)
    name = f"{kind.__module__}:{kind.__qualname__}"
    return StepFailure(describe_error(error), None if "<" in name else name)


def _restore_error(failure: StepFailure) -> Exception:
    """What the step has raised in an earlier attempt, as far as its class still takes a message."""
    code, message = failure.error.code, failure.error.message
    restored: Exception = StepFailedError(code, message)
    with contextlib.suppress(Exception):  # whatever the class does when it is made so, it isn't fit to tell this
        kind = find_function(failure.raised or "")
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, ExceptionGroup):
            error = kind.__new__(kind, message)
            error.args = (message,)  # past `__init__`: what else it wants isn't known any more
            if str(error) == message:
                restored = error
    restored.add_note("The step has failed so in an earlier attempt; it was not executed again.")
    return restored


def summarize(data: bytes | bytearray | memoryview) -> str:
    """What stands for bytes that nobody is to be shown: the same for the same."""
    return f"{len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()[:32]}"


def _show(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return summarize(value)
    if isinstance(value, Iterator):
        return _HIDDEN  # looking would use it up
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, set | frozenset):
        value = sorted(value, key=repr)  # another process has them in another order
    try:
        return to_json(value)
    except InvalidInputError:
        return _HIDDEN


_HIDDEN: Final = object()  # what isn't JSON, as a connection, or the run itself


def may_retry(error: BaseException) -> bool:
    """Whether another try may help. A group of errors is final if one of them is."""
    # A cancellation is asked about too: it isn't the step that failed.
    if isinstance(error, BaseExceptionGroup):
        return all(may_retry(each) for each in error.exceptions)
    return isinstance(error, Exception) and not isinstance(error, _FINAL)


@functools.cache
def _result_adapter(function: Callable[..., Any]) -> pydantic.TypeAdapter[Any] | None:
    try:
        returned = inspect.signature(function, eval_str=True).return_annotation
        is_told = returned not in (inspect.Signature.empty, Any, None)
        return pydantic.TypeAdapter(returned) if is_told else None
    except (TypeError, ValueError, NameError, pydantic.PydanticUserError):
        return None  # a built-in, or a type that pydantic doesn't know: the JSON itself
