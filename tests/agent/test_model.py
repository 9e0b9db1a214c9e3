"""The prompt runner with a model, against servers that speak the makers' published streaming APIs."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.responses import Response

from runcast.agent.runner import register_prompt_runner
from runcast.app import Runcast
from runcast.config import Settings
from runcast.errors import ConfigurationError, ModelError, OutcomeUnknownError
from runcast.runners import PROMPT_RUNNER
from tests.support import anthropic_server as anthropic
from tests.support import linkedin_server as linkedin
from tests.support import openai_server as openai
from tests.support.durable import DurableJournal, Past, begin_attempt
from tests.support.model_script import ModelServer, Turn

WAIT = ("wait", {"seconds": 0.001})
POST = ("linkedin", {"text": "Hello"})


def app_with(settings: Settings, *functions: tuple[Callable[..., Any], str]) -> Runcast:
    """An application with the prompt runner and own tools, each with its risk."""
    app = Runcast()
    for function, risk in functions:
        app.tool(risk=risk)(function)  # type: ignore[call-overload] # the risk is a parameter here
    register_prompt_runner(app, settings)
    return app


def settings_for(server: ModelServer, **given: Any) -> Settings:
    """Settings that name a stand-in of OpenAI's API."""
    return Settings(**{"model": "openai:gpt-test", "model_url": server.base_url, "model_api_key": openai.KEY, **given})


async def execute(
    app: Runcast, prompt: str, *, past: Past | None = None, mode: str = "auto", answers: Iterable[Any] = ()
) -> tuple[Any, DurableJournal]:
    """Run a prompt as a worker does: what it gave, and what it said."""
    run, journal = begin_attempt(past, answers=answers)
    return await app.get_runner(PROMPT_RUNNER)(run, {"prompt": prompt, "mode": mode}), journal


@contextlib.asynccontextmanager
async def makers(maker: str, turns: Sequence[Turn]) -> AsyncIterator[tuple[ModelServer, Settings]]:
    """A stand-in for a maker, and settings that name it."""
    if maker == "openai":
        async with openai.openai_server(turns) as server:
            yield server, settings_for(server)
    else:
        async with anthropic.anthropic_server(turns) as server:
            yield server, settings_for(server, model="anthropic:claude-test", model_api_key=anthropic.KEY)


@pytest.mark.parametrize("maker", ["openai", "anthropic"])
async def test_a_prompt_as_watchers_see_it(maker: str) -> None:
    """Text comes bit by bit, a call as tool events inside its step, and what was used after each answer."""
    turns = [Turn(text=["I will ", "wait."], calls=[WAIT]), Turn(text=["I ", "have ", "waited."])]
    async with makers(maker, turns) as (server, settings):
        result, journal = await execute(app_with(settings), "Wait a little")
    assert [each for each in journal.types if each != "message_delta"] == [
        *("step_started", "message_started", "usage", "step_succeeded", "message_completed"),
        *("step_started", "tool_started", "step_progress", "tool_completed", "step_succeeded"),
        *("step_started", "message_started", "usage", "step_succeeded", "message_completed"),
    ]
    assert [each["delta"] for each in journal.payloads("message_delta")] == [
        *("I will ", "wait."),
        *("I ", "have ", "waited."),
    ]
    assert [each["text"] for each in journal.payloads("message_completed")] == ["I will wait.", "I have waited."]
    (started,) = journal.payloads("tool_started")
    (completed,) = journal.payloads("tool_completed")
    assert (started["tool"], started["input"]) == WAIT
    assert completed == {"toolCallId": started["toolCallId"], "tool": "wait", "output": {"waitedSeconds": 0.001}}
    figures = [(each["inputTokens"], each["outputTokens"]) for each in journal.payloads("usage")]
    assert figures == [(10, 1), (20, 2)]
    assert result == {
        "summary": "I have waited.",
        "steps": [{"tool": "wait", "output": {"waitedSeconds": 0.001}}],
    }
    assert len(server.asked) == 2


