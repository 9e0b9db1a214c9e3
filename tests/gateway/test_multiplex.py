"""Many runs on one socket, against a whole server: by id, by tag, all; ends, mistakes and limits."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection

from runcast import Runcast, RunContext
from runcast.errors import InvalidInputError, RunNotFoundError, UnavailableError
from runcast.events import START, RunStatus
from runcast.gateway.multiplex import MAX_MISTAKES
from runcast.gateway.subscriptions import Interests, read_client_frame
from runcast.gateway.tags import RunTags
from runcast.records import Run
from tests.gateway.conftest import Gates
from tests.gateway.transports import open_many, send, wait_for_handlers
from tests.support.stack import Stack, receive

Frame = dict[str, Any]


async def create_tagged(stack: Stack, *tags: str) -> str:
    answer = await stack.http.post("/runs", json={"runner": "greet", "input": {"name": "Ada"}, "tags": tags})
    run_id: str = answer.json()["runId"]
    return run_id


async def receive_until_bye(socket: ClientConnection, *run_ids: str) -> dict[str, list[Frame]]:
    """The frames of these runs, each until its bye."""
    frames: dict[str, list[Frame]] = {run_id: [] for run_id in run_ids}
    waiting = set(run_ids)
    while waiting:
        frame = await receive(socket)
        frames[frame["runId"]].append(frame)
        if frame["type"] == "bye":
            waiting.remove(frame["runId"])
    return frames


async def receive_close(socket: ClientConnection) -> tuple[int, str]:
    async with asyncio.timeout(10):
        await socket.wait_closed()
    assert socket.close_code is not None
    return socket.close_code, socket.close_reason or ""


async def test_each_run_is_followed_from_its_own_cursor(stack: Stack, gates: Gates) -> None:
    """Connected, its events, bye; the socket stays open for others."""
    ended, waiting = await stack.create("greet", name="Ada"), await stack.create("hold", gate="a")
    whole = await stack.follow(ended)
    async with open_many(stack) as socket:
        assert (await receive(socket))["payload"] == {"status": "connected"}
        await send(socket, type="subscribe", runId=waiting)
        await send(socket, type="subscribe", runId=ended, after="1-3")
        while (await receive(socket))["type"] != "bye":
            pass
        gates["a"].set()
        await receive_until_bye(socket, waiting)
        await send(socket, type="subscribe", runId=ended, startingAfter="1-3")
        frames = (await receive_until_bye(socket, ended))[ended]
    assert frames[0]["payload"]["status"] == "connected"
    assert frames[1:-1] == whole[4:]
    assert frames[-1]["payload"] == {"reason": "finished", "lastSeq": 5, "status": "done", "final": True}


async def test_fifty_runs_need_one_socket(stack: Stack) -> None:
    """Every one of them whole and in order."""
    run_ids = [await stack.create("greet", name=str(number)) for number in range(50)]
    async with open_many(stack) as socket:
        for run_id in run_ids:
            await send(socket, type="subscribe", runId=run_id)
        await receive(socket)
        frames = await receive_until_bye(socket, *run_ids)
    for of_run in frames.values():
        assert [frame["seq"] for frame in of_run[1:-1]] == [1, 2, 3, 4, 5]


async def test_runs_on_a_socket_count_as_connections(stack: Stack, gates: Gates) -> None:
    """Each as one; when the socket goes, all of them go."""
    run_ids = {await stack.create("hold", gate="a") for _ in range(3)}
    async with open_many(stack) as socket:
        for run_id in run_ids:
            await send(socket, type="subscribe", runId=run_id)
        await wait_for_handlers(stack, 3)
        connections = (await stack.get("/runs/stats"))["connections"]
        assert {(each["runId"], each["transport"]) for each in connections} == {(each, "multiplex") for each in run_ids}
    await wait_for_handlers(stack, 0)
    gates["a"].set()


async def test_unsubscribing_ends_a_run_s_frames(stack: Stack, gates: Gates) -> None:
    """`bye` is its last frame here, however much the run still says; it may be subscribed to again."""
    run_id = await stack.create("hold", gate="a")
    async with open_many(stack) as socket:
        await send(socket, type="subscribe", runId=run_id)
        await wait_for_handlers(stack, 1)
        await send(socket, type="unsubscribe", runId=run_id)
        await receive(socket)
        frames = (await receive_until_bye(socket, run_id))[run_id]
        assert frames[-1]["payload"] == {"reason": "unsubscribed"}
        await wait_for_handlers(stack, 0)
        gates["a"].set()
        await send(socket, type="subscribe", runId=run_id)
        frames = (await receive_until_bye(socket, run_id))[run_id]
        assert [frame["seq"] for frame in frames[1:-1]] == [1, 2, 3, 4]


async def test_a_tag_brings_the_statuses_of_its_runs(stack: Stack) -> None:
    """And of no others; the answer to the subscription says from when on."""
    async with open_many(stack) as socket:
        await receive(socket)
        await send(socket, type="subscribe", tag="blue")
        assert (await receive(socket))["payload"] == {"status": "connected", "tag": "blue"}
        await create_tagged(stack, "red")
        blue = await create_tagged(stack, "red", "blue")
        frames = [await receive(socket) for _ in range(3)]
        assert [(frame["runId"], frame["payload"]["status"]) for frame in frames] == [
            (blue, "queued"),
            (blue, "running"),
            (blue, "done"),
        ]
        await send(socket, type="unsubscribe", tag="blue")
        assert (await receive(socket))["payload"] == {"reason": "unsubscribed", "tag": "blue"}


async def test_all_brings_what_the_socket_began_with(stack: Stack) -> None:
    """The first frame of a client ends it; `all` begins it again."""
    async with open_many(stack) as socket:
        await receive(socket)
        await send(socket, type="unsubscribe", all=True)
        assert (await receive(socket))["payload"] == {"reason": "unsubscribed", "all": True}
        await stack.follow(await stack.create("greet", name="unheard"))
        await send(socket, type="subscribe", all=True)
        assert (await receive(socket))["payload"] == {"status": "connected", "all": True}
        run_id = await stack.create("greet", name="heard")
        assert [(await receive(socket))["runId"] for _ in range(3)] == [run_id] * 3


async def test_what_cannot_be_followed_is_an_error_frame(stack: Stack) -> None:
    """With the run it is about; the socket goes on."""
    async with open_many(stack) as socket:
        await receive(socket)
        await send(socket, type="subscribe", runId="nobody")
        error = await receive(socket)
        assert error["type"] == "error"
        assert (error["payload"]["code"], error["payload"]["runId"]) == ("run_not_found", "nobody")
        assert error["payload"]["message"]
        await send(socket, type="subscribe", all=True)
        assert (await receive(socket))["type"] == "run_status"


async def test_a_run_is_followed_once(stack: Stack, gates: Gates) -> None:
    """A second cursor for it would make two streams of one."""
    run_id = await stack.create("hold", gate="a")
    async with open_many(stack) as socket:
        await send(socket, type="subscribe", runId=run_id)
        await wait_for_handlers(stack, 1)
        await send(socket, type="subscribe", runId=run_id)
        while (frame := await receive(socket))["type"] != "error":
            pass
    gates["a"].set()
    assert frame["payload"]["code"] == "invalid_input"


async def test_a_socket_has_so_many_subscriptions(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused, and those that there are stay."""
    monkeypatch.setattr("runcast.gateway.multiplex.MAX_SUBSCRIPTIONS", 2)
    async with open_many(stack) as socket:
        await receive(socket)
        for tag in ("a", "b", "c"):
            await send(socket, type="subscribe", tag=tag)
        frames = [await receive(socket) for _ in range(3)]
        assert [frame["type"] for frame in frames] == ["run_status", "run_status", "error"]
        assert frames[2]["payload"]["code"] == "too_many_subscriptions"
        await create_tagged(stack, "a")
        assert (await receive(socket))["payload"]["status"] == "queued"


