"""One `runcast up` and one Chromium for the folder; each test has tabs of its own and leaves no watcher behind."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.e2e.gates import Gates, serve_gates
from tests.e2e.server import Server, run_up
from tests.e2e.tab import Tab
from tests.support.chromium import find_chromium

APP = str(Path(__file__).parent / "app.py")
OpenTab = Callable[..., Awaitable[Tab]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gates() -> AsyncIterator[Gates]:
    async with serve_gates() as gates:
        yield gates


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(gates: Gates, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    settings = {
        "RUNCAST_LEASE_SECONDS": "3",  # a dead worker's run is another's after so long
        "RUNCAST_LINKEDIN_URL": gates.url,
        "RUNCAST_LINKEDIN_ACCESS_TOKEN": "token-for-tests",
        "RUNCAST_LINKEDIN_AUTHOR": "urn:li:person:tests",
    }
    async with run_up(tmp_path_factory.mktemp("up"), APP, **settings) as server:
        yield server
        gates.open_all()  # what a failed test has left waiting


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    options: dict[str, Any] = find_chromium().launch_options()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(**options)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_tab(browser: Browser, server: Server) -> AsyncIterator[OpenTab]:
    """Opens a tab in a browser profile of its own; takes playwright's options for one."""
    tabs: list[Tab] = []

    async def open_tab(**options: Any) -> Tab:
        context = await browser.new_context(**options)
        tabs.append(Tab(context, await context.new_page(), server.url))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        await tab.context.close()
    await server.has_no_watchers()
    assert [tab.faults for tab in tabs if tab.faults] == []


@pytest_asyncio.fixture(loop_scope="session")
async def tab(open_tab: OpenTab) -> Tab:
    return await open_tab()
