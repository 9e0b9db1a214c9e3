"""`run.stream`: streams of models, read through their own clients from a server that speaks their published APIs."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import anthropic
import openai
import pytest
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from runcast import dialects
from runcast.errors import FatalError, InvalidInputError, StreamError
from runcast.streams import relay
from tests.support.stream_server import (
    block,
    chat,
    chat_call,
    data,
    messages,
    response_with,
    responses,
    stream_server,
)

PROMPT: list[Any] = [{"role": "user", "content": "Hi"}]


class Message:
    """Keeps what is written, and how it ended."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.deltas: list[str] = []
        self.is_completed = False

    @property
    def text(self) -> str:
        return "".join(self.deltas)

    def write(self, delta: str, /) -> None:
        self.deltas.append(delta)


class Run:
    """What a stream tells a run: its events in order, and its messages."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.messages: list[Message] = []

    def emit(self, event_type: str, payload: Mapping[str, Any], /) -> None:
        self.told.append((str(event_type), payload))

    @contextlib.asynccontextmanager
    async def message(self, name: str | None, /) -> AsyncIterator[Message]:
        message = Message(name)
        self.messages.append(message)
        yield message
        message.is_completed = True


@pytest.fixture
def run() -> Run:
    return Run()


@contextlib.asynccontextmanager
async def openai_client(*streams: list[str]) -> AsyncIterator[openai.AsyncOpenAI]:
    async with (
        stream_server(*streams) as server,
        openai.AsyncOpenAI(base_url=f"{server.base_url}/v1", api_key="k", max_retries=0) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def anthropic_client(*streams: list[str]) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with (
        stream_server(*streams) as server,
        anthropic.AsyncAnthropic(base_url=server.base_url, api_key="k", max_retries=0) as client,
    ):
        yield client


@contextlib.asynccontextmanager
async def agent(*streams: list[str]) -> AsyncIterator[Agent[None, str]]:
    async with openai_client(*streams) as client:
        made = Agent(OpenAIChatModel("tiny-1", provider=OpenAIProvider(openai_client=client)))

        @made.tool_plain
        def weather(city: str) -> dict[str, str]:
            if city == "Nowhere":
                raise ValueError("no such city")
            return {city: "sunny"}

        yield made


def says(*texts: str) -> Iterator[dict[str, Any]]:
    for text in texts:
        yield {"content": text}


USED_CHAT = ("usage", {"model": "tiny-1", "inputTokens": 7, "outputTokens": 3})


async def test_chat_chunks_become_a_message(run: Run) -> None:
    """Bit by bit, completed at the end, with what was used."""
    async with openai_client(chat(*says("Hel", "lo"))) as client:
        stream = await client.chat.completions.create(model="tiny-1", messages=PROMPT, stream=True)
        assert await relay(stream, run, name="answer") == "Hello"
    assert [(m.name, m.deltas, m.is_completed) for m in run.messages] == [("answer", ["Hel", "lo"], True)]
    assert run.told == [USED_CHAT]


async def test_a_stream_that_is_not_asked_for_yet_is(run: Run) -> None:
    """`run.stream(client.…create(…))`, without an await in it."""
    async with openai_client(chat(*says("Hello"))) as client:
        assert await relay(client.chat.completions.create(model="tiny-1", messages=PROMPT, stream=True), run) == "Hello"


async def test_a_client_that_blocks_is_read_in_a_thread(run: Run) -> None:
    """The same stream from the client for code without asyncio."""
    async with stream_server(chat(*says("Hel", "lo"))) as server:
        with openai.OpenAI(base_url=f"{server.base_url}/v1", api_key="k", max_retries=0) as client:
            stream = await asyncio.to_thread(
                client.chat.completions.create, model="tiny-1", messages=PROMPT, stream=True
            )
            assert await relay(stream, run) == "Hello"
    assert run.told == [USED_CHAT]


async def test_calls_of_chat_are_told_once_they_are_whole(run: Run) -> None:
    """Two at once, their arguments in pieces; without a text there is no message."""
    first = chat_call("c1", "weather", '{"city":', '"Rome"}')
    second = chat_call("c2", "now", index=1)
    async with openai_client(chat(*first, *second, finish="tool_calls")) as client:
        stream = await client.chat.completions.create(model="tiny-1", messages=PROMPT, stream=True)
        assert await relay(stream, run) == ""
    assert run.messages == []
    assert run.told == [
        ("tool_started", {"toolCallId": "c1", "tool": "weather", "input": {"city": "Rome"}}),
        ("tool_started", {"toolCallId": "c2", "tool": "now", "input": {}}),
        USED_CHAT,
    ]


async def test_arguments_that_are_not_json_are_shown_as_they_are(run: Run) -> None:
    """Models write such things; it is the tool that has to refuse them."""
    async with openai_client(chat(*chat_call("c1", "weather", "{Rome"), finish="tool_calls")) as client:
        await relay(await client.chat.completions.create(model="tiny-1", messages=PROMPT, stream=True), run)
    assert run.told[0][1]["input"] == "{Rome"


async def test_an_answer_that_was_cut_is_logged(run: Run) -> None:
    """The text stays, and the log says why it is short."""
    async with openai_client(chat(*says("Hel"), finish="length")) as client:
        stream = await client.chat.completions.create(model="tiny-1", messages=PROMPT, stream=True)
        assert await relay(stream, run) == "Hel"
    assert run.told[0] == ("log", {"level": "warning", "message": "the model's answer is not complete: length"})


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        (chat(*says("Hel"), finish=None, usage=None), "ended in the middle"),
        ([*chat(*says("Hel"), finish=None, usage=None), "data: {nonsense\n\n"], "broke off: JSONDecodeError"),
        (["data: {nonsense\n\n"], "broke off: JSONDecodeError"),
        ([*chat(*says("Hel"), finish=None), data({"error": {"message": "overloaded"}})], "overloaded"),
    ],
    ids=["ends", "nonsense", "nothing but nonsense", "error"],
)
async def test_a_chat_that_breaks_off_is_an_error(run: Run, blocks: list[str], message: str) -> None:
    """And its message isn't completed, so that the next attempt says it anew."""
    async with openai_client(blocks) as client:
        stream = await client.chat.completions.create(model="tiny-1", messages=PROMPT, stream=True)
        with pytest.raises(StreamError, match=message):
            await relay(stream, run)
    assert not any(message.is_completed for message in run.messages)