async def test_the_model_is_offered_every_tool_with_its_schema() -> None:
    """Built-in ones and the application's own, as the registry describes them; the limit of tokens goes along."""

    def find(name: str) -> None:
        """Find a thing."""

    async with openai.openai_server([Turn(text=["Hi"])]) as server:
        app = app_with(settings_for(server, model_max_tokens=99), (find, "read"))
        await execute(app, "Say hi")
    (asked,) = server.asked
    offered = {each["function"]["name"]: each["function"] for each in asked["tools"]}
    assert list(offered) == list(app.tools)
    assert offered["find"]["description"] == "Find a thing."
    assert offered["find"]["parameters"]["properties"]["name"]["type"] == "string"
    assert 99 in (asked.get("max_tokens"), asked.get("max_completion_tokens"))
    assert asked["messages"][-1] == {"role": "user", "content": "Say hi"}


async def test_what_a_call_gave_is_told_to_the_model() -> None:
    """The output of each call comes back under the call's id, a failure as well, and long ones cut."""

    def find(name: str) -> dict[str, str]:
        if name == "nothing":
            raise LookupError("no such thing")
        return {"found": name * 30_000}

    calls = [("find", {"name": "nothing"}), ("find", {"name": "x"}), ("find", {"nam": 1}), ("fly", {}), ("find", "{")]
    async with openai.openai_server([Turn(calls=calls), Turn(text=["Done"])]) as server:
        result, journal = await execute(app_with(settings_for(server), (find, "read")), "Find")
    told = [each["content"] for each in server.asked[1]["messages"] if each["role"] == "tool"]
    assert json.loads(told[0]) == {"error": {"code": "tool_failed", "message": "find: no such thing"}}
    assert (len(told[1]) < 21_000, told[1].endswith("… (cut off)")) == (True, True)
    assert "input.name: Field required" in told[2]
    assert json.loads(told[3]) == {"error": "there is no tool 'fly'"}
    assert json.loads(told[4]) == {"error": "the arguments are not a JSON object"}
    assert len(journal.payloads("tool_failed")) == len(journal.payloads("tool_completed")) == 1
    assert [each["level"] for each in journal.payloads("log")] == ["warning"] * 3
    assert result["summary"] == "Done"


async def test_a_call_that_publishes_asks_people_first() -> None:
    """In `auto` only what writes or publishes asks; who declines is heard by the model, and nothing is sent."""
    turns = [Turn(calls=[WAIT, POST, POST]), Turn(text=["Done"])]
    answers = [{"approved": False, "comment": "not today"}, {"approved": True}]
    async with openai.openai_server(turns) as server, linkedin.linkedin_server() as posts:
        given = {
            "linkedin_url": posts.base_url,
            "linkedin_access_token": linkedin.TOKEN,
            "linkedin_author": linkedin.AUTHOR,
        }
        result, journal = await execute(app_with(settings_for(server, **given)), "Post", answers=answers)
    assert [each["prompt"] for each in journal.asked] == ["May the model do this: Post on LinkedIn?"] * 2
    assert journal.asked[0]["preview"] == {"tool": "linkedin", "input": {"text": "Hello"}}
    told = [json.loads(each["content"]) for each in server.asked[1]["messages"] if each["role"] == "tool"]
    assert told[1] == {"declined": "not today"}
    assert told[2]["urn"] == "urn:li:share:7000000001"
    assert len(posts.received) == 1
    assert [each["tool"] for each in result["steps"]] == ["wait", "linkedin"]


async def test_who_wants_it_is_never_asked() -> None:
    """RUNCAST_TOOL_APPROVAL=never lets every call through."""
    called: list[str] = []

    def remove(name: str) -> None:
        called.append(name)

    async with openai.openai_server([Turn(calls=[("remove", {"name": "a"})]), Turn(text=["Done"])]) as server:
        app = app_with(settings_for(server, tool_approval="never"), (remove, "write"))
        _, journal = await execute(app, "Remove a")
    assert (called, journal.asked) == (["a"], [])


async def test_in_approval_each_answers_calls_are_one_plan() -> None:
    """The calls of one answer are shown together; those that are approved are made, the model hears of the others."""
    turns = [Turn(calls=[WAIT, ("wait", {"seconds": 0.002})]), Turn(text=["Done"])]
    async with openai.openai_server(turns) as server:
        answers = [{"approved": True, "steps": [2]}]
        result, journal = await execute(app_with(settings_for(server)), "Wait twice", mode="approval", answers=answers)
    (asked,) = journal.asked
    assert (asked["prompt"], asked["preview"]) == ("Make these calls?", journal.payloads("plan_generated")[0])
    assert [each["output"] for each in result["steps"]] == [{"waitedSeconds": 0.002}]
    told = [json.loads(each["content"]) for each in server.asked[1]["messages"] if each["role"] == "tool"]
    assert told[0] == {"declined": "somebody has declined this call"}


