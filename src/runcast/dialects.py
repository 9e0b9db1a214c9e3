"""What the streams of models say, each in its own words, read as the same few things. No vendor's package is imported:
an item is known by its attributes, or by its keys if it is plain JSON.

A dialect is told one item after the other and answers with what it says; at the end it says what is still open. What it
doesn't know it passes over: vendors add events at any time.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from runcast.errors import InvalidInputError, StreamError

MAX_TOOL_CALLS: Final = 1_000  # of one stream
MAX_TOOL_INPUT_CHARS: Final = 1_000_000

_CUT_REASONS: Final = frozenset({"length", "content_filter", "max_tokens", "max_output_tokens", "refusal"})
_FIGURES: Final = {
    "inputTokens": ("input_tokens", "prompt_tokens"),
    "outputTokens": ("output_tokens", "completion_tokens"),
    "cacheReadTokens": ("cache_read_tokens", "cache_read_input_tokens"),
    "cacheWriteTokens": ("cache_write_tokens", "cache_creation_input_tokens"),
    "requests": ("requests",),
}


class Text(NamedTuple):
    """A bit of the answer."""

    delta: str


class ToolCalled(NamedTuple):
    """The model wants a tool to be called."""

    id: str
    tool: str
    input: Any


class ToolReturned(NamedTuple):
    """A call's end; with an `error`, a failure."""

    id: str
    tool: str
    output: Any = None
    error: str | None = None


class Used(NamedTuple):
    """What the answer has cost, by now; a later word takes the place of an earlier one, figure by figure."""

    figures: Mapping[str, Any]


class Cut(NamedTuple):
    """The answer ends before it is complete, and the model says why."""

    reason: str


Said = Text | ToolCalled | ToolReturned | Used | Cut


class Dialect(Protocol):
    """How one kind of stream is read."""

    def read(self, item: Any) -> Iterator[Said]:
        """What an item says.

        Raises:
            StreamError: that the answer has failed, or what can't be.

        """
        ...

    def end(self) -> Iterator[Said]:
        """What is left to say at the end of the stream.

        Raises:
            StreamError: it isn't the end of an answer.

        """
        ...


def dialect_of(item: Any) -> Dialect:
    """The dialect of a stream by its first item.

    Raises:
        InvalidInputError: none that is known.

    """
    kind = get(item, "type")
    if isinstance(item, str):
        return PlainText()
    if isinstance(get(item, "event_kind"), str):
        return AgentEvents()
    if get(item, "kind") == "response" and get(item, "parts") is not None:
        return AgentResponses()
    if isinstance(get(item, "choices"), list):
        return ChatChunks()
    if isinstance(kind, str):
        return ResponseEvents() if kind.startswith("response.") or kind == "error" else MessageEvents()
    raise InvalidInputError(
        f"run.stream can't read a stream of {type(item).__name__}: give it text, or a model's stream",
        field="stream",
    )


class PlainText:
    """Strings."""

    def read(self, item: Any) -> Iterator[Said]:
        """See `Dialect.read`."""
        if not isinstance(item, str):
            raise InvalidInputError(f"a stream of text has a {type(item).__name__} in it", field="stream")
        yield Text(item)

    def end(self) -> Iterator[Said]:
        """See `Dialect.end`."""
        yield from ()


@dataclass
class _Call:
    """A tool's call as it comes in, bit by bit."""

    id: str = ""
    tool: str = ""
    parts: list[str] = field(default_factory=list)
    chars: int = 0

    def add(self, part: str) -> None:
        self.chars += len(part)
        if self.chars > MAX_TOOL_INPUT_CHARS:
            raise StreamError(f"the input of a tool's call passes {MAX_TOOL_INPUT_CHARS:,} characters")
        self.parts.append(part)

    def close(self) -> ToolCalled:
        return ToolCalled(self.id, self.tool, read_input("".join(self.parts)))