TEXT_EVENT = {"output_index": 0, "content_index": 0, "item_id": "i1", "logprobs": []}


async def test_events_of_responses_become_a_message_and_calls(run: Run) -> None:
    """Functions are the runner's to call; what the service itself has called comes with its end."""
    function = {
        "type": "function_call",
        "call_id": "c1",
        "name": "weather",
        "arguments": '{"city": "Rome"}',
        "id": "i2",
    }
    mcp = {"type": "mcp_call", "id": "c2", "name": "find", "arguments": "{}", "server_label": "s", "output": "found"}
    search = {"type": "web_search_call", "id": "c3", "status": "failed", "action": {"type": "search", "query": "q"}}
    events: list[dict[str, Any]] = [
        {"type": "response.output_text.delta", "delta": "Hel", **TEXT_EVENT},
        {"type": "response.something.new", "delta": "?"},
        {"type": "response.output_text.delta", "delta": "lo", **TEXT_EVENT},
        *(
            {"type": "response.output_item.done", "output_index": n, "item": i}
            for n, i in enumerate([function, mcp, search])
        ),
    ]
    async with openai_client(responses(*events)) as client:
        assert await relay(await client.responses.create(model="tiny-2", input="Hi", stream=True), run) == "Hello"
    assert [kind for kind, _ in run.told] == [
        "tool_started",
        "tool_started",
        "tool_completed",
        "tool_started",
        "tool_failed",
        "usage",
    ]
    assert run.told[0][1] == {"toolCallId": "c1", "tool": "weather", "input": {"city": "Rome"}}
    assert run.told[2][1] == {"toolCallId": "c2", "tool": "find", "output": "found"}
    assert run.told[3][1]["input"]["query"] == "q"
    assert run.told[4][1]["error"]["code"] == "tool_failed"
    assert run.told[5][1] == {"model": "tiny-2", "inputTokens": 7, "outputTokens": 3}


FAILED = response_with(status="failed", error={"code": "server_error", "message": "out of memory"})
CUT = response_with(status="incomplete", incomplete_details={"reason": "max_output_tokens"})


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ({}, "ended in the middle"),
        ({"type": "response.failed", "response": FAILED}, "out of memory"),
        ({"type": "error", "code": "x", "message": "no more", "param": None}, "no more"),
    ],
    ids=["ends", "failed", "error"],
)
async def test_a_response_that_fails_is_an_error(run: Run, end: dict[str, Any], message: str) -> None:
    """In the service's words."""
    event = {"type": "response.output_text.delta", "delta": "Hel", **TEXT_EVENT}
    async with openai_client(responses(event, end=end)) as client:
        stream = await client.responses.create(model="tiny-2", input="Hi", stream=True)
        with pytest.raises(StreamError, match=message):
            await relay(stream, run)


