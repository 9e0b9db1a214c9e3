"""Watching a run over WebSocket, against a whole server: once, in order, from any cursor."""

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from runcast.backends.redis_client import open_redis
from tests.gateway.conftest import Gates
from tests.support.stack import Stack, receive


def types_of(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames]


def statuses_of(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["payload"]["status"] for frame in frames if frame["type"] in {"run_status", "run_completed"}]


def seqs_of(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["seq"] for frame in frames if "seq" in frame]


async def test_a_watcher_sees_the_whole_life_of_a_run(stack: Stack) -> None:
    """Connected first, then every event, then the end and a normal close."""
    frames = await stack.follow(await stack.create("greet", name="Ada"))
    assert statuses_of(frames) == ["connected", "queued", "running", "done"]
    assert types_of(frames)[3:5] == ["step_started", "step_succeeded"]
    assert frames[-1]["payload"] == {"status": "done", "output": {"words": ["hello Ada"]}}
    assert seqs_of(frames) == [1, 2, 3, 4, 5]


async def test_the_first_frame_says_where_the_run_stands(stack: Stack, gates: Gates) -> None:
    """Last seq, status and whether it has ended; no seq of its own."""
    run_id = await stack.create("hold", gate="a")
    async with stack.watch(run_id) as socket:
        while (await receive(socket))["type"] != "log":
            pass
        async with stack.watch(run_id) as late:
            hello = await receive(late)
        gates["a"].set()
    assert hello["payload"] == {"status": "connected", "lastSeq": 3, "runStatus": "running", "final": False}
    assert set(hello) == {"type", "payload", "ts", "runId"}


async def test_every_cursor_gives_exactly_the_rest(stack: Stack) -> None:
    """From wherever a watcher starts it gets what comes after, by cursor or by plain seq."""
    run_id = await stack.create("greet", name="Ada", times=3)
    whole = await stack.follow(run_id)
    for after in range(len(whole)):
        attempt = whole[after]["attempt"] if after else 0
        assert (await stack.follow(run_id, after=f"{attempt}-{after}"))[1:] == whole[after + 1 :]
        assert (await stack.follow(run_id, after=str(after)))[1:] == whole[after + 1 :]


async def test_repeated_tokens_all_arrive(stack: Stack) -> None:
    """Equal content isn't a repetition: "the the the" stays what it is."""
    frames = await stack.follow(await stack.create("talk", tokens=2_000))
    deltas = [frame["payload"]["delta"] for frame in frames if frame["type"] == "message_delta"]
    assert deltas == ["the "] * 2_000
    assert seqs_of(frames) == list(range(1, len(frames)))


async def test_a_slow_watcher_holds_up_nobody_and_loses_nothing(stack: Stack) -> None:
    """Its socket fills up and its cursor lags; the others go on, and it gets everything when it reads again."""
    run_id = await stack.create("talk", tokens=20_000)
    async with stack.watch(run_id, max_queue=1) as slow:
        await receive(slow)
        assert seqs_of(await stack.follow(run_id)) == list(range(1, 20_006))
        frames = [msgspec.json.decode(message) async for message in slow]
    assert seqs_of(frames) == list(range(1, 20_006))


async def test_watchers_of_a_run_share_one_subscription(stack: Stack, gates: Gates) -> None:
    """However many watch, the gateway listens once; when the last leaves, it stops."""
    run_id = await stack.create("hold", gate="a")
    async with stack.watch(run_id) as first, stack.watch(run_id) as second:
        await receive(first)
        await receive(second)
        stats = await stack.get("/runs/stats")
        assert stats["activeConnections"] == 2
        assert stats["redis"] == {"channels": 1, "handlers": 1, "connected": True}
    await _wait_for_stats(stack, {"channels": 0, "handlers": 0, "connected": True})
    gates["a"].set()
    assert statuses_of(await stack.follow(run_id))[-1] == "done"