async def test_a_preview_makes_no_call() -> None:
    """In `preview` the calls that the model would make are told and given, and that is all."""
    async with openai.openai_server([Turn(text=["I would wait."], calls=[WAIT])]) as server:
        result, journal = await execute(app_with(settings_for(server)), "Wait", mode="preview")
    plan = [{"index": 1, "name": "Wait 0.001 seconds", "tool": "wait", "input": {"seconds": 0.001}}]
    assert result == {"summary": "I would wait.", "plan": plan}
    assert journal.payloads("plan_generated") == [{"steps": plan}]
    assert (journal.payloads("tool_started"), journal.asked) == ([], [])


async def lose(app: Runcast, past: Past, is_there: asyncio.Event) -> DurableJournal:
    """Begin an attempt, and lose its worker at that moment."""
    run, journal = begin_attempt(past)
    attempt = asyncio.ensure_future(app.get_runner(PROMPT_RUNNER)(run, {"prompt": "Do it"}))
    waiting = asyncio.ensure_future(is_there.wait())
    await asyncio.wait([attempt, waiting], return_when=asyncio.FIRST_COMPLETED)
    assert not attempt.done(), attempt.exception()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    return journal


async def test_a_later_attempt_goes_on_in_the_conversation() -> None:
    """What the model has said and what its calls gave is committed: neither is asked for or made again."""
    called: list[str] = []

    def note(text: str) -> str:
        called.append(text)
        return f"noted {text}"

    over = asyncio.Event()
    held = Turn(text=["Half a sen"], hold=over)
    turns = [Turn(text=["Noting."], calls=[("note", {"text": "a"})]), held, Turn(text=["Noted."])]
    past = Past()
    async with openai.openai_server(turns) as server:
        app = app_with(settings_for(server), (note, "none"))
        await lose(app, past, held.is_there)
        result, journal = await execute(app, "Do it", past=past)
        over.set()
    assert called == ["a"]
    assert result == {"summary": "Noted.", "steps": [{"tool": "note", "output": "noted a"}]}
    assert server.asked[2]["messages"] == server.asked[1]["messages"]
    assert [each["name"] for each in journal.payloads("step_started")] == ["Ask the model"]
    assert past.texts == {"answer-1": "Noting.", "answer-2": "Noted."}


async def test_a_text_whose_end_was_not_committed_is_said_again() -> None:
    """If the answer is committed and its message isn't, the next attempt says the recorded text, not another one."""
    past = Past()
    async with openai.openai_server([Turn(text=["Hello", "."])]) as server:
        app = app_with(settings_for(server))
        await execute(app, "Say hello", past=past)
        past.texts.clear()
        result, journal = await execute(app, "Say hello", past=past)
    assert [each["delta"] for each in journal.payloads("message_delta")] == ["Hello."]
    assert (result["summary"], len(server.asked)) == ("Hello.", 1)


async def test_a_call_that_publishes_is_never_made_twice() -> None:
    """A worker lost in the middle of such a call leaves it open: the next attempt ends and says where to look."""
    begun = asyncio.Event()

    async def publish(text: str) -> None:
        assert text == "a"
        begun.set()
        await asyncio.Event().wait()

    past = Past()
    async with openai.openai_server([Turn(calls=[("publish", {"text": "a"})])]) as server:
        app = app_with(settings_for(server, tool_approval="never"), (publish, "publish"))
        await lose(app, past, begun)
        with pytest.raises(OutcomeUnknownError, match="the worker was lost in the step publish"):
            await execute(app, "Do it", past=past)


async def test_a_model_that_comes_to_no_end_is_stopped() -> None:
    """After so many answers the run fails and names the setting."""
    async with openai.openai_server([Turn(calls=[WAIT])] * 3) as server:
        with pytest.raises(ModelError, match=r"2 times .* RUNCAST_MODEL_MAX_STEPS"):
            await execute(app_with(settings_for(server, model_max_steps=2)), "Wait for ever")
    assert len(server.asked) == 2