async def test_a_response_that_was_cut_is_logged(run: Run) -> None:
    """As with chat."""
    event = {"type": "response.output_text.delta", "delta": "Hel", **TEXT_EVENT}
    async with openai_client(responses(event, end={"type": "response.incomplete", "response": CUT})) as client:
        assert await relay(await client.responses.create(model="tiny-2", input="Hi", stream=True), run) == "Hel"
    assert run.told[0][1]["message"] == "the model's answer is not complete: max_output_tokens"


def message_with_all() -> list[str]:
    search = {"type": "server_tool_use", "id": "c1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "c1", "content": []}
    return messages(
        *block(0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "hm"}),
        *block(
            1,
            {"type": "text", "text": ""},
            {"type": "text_delta", "text": "I "},
            {"type": "text_delta", "text": "look"},
        ),
        *block(2, search, {"type": "input_json_delta", "partial_json": '{"query": "q"}'}),
        *block(3, found),
        *block(4, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Done"}),
        *block(5, {"type": "tool_use", "id": "c2", "name": "weather", "input": {}}),
        stop="tool_use",
    )


TOLD_OF_MESSAGE: list[tuple[str, dict[str, Any]]] = [
    ("tool_started", {"toolCallId": "c1", "tool": "web_search", "input": {"query": "q"}}),
    ("tool_completed", {"toolCallId": "c1", "tool": "web_search", "output": []}),
    ("tool_started", {"toolCallId": "c2", "tool": "weather", "input": {}}),
    ("usage", {"model": "tiny-3", "inputTokens": 7, "outputTokens": 3}),
]


async def test_events_of_messages_become_a_message_and_calls(run: Run) -> None:
    """Thinking is passed over; what is said after a tool's call is a paragraph of its own."""
    async with anthropic_client(message_with_all()) as client:
        stream = await client.messages.create(model="tiny-3", max_tokens=9, messages=PROMPT, stream=True)
        assert await relay(stream, run) == "I look\n\nDone"
    assert run.told == TOLD_OF_MESSAGE


async def test_a_manager_of_messages_is_opened(run: Run) -> None:
    """The events that the client derives are passed over, so nothing is said twice."""
    async with anthropic_client(message_with_all()) as client:
        manager = client.messages.stream(model="tiny-3", max_tokens=9, messages=PROMPT)
        assert await relay(manager, run) == "I look\n\nDone"
    assert run.told == TOLD_OF_MESSAGE


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "ended in the middle"),
        (['event: error\ndata: {"type": "error", "error": {"type": "x", "message": "overloaded"}}\n\n'], "overloaded"),
    ],
    ids=["ends", "error"],
)
async def test_a_message_that_breaks_off_is_an_error(run: Run, blocks: list[str], message: str) -> None:
    """As with the others."""
    begun = messages(*block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "I "}), stop=None)
    async with anthropic_client([*begun, *blocks]) as client:
        stream = await client.messages.create(model="tiny-3", max_tokens=9, messages=PROMPT, stream=True)
        with pytest.raises(StreamError, match=message):
            await relay(stream, run)
    assert not run.messages[0].is_completed


async def test_an_agents_answer_becomes_a_message(run: Run) -> None:
    """`agent.run_stream(…)`, opened by us or by the runner."""
    for is_opened in (False, True):
        async with agent(chat(*says("Hel", "lo"))) as made:
            if is_opened:
                async with made.run_stream("Hi") as result:
                    assert await relay(result, run) == "Hello"
            else:
                assert await relay(made.run_stream("Hi"), run) == "Hello"
    assert [message.text for message in run.messages] == ["Hello", "Hello"]
    assert [payload["outputTokens"] for kind, payload in run.told if kind == "usage"] == [3, 3]


async def test_what_an_agent_streams_is_read(run: Run) -> None:
    """The text alone, and responses that grow."""
    async with agent(chat(*says("Hel", "lo"))) as made, made.run_stream("Hi") as result:
        assert await relay(result.stream_text(delta=True, debounce_by=None), run) == "Hello"
    async with agent(chat(*says("Hel", "lo"))) as made, made.run_stream("Hi") as result:
        assert await relay(result.stream_response(debounce_by=None), run) == "Hello"
    assert [message.text for message in run.messages] == ["Hello", "Hello"]


