"""Snapshots against a whole server: a late watcher gets where the run stands in one frame, then what follows."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from runcast import Runcast, RunContext
from runcast.core.snapshot import RunFold
from runcast.events import decode_event, encode_json
from tests.gateway.conftest import Gates
from tests.gateway.transports import open_stream
from tests.support.stack import Stack, receive

Frame = dict[str, Any]


async def from_websocket(stack: Stack, run_id: str, query: str) -> list[Frame]:
    async with stack.watch(f"{run_id}{query}") as socket:
        frames = [msgspec.json.decode(message) async for message in socket]
    return [frame for frame in frames if frame["type"] != "heartbeat"]


async def from_stream(stack: Stack, run_id: str, query: str) -> list[Frame]:
    async with open_stream(stack, run_id, query) as source:
        return [block.frame for block in (await source.receive_rest())[1:-1]]


both = pytest.mark.parametrize("follow", [from_websocket, from_stream], ids=["websocket", "sse"])
Follow = Callable[[Stack, str, str], Awaitable[list[Frame]]]


def fold(frames: list[Frame]) -> dict[str, Any]:
    """The state that a watcher comes to: from the snapshot if there is one, and the events after it."""
    events = [decode_event(encode_json(frame)) for frame in frames if "seq" in frame]
    snapshots = [frame["payload"] for frame in frames if frame["type"] == "snapshot"]
    folded = RunFold.restore(snapshots[0]) if snapshots else RunFold()
    folded.receive(events)
    return folded.describe()


@both
async def test_five_thousand_tokens_come_as_one_small_frame(stack: Stack, follow: Follow) -> None:
    """Connected, snapshot, and no event: the run has ended."""
    run_id = await stack.create("talk", tokens=5_000)
    whole = await stack.follow(run_id)
    connected, snapshot = await follow(stack, run_id, "?snapshot=1")
    assert (connected["payload"]["status"], snapshot["type"], snapshot["runId"]) == ("connected", "snapshot", run_id)
    assert snapshot["payload"] == {
        "to": "1-5005",
        "status": "done",
        "steps": [],
        "messages": [{"messageId": "m", "text": "the " * 5_000, "completed": True}],
        "requests": [],
        "output": {},
    }
    assert len(encode_json(snapshot)) < 21_000
    assert fold([connected, snapshot]) == fold(whole)


async def test_a_snapshot_of_a_live_run_is_followed_by_the_rest(stack: Stack, gates: Gates) -> None:
    """No event is in both, none in neither; who comes later gets what was folded since, too."""
    run_id = await stack.create("hold", gate="a")
    async with stack.watch(run_id) as whole, stack.watch(f"{run_id}?snapshot=1") as early:
        while (await receive(whole))["type"] != "log":
            pass
        async with stack.watch(f"{run_id}?snapshot=true") as late:
            frames = [await receive(late), await receive(late)]
            gates["a"].set()
            frames += [msgspec.json.decode(message) async for message in late]
        first = [msgspec.json.decode(message) async for message in early]
    assert frames[1]["payload"]["to"] == "1-3"
    assert [frame["seq"] for frame in frames if "seq" in frame] == [4]
    assert fold(frames) == fold(first) == fold(await stack.follow(run_id))


@both
async def test_who_brings_a_cursor_has_a_state_already(stack: Stack, follow: Follow) -> None:
    """It goes on from there, with events: a browser's reconnect asks with the same address."""
    run_id = await stack.create("greet", name="Ada")
    await stack.follow(run_id)
    frames = await follow(stack, run_id, "?snapshot=1&after=1-3")
    assert [frame.get("seq") for frame in frames] == [None, 4, 5]


@both
async def test_without_asking_nobody_gets_a_snapshot(stack: Stack, follow: Follow) -> None:
    """Only one that was asked for may jump ahead."""
    run_id = await stack.create("greet", name="Ada")
    await stack.follow(run_id)
    assert [frame.get("seq") for frame in await follow(stack, run_id, "?snapshot=0")] == [None, 1, 2, 3, 4, 5]


async def test_a_run_too_large_for_a_snapshot_is_told_by_its_events(app: Runcast, stack: Stack) -> None:
    """Above 1 MiB there is none, for whoever asks."""

    @app.runner
    async def novel(run: RunContext) -> None:
        for _ in range(12):
            run.emit("message_delta", {"messageId": "m", "delta": "x" * 100_000})

    run_id = await stack.create("novel")
    await stack.follow(run_id)
    for _ in range(2):
        frames = await from_websocket(stack, run_id, "?snapshot=1")
        assert [frame.get("seq") for frame in frames] == [None, *range(1, 16)]