class ChatChunks:
    """Chunks of OpenAI's chat completions, and of all who offer the same. Of several choices the first is read."""

    def __init__(self) -> None:
        self._calls: Final[dict[int, _Call]] = {}
        self._is_begun = False
        self._is_ended = False

    def read(self, item: Any) -> Iterator[Said]:
        """See `Dialect.read`."""
        yield from _read_failure(item)
        if (usage := get(item, "usage")) is not None:
            yield Used(read_figures(usage, model=get(item, "model")))
        for choice in get(item, "choices") or ():
            if not get(choice, "index"):
                yield from self._read_choice(choice)

    def end(self) -> Iterator[Said]:
        """See `Dialect.end`."""
        if self._is_begun and not self._is_ended:
            raise StreamError("the model's stream ended in the middle of its answer")
        yield from ()

    def _read_choice(self, choice: Any) -> Iterator[Said]:
        self._is_begun = True
        delta = get(choice, "delta")
        for key in ("content", "refusal"):
            if text := get(delta, key):
                yield Text(text)
        for part in get(delta, "tool_calls") or ():
            self._add_call(part)
        if (reason := get(choice, "finish_reason")) and not self._is_ended:
            self._is_ended = True
            yield from (call.close() for call in self._calls.values())
            yield from _cut_by(reason)

    def _add_call(self, part: Any) -> None:
        index = get(part, "index") or 0
        if index not in self._calls and len(self._calls) >= MAX_TOOL_CALLS:
            raise StreamError(f"the model calls more than {MAX_TOOL_CALLS:,} tools at once")
        call = self._calls.setdefault(index, _Call())
        call.id = call.id or get(part, "id") or ""
        function = get(part, "function")
        call.tool = call.tool or get(function, "name") or ""
        call.add(get(function, "arguments") or "")


class ResponseEvents:
    """Events of OpenAI's Responses."""

    def __init__(self) -> None:
        self._is_ended = False

    def read(self, item: Any) -> Iterator[Said]:
        """See `Dialect.read`."""
        response = get(item, "response")
        match get(item, "type"):
            case "response.output_text.delta" | "response.refusal.delta":
                yield Text(get(item, "delta") or "")
            case "response.output_item.done":
                yield from _read_output(get(item, "item"))
            case "response.completed" | "response.incomplete":
                self._is_ended = True
                yield Used(read_figures(get(response, "usage"), model=get(response, "model")))
                yield from _cut_by(get(get(response, "incomplete_details"), "reason"))
            case "response.failed":
                raise StreamError(_failure_of(get(response, "error")))
            case "error":
                raise StreamError(_failure_of(get(item, "error") or item))

    def end(self) -> Iterator[Said]:
        """See `Dialect.end`."""
        if not self._is_ended:
            raise StreamError("the model's stream ended in the middle of its answer")
        yield from ()


class MessageEvents:
    """Events of Anthropic's messages; those that the client derives from them are passed over."""

    def __init__(self) -> None:
        self._calls: Final[dict[int, _Call]] = {}
        self._tools: Final[dict[str, str]] = {}  # of calls that the service itself answers, by their ids
        self._is_begun = False
        self._is_ended = False

    def read(self, item: Any) -> Iterator[Said]:
        """See `Dialect.read`."""
        match get(item, "type"):
            case "message_start":
                self._is_begun = True
                message = get(item, "message")
                yield Used(read_figures(get(message, "usage"), model=get(message, "model")))
            case "content_block_start":
                yield from self._start_block(get(item, "index") or 0, get(item, "content_block"))
            case "content_block_delta":
                yield from self._read_delta(get(item, "index") or 0, get(item, "delta"))
            case "content_block_stop":
                if (call := self._calls.pop(get(item, "index") or 0, None)) is not None:
                    yield call.close()
            case "message_delta":
                yield Used(read_figures(get(item, "usage")))
                yield from _cut_by(get(get(item, "delta"), "stop_reason"))
            case "message_stop":
                self._is_ended = True
            case "error":
                raise StreamError(_failure_of(get(item, "error")))

    def end(self) -> Iterator[Said]:
        """See `Dialect.end`."""
        if self._is_begun and not self._is_ended:
            raise StreamError("the model's stream ended in the middle of its answer")
        yield from ()

    def _start_block(self, index: int, block: Any) -> Iterator[Said]:
        kind, call_id = get(block, "type") or "", get(block, "id") or ""
        if kind == "text" and (text := get(block, "text")):
            yield Text(text)
        elif kind in {"tool_use", "server_tool_use", "mcp_tool_use"}:
            if len(self._tools) >= MAX_TOOL_CALLS:
                raise StreamError(f"the model calls more than {MAX_TOOL_CALLS:,} tools at once")
            self._tools[call_id] = get(block, "name") or ""
            self._calls[index] = _Call(call_id, self._tools[call_id])
        elif kind.endswith("_tool_result"):
            call_id = get(block, "tool_use_id") or ""
            error = get(get(block, "content"), "error_code")
            yield ToolReturned(call_id, self._tools.get(call_id, ""), get(block, "content"), error)

    def _read_delta(self, index: int, delta: Any) -> Iterator[Said]:
        if get(delta, "type") == "text_delta":
            yield Text(get(delta, "text") or "")
        elif get(delta, "type") == "input_json_delta" and index in self._calls:
            self._calls[index].add(get(delta, "partial_json") or "")