async def test_a_whole_run_of_an_agent_is_told_with_its_tools(run: Run) -> None:
    """The call, its end and both answers, in their order."""
    asks = chat(*says("I look"), *chat_call("c1", "weather", '{"city": "Rome"}'), finish="tool_calls")
    async with agent(asks, chat(*says("Sun", "ny"))) as made:
        assert await relay(made.run_stream_events("Hi"), run) == "I look\n\nSunny"
    assert run.told[:2] == [
        ("tool_started", {"toolCallId": "c1", "tool": "weather", "input": {"city": "Rome"}}),
        ("tool_completed", {"toolCallId": "c1", "tool": "weather", "output": {"Rome": "sunny"}}),
    ]
    assert run.told[2][0] == "usage"
    assert (run.told[2][1]["inputTokens"], run.told[2][1]["requests"]) == (14, 2)


async def test_a_call_that_an_agent_refuses_has_failed(run: Run) -> None:
    """The model is asked again, and watchers see why."""
    asks = chat(*chat_call("c1", "weather", '{"town": 1}'), finish="tool_calls")
    async with agent(asks, chat(*says("Sorry"))) as made:
        assert await relay(made.run_stream_events("Hi"), run) == "Sorry"
    assert [kind for kind, _ in run.told] == ["tool_started", "tool_failed", "usage"]


async def test_an_agents_broken_stream_is_an_error(run: Run) -> None:
    """Through all its layers."""
    async with agent(["data: {nonsense\n\n"]) as made:
        with pytest.raises(Exception, match=r"nonsense|JSON|Expecting"):
            await relay(made.run_stream_events("Hi"), run)
    assert not any(message.is_completed for message in run.messages)


async def test_strings_are_a_stream_too(run: Run) -> None:
    """Of an async generator, or of any iterable, which may block."""
    loop_thread = threading.get_ident()
    read_in: list[int] = []

    async def tokens() -> AsyncIterator[str]:
        yield "Hel"
        yield ""
        yield "lo"

    def blocking() -> Iterator[str]:
        read_in.append(threading.get_ident())
        yield "Hello"

    assert await relay(tokens(), run) == "Hello"
    assert await relay(blocking(), run) == "Hello"
    assert await relay(["Hel", "lo"], run) == "Hello"
    assert run.messages[0].deltas == ["Hel", "lo"]
    assert loop_thread not in read_in


async def test_nothing_is_no_message(run: Run) -> None:
    """A stream without a word says nothing."""
    assert await relay(iter(()), run) == ""
    assert (run.messages, run.told) == ([], [])


async def test_what_the_runners_own_generator_raises_comes_out(run: Run) -> None:
    """As it is: it may be fatal, or what the runner waits for."""

    async def failing(error: Exception) -> AsyncIterator[str]:
        yield "Hel"
        raise error

    for error in (FatalError("no"), KeyError("x")):
        with pytest.raises(type(error)):
            await relay(failing(error), run)
    assert not any(message.is_completed for message in run.messages)


@pytest.mark.parametrize("stream", ["text", b"bytes", {"a": 1}, None, 7, [1, 2], [{"x": 1}], ["a", 1]], ids=repr)
async def test_what_is_no_stream_is_refused(run: Run, stream: Any) -> None:
    """With a sentence that says what is."""
    with pytest.raises(InvalidInputError, match=r"stream"):
        await relay(stream, run)


async def test_plain_json_is_read_as_well(run: Run) -> None:
    """For those who read the events without a client."""
    chunks = [{"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}]}]
    assert await relay(chunks, run) == "Hi"
    with pytest.raises(StreamError, match="overloaded"):
        await relay([{"type": "error", "error": {"message": "overloaded"}}], run)


async def test_a_tool_that_says_too_much_is_shown_in_part(run: Run) -> None:
    """The run goes on: what is shown has a limit, the tool's output doesn't."""
    arguments = '{"text": "' + "é" * 60_000 + '"}'
    async with openai_client(chat(*chat_call("c1", "weather", arguments), finish="tool_calls")) as client:
        await relay(await client.chat.completions.create(model="tiny-1", messages=PROMPT, stream=True), run)
    shown = run.told[0][1]["input"]
    assert shown.startswith('{"text":"éé')
    assert len(shown.encode()) <= 65_540


async def test_calls_have_limits(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """In number and in size: a model that has gone astray ends in an error."""
    monkeypatch.setattr(dialects, "MAX_TOOL_CALLS", 1)
    monkeypatch.setattr(dialects, "MAX_TOOL_INPUT_CHARS", 10)
    calls = [*chat_call("c1", "a"), *chat_call("c2", "b", index=1)]
    large = [*chat_call("c1", "a", "12345678901")]
    for deltas, message in ((calls, "more than 1 tools"), (large, "passes 10 characters")):
        with pytest.raises(StreamError, match=message):
            await relay([{"choices": [{"index": 0, "delta": delta}]} for delta in deltas], run)
