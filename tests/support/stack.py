"""The whole server in one process: a real worker and a real gateway on a free port, over real Redis and SQL."""

import asyncio
import itertools
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect

from runcast.app import Runcast
from runcast.assembly import migrate, serve_api, serve_worker
from runcast.config import Settings

# Below those that systems give to outgoing connections, which may take any of theirs at any moment; and each of the
# processes that run tests at the same time begins at another.
_PORTS: Final = range(20_000, 32_000)
_places: Final = itertools.count(os.getpid() * 997)


def free_port() -> int:
    """A port that nobody listens on; the same isn't given again soon."""
    for place in itertools.islice(_places, len(_PORTS)):
        port = _PORTS[place % len(_PORTS)]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Stack:
    """What a test does with a running server."""

    def __init__(self, app: Runcast, settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=10)
        self._api: asyncio.Task[None] | None = None
        self._worker: asyncio.Task[None] | None = None

    async def start_api(self) -> None:
        self._api = asyncio.create_task(serve_api(self.settings, self.app))
        async with asyncio.timeout(15):
            while not await self._is_ready():
                assert not self._api.done(), self._api
                await asyncio.sleep(0.01)

    def start_worker(self) -> None:
        self._worker = asyncio.create_task(serve_worker(self.settings, self.app))

    async def stop_worker(self) -> None:
        await _stop(self._worker)

    async def stop_api(self) -> None:
        await _stop(self._api)

    async def close(self) -> None:
        await self.stop_worker()
        await self.stop_api()
        await self.http.aclose()

    async def create(self, runner: str, **value: Any) -> str:
        answer = await self.http.post(f"/runners/{runner}/runs", json={"input": value})
        assert answer.status_code == 201, answer.text
        run_id: str = answer.json()["runId"]
        return run_id

    async def get(self, path: str) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def watch(self, run_id: str, *, after: str | None = None, **options: Any) -> connect:
        query = f"?after={after}" if after is not None else ""
        return connect(f"ws://127.0.0.1:{self.settings.port}/ws/runs/{run_id}{query}", **options)

    async def follow(self, run_id: str, *, after: str | None = None) -> list[dict[str, Any]]:
        """Everything a watcher gets until the gateway closes, heartbeats left out."""
        async with asyncio.timeout(30), self.watch(run_id, after=after) as socket:
            frames = [msgspec.json.decode(message) async for message in socket]
            assert (socket.close_code, socket.close_reason) == (1000, "run finished")
        return [frame for frame in frames if frame["type"] != "heartbeat"]

    async def _is_ready(self) -> bool:
        try:
            return (await self.http.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False


async def _stop(serving: "asyncio.Task[None] | None") -> None:
    """Stop as a signal does: one cancellation, then all the time it takes to end cleanly."""
    if serving is not None:
        serving.cancel()
        await asyncio.wait([serving])


async def receive(socket: ClientConnection) -> dict[str, Any]:
    """The next frame that isn't a heartbeat."""
    async with asyncio.timeout(10):
        while True:
            frame: dict[str, Any] = msgspec.json.decode(await socket.recv())
            if frame["type"] != "heartbeat":
                return frame


@asynccontextmanager
async def start_stack(app: Runcast, *, redis_url: str, data_dir: Path, **overrides: Any) -> AsyncIterator[Stack]:
    settings = Settings.load(
        **{"redis_url": redis_url, "data_dir": data_dir, "port": free_port(), "web_port": 0, "shutdown_seconds": 1.0}
        | overrides
    )
    await migrate(settings)
    stack = Stack(app, settings)
    try:
        await stack.start_api()
        stack.start_worker()
        yield stack
    finally:
        await stack.close()
