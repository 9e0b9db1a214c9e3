"""Event streams against a whole server: their form, their end, and readers that come back, lag or leave."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runcast import Runcast, RunContext
from tests.gateway.conftest import Gates
from tests.gateway.test_api import assert_problem
from tests.gateway.transports import EVENT_STREAM, EventSource, open_stream, wait_for_handlers
from tests.support.stack import Stack, start_stack


async def test_a_run_is_a_stream_of_blocks(stack: Stack) -> None:
    """`retry` first, `connected` next, each event with its cursor as id, `bye` at last without one."""
    run_id = await stack.create("greet", name="Ada")
    async with open_stream(stack, run_id) as source:
        retry, hello, *events, bye = await source.receive_rest()
    assert retry == {"retry": "1000"}
    assert (hello.frame["payload"]["status"], hello.frame["runId"]) == ("connected", run_id)
    assert [block["id"] for block in events] == ["0-1", "1-2", "1-3", "1-4", "1-5"]
    assert [f"{block.frame['attempt']}-{block.frame['seq']}" for block in events] == [block["id"] for block in events]
    assert bye.frame["payload"] == {"reason": "finished", "lastSeq": 5, "status": "done", "final": True}
    assert set(hello) == set(bye) == {"data"}


async def test_nothing_on_the_way_holds_the_stream_back(stack: Stack) -> None:
    """Not cached, not buffered, not compressed."""
    async with open_stream(stack, await stack.create("greet", name="Ada"), **{"accept-encoding": "gzip"}) as source:
        headers = source.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
        assert "content-encoding" not in headers
        assert (await source.receive()) == {"retry": "1000"}


async def test_a_browser_goes_on_after_the_last_id(stack: Stack) -> None:
    """`Last-Event-ID` counts, whatever cursor the address still has in it."""
    run_id = await stack.create("greet", name="Ada", times=2)
    async with open_stream(stack, run_id) as source:
        whole = (await source.receive_rest())[2:]
    for seen, block in enumerate(whole[:-2], 1):
        async with open_stream(stack, run_id, "?after=0", **{"last-event-id": block["id"]}) as source:
            rest = (await source.receive_rest())[2:]
        assert rest[:-1] == whole[seen:-1]


@pytest.mark.parametrize("cursor", [{"last-event-id": "1-5"}, {"last-event-id": "5"}, {"last-event-id": "1-99"}])
async def test_a_browser_that_comes_back_after_the_end_is_sent_away(stack: Stack, cursor: dict[str, str]) -> None:
    """204: to an EventSource that means not to come again."""
    run_id = await stack.create("greet", name="Ada")
    await stack.follow(run_id)
    answer = await stack.http.get(f"/runs/{run_id}/events", headers=EVENT_STREAM | cursor)
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/runs", {"runner": "greet", "input": {"name": "Ada"}}), ("/runners/greet/runs", {"input": {"name": "Ada"}})],
)
async def test_create_and_follow_are_one_request(stack: Stack, path: str, body: dict[str, Any]) -> None:
    """201 with the run's address; the stream says which run it is, then tells it from its first event on."""
    body = body | {"idempotencyKey": "k"}
    for expected in (201, 200):
        async with stack.http.stream("POST", path, json=body, headers=EVENT_STREAM) as response:
            assert response.status_code == expected
            blocks = await EventSource(response).receive_rest()
        assert response.headers["location"] == f"/runs/{blocks[1].frame['runId']}"
        assert blocks[1].frame["payload"]["status"] == "connected"
        assert [block.frame["seq"] for block in blocks[2:-1]] == [1, 2, 3, 4, 5]


