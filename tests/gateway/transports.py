"""Following a run over each transport, as a plain client would: every one gives the list of frames it was sent."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect

from tests.support.stack import Stack

Frame = dict[str, Any]
Follow = Callable[[Stack, str, str | None], Coroutine[Any, Any, list[Frame]]]

EVENT_STREAM = {"accept": "text/event-stream"}


class Block(dict[str, str]):
    """One block of an event stream, by field."""

    @property
    def frame(self) -> Frame:
        frame: Frame = msgspec.json.decode(self["data"])
        return frame


class EventSource:
    """An open event stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._blocks = self._read()

    async def receive(self) -> Block:
        """The next block that isn't a heartbeat."""
        async with asyncio.timeout(10):
            while True:
                block = await anext(self._blocks)
                if "data" not in block or block.frame["type"] != "heartbeat":
                    return block

    async def receive_rest(self) -> list[Block]:
        """All blocks until the stream ends, heartbeats left out."""
        async with asyncio.timeout(30):
            return [block async for block in self._blocks if "data" not in block or block.frame["type"] != "heartbeat"]

    async def _read(self) -> AsyncIterator[Block]:
        block = Block()
        async for line in self.response.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                assert name in {"id", "data", "retry"}, line
                block[name] = value
            else:
                yield block
                block = Block()
        assert not block, "the stream ended within a block"


@asynccontextmanager
async def open_stream(stack: Stack, run_id: str, query: str = "", **headers: str) -> AsyncIterator[EventSource]:
    address = f"/runs/{run_id}/events{query}"
    async with stack.http.stream("GET", address, headers=EVENT_STREAM | headers) as response:
        assert response.status_code == 200, await response.aread()
        yield EventSource(response)


def open_many(stack: Stack, **options: Any) -> connect:
    """A socket of many runs."""
    return connect(f"ws://127.0.0.1:{stack.settings.port}/ws/runs", **options)


async def send(socket: ClientConnection, **frame: Any) -> None:
    await socket.send(msgspec.json.encode(frame).decode())


async def follow_websocket(stack: Stack, run_id: str, after: str | None) -> list[Frame]:
    return await stack.follow(run_id, after=after)


async def follow_multiplex(stack: Stack, run_id: str, after: str | None) -> list[Frame]:
    frames: list[Frame] = []
    cursor = {} if after is None else {"after": after}
    async with asyncio.timeout(30), open_many(stack) as socket:
        await send(socket, type="subscribe", runId=run_id, **cursor)
        async for message in socket:
            frame = msgspec.json.decode(message)
            if frame["type"] == "bye":
                break
            if frame.get("runId") == run_id and frame["type"] != "heartbeat":
                frames.append(frame)
    return frames


async def follow_stream(stack: Stack, run_id: str, after: str | None) -> list[Frame]:
    async with open_stream(stack, run_id, "" if after is None else f"?after={after}") as source:
        retry, *blocks, bye = await source.receive_rest()
    assert retry == {"retry": "1000"}
    assert bye.frame["type"] == "bye"
    return [block.frame for block in blocks]


async def follow_pages(stack: Stack, run_id: str, after: str | None, *, query: str) -> list[Frame]:
    page: dict[str, Any] = {"cursor": after or "0", "final": False}
    frames: list[Frame] = []
    async with asyncio.timeout(30):
        while not page["final"]:
            page = await stack.get(f"/runs/{run_id}/events?after={page['cursor']}{query}")
            if "rewind" in page:
                frames.append({"type": "rewind", "payload": {"to": page["rewind"]}, "runId": run_id})
            frames += page["events"]
            if not page["events"] and not query.startswith("&wait"):
                await asyncio.sleep(0.02)  # plain pages can only ask again
    return frames


async def follow_long_poll(stack: Stack, run_id: str, after: str | None) -> list[Frame]:
    return await follow_pages(stack, run_id, after, query="&wait=10")


async def follow_plain_pages(stack: Stack, run_id: str, after: str | None) -> list[Frame]:
    return await follow_pages(stack, run_id, after, query="&limit=7")


STREAMING: dict[str, Follow] = {
    "websocket": follow_websocket,
    "multiplex": follow_multiplex,
    "sse": follow_stream,
}
ALL: dict[str, Follow] = {**STREAMING, "long-poll": follow_long_poll, "pages": follow_plain_pages}


def comparable(frames: list[Frame]) -> list[Frame]:
    """The frames without those that only some transports have, and without the moment they were sent."""
    return [
        frame if "seq" in frame else {key: value for key, value in frame.items() if key != "ts"}
        for frame in frames
        if frame["payload"].get("status") != "connected"
    ]


async def wait_for_handlers(stack: Stack, count: int) -> None:
    """Return once the gateway listens to so many runs and has as many connections."""
    async with asyncio.timeout(10):
        while True:
            stats = await stack.get("/runs/stats")
            if stats["redis"]["handlers"] == stats["activeConnections"] == count:
                return
            await asyncio.sleep(0.01)