async def test_too_many_mistakes_close_the_socket(stack: Stack) -> None:
    """Each is answered; the last one closes."""
    async with open_many(stack) as socket:
        await receive(socket)
        for _ in range(MAX_MISTAKES):
            await socket.send("{nope")
        for _ in range(MAX_MISTAKES - 1):
            assert (await receive(socket))["payload"]["code"] == "invalid_input"
        assert (await receive_close(socket))[0] == 4400


async def test_a_frame_that_is_too_large_closes_the_socket(stack: Stack) -> None:
    """4 KiB is enough for whatever there is to say."""
    async with open_many(stack) as socket:
        await receive(socket)
        await send(socket, type="subscribe", runId="x" * 5_000)
        assert (await receive_close(socket))[0] == 1009


async def test_a_stopping_gateway_closes_the_socket(stack: Stack, gates: Gates) -> None:
    """With 1012, as every other."""
    run_id = await stack.create("hold", gate="a")
    async with open_many(stack) as socket:
        await send(socket, type="subscribe", runId=run_id)
        await wait_for_handlers(stack, 1)
        stopping = asyncio.create_task(stack.stop_api())
        assert (await receive_close(socket))[0] == 1012
    await stopping
    gates["a"].set()


async def test_a_run_with_much_to_say_leaves_others_their_turn(app: Runcast, stack: Stack) -> None:
    """Megabytes of one run are waiting to be read; a small run's frames come between them, not after."""

    @app.runner
    async def shout(run: RunContext) -> None:
        for _ in range(10):
            for _ in range(100):
                run.emit("custom", {"name": "shout", "data": "A" * 10_000})
            await run.step("breathe", str)

    loud, small = await stack.create("shout"), await stack.create("greet", name="Ada")
    await stack.follow(loud)
    await stack.follow(small)
    async with open_many(stack, max_queue=1) as socket:
        await send(socket, type="subscribe", runId=loud)
        await send(socket, type="subscribe", runId=small)
        order: list[str | None] = []
        while order.count("bye") < 2:
            frame = msgspec.json.decode(await socket.recv())
            order.append("bye" if frame["type"] == "bye" else frame.get("runId"))
    assert order.index("bye") < order.count(loud) / 2
    assert (order.count(small), order.count(loud)) == (6, 1 + 1_023)