async def test_what_cannot_be_created_is_a_problem_and_no_stream(stack: Stack) -> None:
    """As without following."""
    answer = await stack.http.post("/runs", json={"runner": "nobody"}, headers=EVENT_STREAM)
    assert_problem(answer, 404, "runner_not_found")


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("?after=x", {}, 400, "invalid_cursor"),
        ("", {"last-event-id": "x"}, 400, "invalid_cursor"),
        ("?after=1&starting_after=1", {}, 400, "ambiguous_cursor"),
        ("", {}, 404, "run_not_found"),
    ],
)
async def test_what_keeps_a_stream_from_starting_is_a_problem(
    stack: Stack, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    """A proper answer, not a stream that breaks."""
    answer = await stack.http.get(f"/runs/nobody/events{query}", headers=EVENT_STREAM | headers)
    assert_problem(answer, status, code)


async def test_a_full_gateway_creates_nothing_that_it_cannot_show(app: Runcast, redis_url: str, tmp_path: Path) -> None:
    """503 before the run is stored, so that asking again doesn't make two."""
    async with (
        start_stack(app, redis_url=redis_url, data_dir=tmp_path, max_watchers=1) as stack,
        open_stream(stack, await stack.create("hold", gate="a")),
    ):
        answer = await stack.http.post("/runs", json={"prompt": "wait 0 s"}, headers=EVENT_STREAM)
        assert_problem(answer, 503, "unavailable")
        assert len((await stack.get("/runs"))["runs"]) == 1


async def test_starting_after_is_another_name_of_after(stack: Stack) -> None:
    """The same cursor, the same frames."""
    run_id = await stack.create("greet", name="Ada")
    async with open_stream(stack, run_id, "?starting_after=1-3") as source:
        assert [block["id"] for block in (await source.receive_rest())[2:-1]] == ["1-4", "1-5"]


async def test_a_quiet_stream_shows_that_it_lives(app: Runcast, redis_url: str, tmp_path: Path, gates: Gates) -> None:
    """Heartbeats, without an id: the browser's cursor stays where the last event was."""
    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path, heartbeat_seconds=0.05) as stack:
        async with open_stream(stack, await stack.create("hold", gate="a")) as source, asyncio.timeout(10):
            lines = source.response.aiter_lines()
            while '"heartbeat"' not in (line := await anext(lines)):
                previous = line
        gates["a"].set()
    assert line.startswith("data: ")
    assert previous == ""


async def test_a_stopping_gateway_ends_its_streams(stack: Stack, gates: Gates) -> None:
    """`bye` says that it isn't the run that has ended."""
    async with open_stream(stack, await stack.create("hold", gate="a")) as source:
        await source.receive()
        await source.receive()
        stopping = asyncio.create_task(stack.stop_api())
        *_, bye = await source.receive_rest()
    await stopping
    gates["a"].set()
    assert bye.frame["type"] == "bye"
    assert (bye.frame["payload"]["reason"], bye.frame["payload"]["final"]) == ("restart", False)


async def test_a_reader_that_leaves_leaves_nothing_behind(stack: Stack, gates: Gates) -> None:
    """The gateway stops listening for it; the run goes on."""
    run_id = await stack.create("hold", gate="a")
    async with open_stream(stack, run_id) as source:
        await source.receive()
        await source.receive()
        await wait_for_handlers(stack, 1)
        assert [each["transport"] for each in (await stack.get("/runs/stats"))["connections"]] == ["sse"]
    await wait_for_handlers(stack, 0)
    gates["a"].set()
    assert (await stack.follow(run_id))[-1]["type"] == "run_completed"


async def test_a_slow_reader_gets_everything_and_holds_up_nobody(app: Runcast, stack: Stack) -> None:
    """It reads nothing until others have seen the end; then it reads 1, 2, 3 … n.

    20 MB: several times what the buffers of both sockets hold, so the gateway has to wait for the reader.
    """

    @app.runner
    async def shout(run: RunContext) -> None:
        for _ in range(20):
            for _ in range(100):
                run.emit("custom", {"name": "shout", "data": "A" * 10_000})
            await run.step("breathe", str)  # until the archive has it: a runner may not outrun its worker's memory

    run_id = await stack.create("shout")
    async with _open_slowly(stack, run_id) as reader:
        quick = await stack.follow(run_id)
        assert quick[-1]["type"] == "run_completed"
        assert [each["transport"] for each in (await stack.get("/runs/stats"))["connections"]] == ["sse"]
        async with asyncio.timeout(30):
            received = await reader.read()
    frames = [msgspec.json.decode(line[6:]) for line in received.split(b"\n") if line.startswith(b"data: ")]
    assert [frame["seq"] for frame in frames if "seq" in frame] == list(range(1, 2_044))
    assert frames[-1]["payload"]["reason"] == "finished"


@asynccontextmanager
async def _open_slowly(stack: Stack, run_id: str) -> AsyncIterator[asyncio.StreamReader]:
    """A reader with small buffers, so that little of the stream is under way while it doesn't read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", stack.settings.port))
    reader, writer = await asyncio.open_connection(sock=client, limit=4096)
    # HTTP/1.0: the body ends with the connection and comes as it is, without chunks.
    writer.write(f"GET /runs/{run_id}/events HTTP/1.0\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
    try:
        assert b"200" in await reader.readline()
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()