class AgentEvents:
    """Events of pydantic-ai's agents: of one answer, or of a whole run with its tools."""

    def read(self, item: Any) -> Iterator[Said]:
        """See `Dialect.read`."""
        part = get(item, "part")
        match get(item, "event_kind"), get(part, "part_kind"):
            case "part_start", "text":
                yield Text(get(part, "content") or "")
            case "part_delta", _ if get(get(item, "delta"), "part_delta_kind") == "text":
                yield Text(get(get(item, "delta"), "content_delta") or "")
            case ("part_end", "builtin-tool-call") | ("function_tool_call", _):
                yield ToolCalled(get(part, "tool_call_id"), get(part, "tool_name"), read_input(get(part, "args")))
            case ("part_start", "builtin-tool-return") | ("function_tool_result", _):
                is_good = get(part, "outcome") in {None, "success"} and get(part, "part_kind") != "retry-prompt"
                content = get(part, "content")
                error = None if is_good else str(content)
                yield ToolReturned(get(part, "tool_call_id"), get(part, "tool_name"), content, error)
            case "agent_run_result", _:
                yield Used(read_figures(usage_of(get(item, "result"))))

    def end(self) -> Iterator[Said]:
        """See `Dialect.end`."""
        yield from ()


class AgentResponses:
    """pydantic-ai's responses: each the whole answer as far as it has come."""

    def __init__(self) -> None:
        self._text = ""
        self._last: Any = None

    def read(self, item: Any) -> Iterator[Said]:
        """See `Dialect.read`."""
        texts = [get(part, "content") for part in get(item, "parts") if get(part, "part_kind") == "text"]
        before, self._text, self._last = self._text, "".join(texts), item
        if not self._text.startswith(before):
            raise StreamError("the model's answer changed while it was streamed")
        yield Text(self._text[len(before) :])

    def end(self) -> Iterator[Said]:
        """See `Dialect.end`."""
        for part in get(self._last, "parts") or ():
            if get(part, "part_kind") == "tool-call":
                yield ToolCalled(get(part, "tool_call_id"), get(part, "tool_name"), read_input(get(part, "args")))
        yield Used(read_figures(get(self._last, "usage"), model=get(self._last, "model_name")))


def get(item: Any, name: str) -> Any:
    """An attribute, or what JSON has under the key; None if there is neither."""
    return item.get(name) if isinstance(item, Mapping) else getattr(item, name, None)


def usage_of(result: Any) -> Any:
    """What a result has used: a value that can be called as well, in some releases only called."""
    usage = get(result, "usage")
    return usage() if callable(usage) and not hasattr(usage, "output_tokens") else usage


def read_figures(usage: Any, *, model: Any = None) -> dict[str, Any]:
    """What was used, in our words; what isn't told is left out."""
    figures: dict[str, Any] = {"model": model} if isinstance(model, str) else {}
    for ours, theirs in _FIGURES.items():
        figure = next((found for name in theirs if isinstance(found := get(usage, name), int)), None)
        if figure is not None:
            figures[ours] = figure
    return figures


def read_input(text: Any) -> Any:
    """A call's arguments; as they are if they aren't JSON, which models don't always write."""
    if not isinstance(text, str):
        return text or {}
    try:
        return json.loads(text or "{}")
    except ValueError:
        return text


def _read_output(item: Any) -> Iterator[Said]:
    kind = get(item, "type") or ""
    call_id = get(item, "call_id") or get(item, "id") or ""
    if kind == "function_call":
        yield ToolCalled(call_id, get(item, "name"), read_input(get(item, "arguments")))
    elif kind == "custom_tool_call":
        yield ToolCalled(call_id, get(item, "name"), get(item, "input"))
    elif kind.endswith("_call"):  # one that the service itself has answered
        tool = get(item, "name") or kind.removesuffix("_call")
        is_failed = get(item, "status") == "failed" or get(item, "error") is not None
        yield ToolCalled(call_id, tool, read_input(get(item, "arguments") or get(item, "action")))
        yield ToolReturned(call_id, tool, get(item, "output"), _failure_of(get(item, "error")) if is_failed else None)


def _read_failure(item: Any) -> Iterator[Said]:
    """Some servers send an error as a chunk like any other."""
    if (error := get(item, "error")) is not None:
        raise StreamError(_failure_of(error))
    yield from ()


def _failure_of(error: Any) -> str:
    message = get(error, "message") or (error if isinstance(error, str) else "it doesn't say why")
    return f"the model's answer failed: {message}"


def _cut_by(reason: Any) -> Iterator[Said]:
    if reason in _CUT_REASONS:
        yield Cut(reason)
