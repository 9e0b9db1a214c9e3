"""A prompt with a model on the whole server: a real worker, a real log, and watchers."""

from pathlib import Path

from runcast.app import Runcast
from tests.support.model_script import Turn
from tests.support.openai_server import openai_server
from tests.support.stack import start_stack


async def test_a_watcher_sees_a_model_at_work(redis_url: str, tmp_path: Path) -> None:
    """Text, a call and the end come to whoever watches, in order, and the calendar file can be found."""
    event = ("calendar", {"title": "Lunch", "start": "2030-01-31T12:30"})
    turns = [Turn(text=["One ", "moment."], calls=[event]), Turn(text=["Here ", "it is."])]
    async with openai_server(turns) as server:
        given = {"model": "gpt-test", "model_url": server.base_url}
        async with start_stack(Runcast(), redis_url=redis_url, data_dir=tmp_path, **given) as stack:
            frames = await stack.follow(await stack.create("prompt", prompt="Schedule lunch"))
    types = [frame["type"] for frame in frames]
    assert [each for each in types if each.startswith(("tool", "artifact"))] == [
        "tool_started",
        "tool_completed",
        "artifact",
    ]
    texts = [frame["payload"]["text"] for frame in frames if frame["type"] == "message_completed"]
    assert texts == ["One moment.", "Here it is."]
    (end,) = [frame["payload"] for frame in frames if frame["type"] == "run_completed"]
    assert (end["output"]["summary"], end["output"]["steps"][0]["tool"]) == ("Here it is.", "calendar")