def test_a_client_frame_says_one_thing() -> None:
    """Whatever else it says is a mistake with a reason."""
    frame = read_client_frame('{"type":"subscribe","runId":"r","after":"1-4"}')
    assert (frame.run_id, str(frame.start)) == ("r", "1-4")
    for text in (
        "",
        "[]",
        '{"type":"subscribe"}',
        '{"type":"subscribe","runId":"r","tag":"t"}',
        '{"type":"subscribe","runId":"r","after":"x"}',
        '{"type":"subscribe","runId":"r","after":"1","startingAfter":"1"}',
        '{"type":"subscribe","tag":""}',
        '{"type":"subscribe","tag":"t","after":"1-4"}',
        '{"type":"subscribe","all":false}',
        '{"type":"subscribe","runId":7}',
        '{"type":"subscribe","runId":"r","surprise":1}',
        '{"type":"shout","runId":"r"}',
    ):
        with pytest.raises(InvalidInputError):
            read_client_frame(text)


def test_following_a_run_alone_ends_the_statuses_of_all() -> None:
    """Whoever says what it wants gets that and nothing else."""
    interests = Interests()
    assert interests.is_any
    interests.receive(read_client_frame('{"type":"subscribe","runId":"r"}'))
    assert not interests.is_any


class Runs:
    """Runs to be looked up, and how often they were."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.is_down = False

    async def find(self, run_id: str) -> Run:
        self.asked.append(run_id)
        await asyncio.sleep(0)
        if self.is_down:
            raise UnavailableError("down")
        if run_id == "nobody":
            raise RunNotFoundError(run_id)
        return _run(run_id)


async def test_a_run_s_tags_are_looked_up_once() -> None:
    """By whoever asks first; the others wait for the same answer."""
    runs = Runs()
    tags = RunTags(runs.find)
    assert await asyncio.gather(*(tags.of("r") for _ in range(5))) == [frozenset({"tag-of-r"})] * 5
    assert await tags.of("r") == {"tag-of-r"}
    assert await tags.of("nobody") == frozenset()
    assert runs.asked == ["r", "nobody"]


async def test_tags_that_could_not_be_looked_up_are_asked_for_again() -> None:
    """A failure isn't an answer."""
    runs = Runs()
    tags = RunTags(runs.find)
    runs.is_down = True
    with pytest.raises(UnavailableError):
        await tags.of("r")
    runs.is_down = False
    assert await tags.of("r") == {"tag-of-r"}


async def test_only_so_many_tags_are_kept() -> None:
    """The oldest goes first and is looked up again."""
    runs = Runs()
    tags = RunTags(runs.find, max_runs=2)
    for run_id in ("a", "b", "c", "b", "a"):
        await tags.of(run_id)
    assert runs.asked == ["a", "b", "c", "a"]


def _run(run_id: str) -> Run:
    return Run(
        id=run_id,
        runner="greet",
        status=RunStatus.QUEUED,
        attempt=0,
        last=START,
        input={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        tags=(f"tag-of-{run_id}",),
    )


async def wait_for_connections(stack: Stack, count: int) -> None:
    async with asyncio.timeout(10):
        while (await stack.get("/runs/stats"))["activeConnections"] != count:
            await asyncio.sleep(0.01)


async def test_a_socket_that_follows_only_a_tag_counts_as_one_connection(stack: Stack, gates: Gates) -> None:
    """One that follows runs counts once for each; one that follows nothing, or has gone, not at all."""
    runs = [await stack.create("hold", gate="a") for _ in range(2)]
    async with open_many(stack) as tagged, open_many(stack) as following:
        await send(tagged, type="subscribe", tag="blue")
        await wait_for_connections(stack, 2)
        for run_id in runs:
            await send(following, type="subscribe", runId=run_id)
        await wait_for_connections(stack, 3)
        for run_id in runs:
            await send(following, type="unsubscribe", runId=run_id)
        await wait_for_connections(stack, 1)
        await send(following, type="subscribe", runId=runs[0])
        await send(following, type="subscribe", tag="blue")
        gates["a"].set()
        await receive_until_type(following, "bye")
        await wait_for_connections(stack, 2)
    await wait_for_connections(stack, 0)


async def receive_until_type(socket: ClientConnection, kind: str) -> None:
    while (frame := await receive(socket))["type"] != kind or frame["payload"].get("reason") == "unsubscribed":
        pass
