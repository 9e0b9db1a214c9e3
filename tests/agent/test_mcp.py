"""Tools of MCP servers, as a model is offered them: real servers, over stdio and streamable HTTP."""

import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runcast.agent.runner import register_prompt_runner
from runcast.app import Runcast
from runcast.config import Settings
from runcast.errors import ConfigurationError
from runcast.runners import PROMPT_RUNNER
from tests.support import openai_server as openai
from tests.support.durable import DurableJournal, begin_attempt
from tests.support.mcp_tools import create_server
from tests.support.model_script import ModelServer, Turn
from tests.support.service import serve

ROOT = Path(__file__).parents[2]
COMMAND = f"{sys.executable} -m tests.support.mcp_tools"


@contextlib.asynccontextmanager
async def over(transport: str, posted: list[str]) -> AsyncIterator[str]:
    """A running server, as the setting names it."""
    if transport == "stdio":
        yield COMMAND
        return
    server = create_server(posted)
    app = server.streamable_http_app()
    async with server.session_manager.run(), serve(app) as base_url:
        yield f"{base_url}/mcp"


async def execute(server: ModelServer, *servers: str, answers: Any = (), **given: Any) -> tuple[Any, DurableJournal]:
    app = Runcast()
    settings = Settings(model="gpt-test", model_url=server.base_url, mcp_servers=servers, **given)
    register_prompt_runner(app, settings)
    run, journal = begin_attempt(answers=answers)
    return await app.get_runner(PROMPT_RUNNER)(run, {"prompt": "Do it"}), journal


@pytest.fixture(autouse=True)
def _from_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where the command finds its module


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_servers_tools_are_called(transport: str) -> None:
    """One that only reads is called at once, any other asks people first; both are steps, told as tool events."""
    posted: list[str] = []
    turns = [Turn(calls=[("find", {"name": "tea"}), ("post", {"text": "Closed"})]), Turn(text=["Done"])]
    async with over(transport, posted) as place, openai.openai_server(turns) as server:
        result, journal = await execute(server, place, answers=[{"approved": True}])
    assert [each["output"] for each in result["steps"]] == [{"found": "tea"}, {"result": "Closed is on the door"}]
    assert [each["prompt"] for each in journal.asked] == ["May the model do this: post?"]
    names = [each["name"] for each in journal.payloads("step_started")]
    assert names == ["Ask the model", "Find a thing", "post", "Ask the model"]
    assert journal.payloads("step_progress") == [
        {"value": 1, "total": 2, "message": "looking"},
        {"value": 3, "total": 3, "message": "looking further than there is"},
    ]
    assert posted == ([] if transport == "stdio" else ["Closed"])  # the other's list is in another process


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_a_servers_tools_are_offered_as_it_describes_them(transport: str) -> None:
    """With its own schema; a name that a built-in tool has gets a number."""
    async with over(transport, []) as place, openai.openai_server([Turn(text=["Hi"])]) as server:
        await execute(server, place)
    offered = {each["function"]["name"]: each["function"] for each in server.asked[0]["tools"]}
    assert [*offered][-3:] == ["find", "post", "wait_2"]
    assert offered["find"]["description"] == "Find a thing in the shop."
    assert offered["find"]["parameters"]["required"] == ["name"]


async def test_a_tool_that_fails_is_heard_by_the_model() -> None:
    """The server's words come back as the call's error, and the run goes on."""
    turns = [Turn(calls=[("wait_2", {"reason": "no tea"}), ("find", {"nam": 1})]), Turn(text=["A pity."])]
    async with over("http", []) as place, openai.openai_server(turns) as server:
        result, journal = await execute(server, place, tool_approval="never")
    told = [json.loads(each["content"]) for each in server.asked[1]["messages"] if each["role"] == "tool"]
    assert "no tea" in told[0]["error"]["message"]
    assert told[1]["error"]["code"] == "tool_failed"
    assert (result["summary"], len(journal.payloads("tool_failed"))) == ("A pity.", 2)


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/mcp", "/nowhere/at-all --flag", f"{sys.executable} -c pass"])
async def test_a_server_that_is_not_there_is_left_out(place: str) -> None:
    """The run does without its tools, and its log says so."""
    async with over("http", []) as there, openai.openai_server([Turn(text=["Hi"])]) as server:
        result, journal = await execute(server, place, there)
    (told,) = journal.payloads("log")
    assert (told["level"], told["message"].startswith("the MCP server ")) == ("warning", True)
    assert result["summary"] == "Hi"
    assert "post" in {each["function"]["name"] for each in server.asked[0]["tools"]}


def test_servers_are_a_list_of_texts() -> None:
    """Separated by commas, or as JSON where a command holds commas."""
    assert Settings(mcp_servers="http://a/mcp, npx b").mcp_servers == ("http://a/mcp", "npx b")  # type: ignore[arg-type] # as in the environment
    assert Settings(mcp_servers='["npx b --c=1,2"]').mcp_servers == ("npx b --c=1,2",)  # type: ignore[arg-type] # the same
    with pytest.raises(ConfigurationError, match="RUNCAST_MCP_SERVERS: that is not a JSON list"):
        Settings.load(mcp_servers='["npx')
