"""`run.stream(…)`: a model's stream as the message, tool calls and usage of a run, while it comes.

What is read: chunks of OpenAI's chat completions (and of all who offer the same), events of OpenAI's Responses, events
of Anthropic's messages, pydantic-ai's `run_stream`, `run_stream_events`, `stream_text` and `stream_response`, and any
iterator of strings; asynchronous or not, opened or not.

The message is completed only if the stream was complete: one that breaks off ends in an error.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Final, Protocol

from pydantic_core import to_json, to_jsonable_python

from runcast.dialects import (
    MAX_TOOL_CALLS,
    Cut,
    Said,
    Text,
    ToolCalled,
    ToolReturned,
    Used,
    dialect_of,
    read_figures,
    usage_of,
)
from runcast.errors import InvalidInputError, RuncastError, StreamError
from runcast.events import EventType

_MAX_SHOWN_BYTES: Final = 65_536  # of a tool's input or output; more of it is told as the beginning of its JSON
_MAX_ERROR_CHARS: Final = 2_000
_END: Final = object()


class Writing(Protocol):
    """A message of the run."""

    @property
    def text(self) -> str:
        """All that was said."""
        ...

    def write(self, delta: str, /) -> None:
        """Go on with the text."""
        ...


class Told(Protocol):
    """What this module asks of a run's context."""

    def emit(self, event_type: str, payload: Mapping[str, Any], /) -> None:
        """Tell watchers something."""
        ...

    def message(self, name: str | None, /) -> AbstractAsyncContextManager[Writing]:
        """Begin a message; leaving it completes it, unless by an error."""
        ...


async def relay(stream: Any, run: Told, *, name: str | None = None) -> str:
    """Tell the run's watchers what a model's stream says, as it comes, and return the text.

    The text is one message, begun with its first bit. A tool call that the model wants is told as `tool_started`; its
    end is told too if the stream has it, else it is the runner's to tell. What was used is told at the end.

    Raises:
        StreamError: the stream broke off, or says that the answer has failed.
        InvalidInputError: it isn't a stream that is known.

    """
    async with AsyncExitStack() as stack:
        teller = _Teller(run, name, stack)
        async with _opened(stream) as opened:
            dialect = None
            async for item in _items_of(opened):
                dialect = dialect or dialect_of(item)
                for said in dialect.read(item):
                    await teller.tell(said)
            for said in dialect.end() if dialect else ():
                await teller.tell(said)
            if hasattr(opened, "stream_text"):
                await teller.tell(Used(read_figures(usage_of(opened))))
        teller.end()
    return teller.text


class _Teller:
    """Says what a stream says in the words of a run."""

    def __init__(self, run: Told, name: str | None, stack: AsyncExitStack) -> None:
        self._run: Final = run
        self._name: Final = name
        self._stack: Final = stack  # the message stands on it: it ends when the stream has
        self._message: Writing | None = None
        self._figures: dict[str, Any] = {}
        self._tools: Final[dict[str, str]] = {}  # by the ids of calls that were told
        self._is_interrupted = False  # by a tool, since the last bit of text

    @property
    def text(self) -> str:
        return "" if self._message is None else self._message.text

    async def tell(self, said: Said) -> None:
        match said:
            case Text(delta):
                await self._write(delta)
            case ToolCalled():
                self._start_tool(said)
            case ToolReturned():
                self._end_tool(said)
            case Used(figures):
                self._figures |= figures
            case Cut(reason):
                payload = {"level": "warning", "message": f"the model's answer is not complete: {reason}"}
                self._run.emit(EventType.LOG, payload)

    def end(self) -> None:
        if self._figures:
            self._run.emit(EventType.USAGE, self._figures)

    async def _write(self, delta: str) -> None:
        if not delta:
            return
        if self._message is None:
            self._message = await self._stack.enter_async_context(self._run.message(self._name))
        elif self._is_interrupted:
            self._message.write("\n\n")
        self._is_interrupted = False
        self._message.write(delta)

    def _start_tool(self, call: ToolCalled) -> None:
        if call.id in self._tools:
            return  # some streams tell it twice: as the model's wish, and as what is done
        if len(self._tools) >= MAX_TOOL_CALLS:
            raise StreamError(f"the model calls more than {MAX_TOOL_CALLS:,} tools")
        self._tools[call.id] = call.tool
        self._is_interrupted = True
        payload = {"toolCallId": call.id, "tool": call.tool, "input": _shown(call.input)}
        self._run.emit(EventType.TOOL_STARTED, payload)

    def _end_tool(self, end: ToolReturned) -> None:
        payload = {"toolCallId": end.id, "tool": end.tool or self._tools.get(end.id, "")}
        if end.error is None:
            self._run.emit(EventType.TOOL_COMPLETED, payload | {"output": _shown(end.output)})
        else:
            error = {"code": "tool_failed", "message": end.error[:_MAX_ERROR_CHARS]}
            self._run.emit(EventType.TOOL_FAILED, payload | {"error": error})


@asynccontextmanager
async def _opened(stream: Any) -> AsyncIterator[Any]:
    """The stream, opened here if it wasn't; what was opened here or broke off is closed."""
    if inspect.isawaitable(stream):
        stream = await stream
    if hasattr(stream, "__aenter__") and not _is_readable(stream):
        async with stream as opened:
            yield opened
        return
    try:
        yield stream
    except BaseException:
        await _close(stream)
        raise


def _is_readable(stream: Any) -> bool:
    return any(hasattr(stream, name) for name in ("stream_text", "__aiter__", "__iter__"))


async def _items_of(stream: Any) -> AsyncIterator[Any]:
    """A stream's items. What a library raises is a broken stream; what the runner's own generator raises is its own."""
    is_own = inspect.isasyncgen(stream) or inspect.isgenerator(stream)
    try:
        async for item in _iterate(stream):
            yield item
    except RuncastError:
        raise
    except Exception as error:
        if is_own:
            raise
        raise StreamError(
            f"the model's stream broke off: {type(error).__name__}: {error}"[:_MAX_ERROR_CHARS]
        ) from error


def _iterate(stream: Any) -> AsyncIterator[Any]:
    if hasattr(stream, "stream_text"):
        deltas: AsyncIterator[Any] = stream.stream_text(delta=True, debounce_by=None)
        return deltas
    if hasattr(stream, "__aiter__"):
        return aiter(stream)
    if hasattr(stream, "__iter__") and not isinstance(stream, str | bytes | Mapping):
        return _in_thread(iter(stream))
    raise InvalidInputError(f"run.stream takes a stream, not a {type(stream).__name__}", field="stream")


async def _in_thread(items: Iterator[Any]) -> AsyncIterator[Any]:
    """Items that may block while they are waited for."""
    while (item := await asyncio.to_thread(next, items, _END)) is not _END:
        yield item


async def _close(stream: Any) -> None:
    """Let the connection go. A plain iterator that a thread still waits in can't be closed: its end is its own."""
    close = getattr(stream, "aclose", None) or getattr(stream, "close", None)
    if hasattr(stream, "__aiter__") and callable(close):
        await close()


def _shown(value: Any) -> Any:
    """A value as JSON, and not more of it than watchers want to see."""
    encoded = to_json(value, fallback=str)
    if len(encoded) <= _MAX_SHOWN_BYTES:
        return to_jsonable_python(value, fallback=str)
    return encoded[:_MAX_SHOWN_BYTES].decode(errors="ignore") + "…"