async def test_an_answer_that_takes_too_long_is_given_up() -> None:
    """A model that falls silent costs a bounded time."""
    over = asyncio.Event()
    async with openai.openai_server([Turn(text=["Hm"], hold=over)]) as server:
        with pytest.raises(ModelError, match="RUNCAST_MODEL_TIMEOUT_SECONDS") as caught:
            await execute(app_with(settings_for(server, model_timeout_seconds=0.5)), "Think")
        over.set()
    assert caught.value.is_retryable


async def test_an_answer_that_was_cut_off_is_told() -> None:
    """The run's log says which limit was reached."""
    async with openai.openai_server([Turn(text=["Half a sen"], is_cut=True)]) as server:
        _, journal = await execute(app_with(settings_for(server, model_max_tokens=16)), "Tell")
    (told,) = journal.payloads("log")
    assert (told["level"], "RUNCAST_MODEL_MAX_TOKENS" in told["message"]) == ("warning", True)


@pytest.mark.parametrize("maker", ["openai", "anthropic"])
async def test_a_connection_that_breaks_is_no_answer(maker: str) -> None:
    """Half an answer isn't taken for a whole one."""
    async with makers(maker, [Turn(text=["Half a sen"], breaks_off=True)]) as (_, settings):
        with pytest.raises(ModelError):
            await execute(app_with(settings), "Tell")


@pytest.mark.parametrize("maker", ["openai", "anthropic"])
async def test_a_wrong_key_is_refused_and_told_nowhere(maker: str) -> None:
    """The error has the maker's words without the key."""
    async with makers(maker, []) as (_, settings):
        wrong = settings.model_copy(update={"model_api_key": SecretStr("wrong-secret")})
        run, journal = begin_attempt()
        with pytest.raises(ModelError, match="refused with status 401") as caught:
            await app_with(wrong).get_runner(PROMPT_RUNNER)(run, {"prompt": "Hi"})
    assert "wrong-secret" not in str(caught.value) + json.dumps(journal.events)
    assert not caught.value.is_retryable


async def test_a_model_that_is_busy_is_asked_again_and_then_given_up() -> None:
    """A refusal for the moment is repeated by the library; if it lasts, the error says that later may work."""
    asked: list[str] = []

    def busy(request: Any) -> Response:
        asked.append(request.url.path)
        response = openai.refuse(429, "slow down")
        response.headers["retry-after-ms"] = "1"
        return response

    async with openai.openai_server([], answer=busy) as server:
        with pytest.raises(ModelError, match="status 429: “slow down”; trying again later may work") as caught:
            await execute(app_with(settings_for(server)), "Hi")
    assert (caught.value.is_retryable, len(asked)) == (True, 3)


async def test_an_endpoint_without_a_key() -> None:
    """A local model needs no key, and its name may hold a colon."""
    async with openai.openai_server([Turn(text=["Hi"])]) as server:
        settings = Settings(model="llama3:8b", model_url=server.base_url)
        result, _ = await execute(app_with(settings), "Say hi")
    assert (result["summary"], server.asked[0]["model"]) == ("Hi", "llama3:8b")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"model": "gpt"}, "must be openai:NAME or anthropic:NAME"),
        ({"model": "openai:gpt"}, "RUNCAST_MODEL_API_KEY must be, too"),
        (
            {"model": "gpt", "model_url": "http://example.com", "model_api_key": "k"},
            "RUNCAST_MODEL_URL must be an https",
        ),
        ({"model": "openai:gpt", "model_api_key": "k", "mcp_servers": '["\'"]'}, "neither a URL nor a command"),
    ],
)
def test_settings_that_can_not_work(given: dict[str, str], reason: str) -> None:
    """What names no model, or would give the key away, is refused before any run."""
    with pytest.raises(ConfigurationError, match=reason):
        app_with(Settings(**given))  # type: ignore[arg-type] # the settings check


def test_without_the_extra_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without its packages stops the start in words."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'runcast\[model\]'"):
        app_with(Settings(model="openai:gpt", model_api_key="k"))  # type: ignore[arg-type] # pydantic makes it a secret