async def test_stats_tell_of_each_connection(stack: Stack, gates: Gates) -> None:
    """Two connections to two runs: two channels, two handlers, and how long each has been there."""
    runs = [await stack.create("hold", gate="a") for _ in range(2)]
    async with stack.watch(runs[0]) as first, stack.watch(runs[1]) as second:
        for socket in (first, second):
            while (await receive(socket))["type"] != "log":
                pass
        stats = await stack.get("/runs/stats")
    gates["a"].set()
    assert stats["redis"] == {"channels": 2, "handlers": 2, "connected": True}
    assert {each["runId"] for each in stats["connections"]} == set(runs)
    assert all(each["lastStatus"] == "running" and 0 <= each["duration"] < 60_000 for each in stats["connections"])


async def test_closing_a_socket_does_not_stop_the_run(stack: Stack, gates: Gates) -> None:
    """Whoever stops watching only stops watching."""
    run_id = await stack.create("hold", gate="a")
    async with stack.watch(run_id) as socket:
        await receive(socket)
    gates["a"].set()
    assert statuses_of(await stack.follow(run_id))[-1] == "done"


async def test_a_watcher_on_a_quiet_run_gets_heartbeats(stack: Stack, gates: Gates) -> None:
    """At least every five seconds, and they say where the run stands."""
    run_id = await stack.create("hold", gate="a")
    async with asyncio.timeout(10), stack.watch(run_id) as socket:
        while (frame := msgspec.json.decode(await socket.recv()))["type"] != "heartbeat":
            pass
    gates["a"].set()
    assert frame["payload"] == {"lastSeq": 3, "status": "running", "final": False}


async def test_a_run_that_redis_has_forgotten_is_replayed_from_the_database(stack: Stack, redis_url: str) -> None:
    """The watcher can't tell where its events come from."""
    run_id = await stack.create("greet", name="Ada", times=5)
    before = await stack.follow(run_id)
    client = open_redis(redis_url)
    await client.delete(f"{{run:{run_id}}}:log")
    await client.aclose()
    assert (await stack.follow(run_id))[1:] == before[1:]


@pytest.mark.parametrize(
    ("run_id", "query", "code"),
    [("nobody", "", 4404), ("nobody", "?after=x", 4400), ("%7Bx%7D", "", 4404), ("a" * 500, "", 4404)],
)
async def test_what_cannot_be_watched_is_closed_with_a_reason(stack: Stack, run_id: str, query: str, code: int) -> None:
    """An unknown run, or a cursor that is none."""
    async with connect(f"ws://127.0.0.1:{stack.settings.port}/ws/runs/{run_id}{query}") as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert closed.value.rcvd.reason


async def test_a_foreign_page_may_not_open_a_socket(stack: Stack) -> None:
    """A WebSocket isn't bound by the same-origin policy, so the server has to look."""
    with pytest.raises(InvalidStatus) as refused:
        async with stack.watch("x", origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403


async def test_the_list_of_runs_hears_every_status(stack: Stack) -> None:
    """`/ws/runs` carries the statuses of all runs and nothing else."""
    async with connect(f"ws://127.0.0.1:{stack.settings.port}/ws/runs") as socket:
        assert (await receive(socket))["payload"] == {"status": "connected"}
        run_ids = {await stack.create("greet", name=name) for name in ("a", "b")}
        heard: dict[str, list[str]] = {}
        while sum(map(len, heard.values())) < 6:
            frame = await receive(socket)
            heard.setdefault(frame["runId"], []).append(frame["payload"]["status"])
    assert heard == {run_id: ["queued", "running", "done"] for run_id in run_ids}


async def test_a_stopping_gateway_says_goodbye(stack: Stack, gates: Gates) -> None:
    """Watchers learn that they should come back with their cursor."""
    run_id = await stack.create("hold", gate="a")
    async with stack.watch(run_id) as socket:
        await receive(socket)
        stopping = asyncio.create_task(stack.stop_api())
        with contextlib.suppress(ConnectionClosed):
            async for _ in socket:
                pass
    await stopping
    gates["a"].set()
    assert socket.close_code == 1012


async def _wait_for_stats(stack: Stack, expected: dict[str, Any]) -> None:
    async with asyncio.timeout(10):
        while (await stack.get("/runs/stats"))["redis"] != expected:
            await asyncio.sleep(0.01)
