"""A running server with runners that tests can hold, release and break."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import uvloop

from runcast import Runcast, RunContext
from tests.support.stack import Stack, start_stack


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on asyncio's loop; those that are marked for it on the one that the command prefers, too."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    marker = item.get_closest_marker("asyncio")
    if marker is not None and marker.kwargs.get("loop_factories"):
        loops["uvloop"] = uvloop.new_event_loop
    return loops


class Gates:
    """Points where a runner waits until the test lets it go on."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def __getitem__(self, name: str) -> asyncio.Event:
        return self._events.setdefault(name, asyncio.Event())


@pytest.fixture
def gates() -> Gates:
    return Gates()


@pytest.fixture
def app(gates: Gates) -> Runcast:
    app = Runcast()

    @app.runner
    async def greet(run: RunContext, name: str, times: int = 1) -> dict[str, Any]:
        """Says hello."""
        words = [await run.step(f"word {number}", lambda: f"hello {name}") for number in range(times)]
        return {"words": words}

    @app.runner
    async def hold(run: RunContext, gate: str) -> dict[str, Any]:
        """Waits until the test lets it go."""
        run.emit("log", {"text": "holding"})
        await gates[gate].wait()
        return {"held": gate}

    @app.runner
    async def talk(run: RunContext, tokens: int) -> dict[str, Any]:
        """Streams tokens, many of them the same."""
        run.emit("message_started", {"messageId": "m"})
        for number in range(tokens):
            run.emit("message_delta", {"messageId": "m", "delta": "the "})
            if number % 100 == 0:
                await asyncio.sleep(0)
        run.emit("message_completed", {"messageId": "m", "text": "the " * tokens})
        return {}

    @app.runner
    async def explode(run: RunContext, where: str = "runner") -> dict[str, Any]:
        """Raises."""

        def bang() -> None:
            raise ValueError("boom in a step")

        if where == "step":
            await run.step("bang", bang)
        if where == "output":
            return {"not json": object()}
        raise RuntimeError("boom")

    return app


@pytest.fixture
async def stack(app: Runcast, redis_url: str, tmp_path: Path) -> AsyncIterator[Stack]:
    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path) as stack:
        yield stack
