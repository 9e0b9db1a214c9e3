"""A tab of the browser with the console in it, and everything that came in on its WebSockets."""

import json
from typing import Any

from playwright.async_api import BrowserContext, Locator, Page, WebSocket, expect

RUN_SECONDS = 20


class Tab:
    """One page. `faults` has what a user's console would show in red on account of the page's own code."""

    def __init__(self, context: BrowserContext, page: Page, url: str) -> None:
        self.context = context
        self.page = page
        self.loads = 0  # documents loaded: one, unless the page was reloaded
        self.faults: list[str] = []
        self.run_sockets: list[tuple[str, list[dict[str, Any]]]] = []  # run id and frames of each, in order
        self._url = url
        page.on("load", lambda _: self._note_load())
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self._note_console(message.type, message.text))
        page.on("websocket", self._note_socket)

    @property
    def run_id(self) -> str:
        """The run whose page is open."""
        return self.page.url.rpartition("/runs/")[2]

    @property
    def status(self) -> Locator:
        """The status of the run whose page is open."""
        return self.page.locator(".run-head").get_by_test_id("run-status")

    def part(self, test_id: str) -> Locator:
        return self.page.get_by_test_id(test_id)

    async def open_home(self) -> None:
        await self.page.goto(self._url)
        await expect(self.part("connection-state")).to_have_text("live")

    async def open_run(self, run_id: str) -> None:
        await self.page.goto(f"{self._url}/runs/{run_id}")

    async def submit(self, prompt: str) -> str:
        """Type a prompt, run it, and return the id of the run whose page comes up."""
        await self.part("prompt-input").fill(prompt)
        await self.part("prompt-submit").click()
        await expect(self.part("run-title")).to_have_text(prompt)
        return self.run_id

    async def shows(self, status: str) -> None:
        await expect(self.status).to_have_text(status, timeout=RUN_SECONDS * 1000)

    async def ends_as(self, status: str) -> None:
        """Shows how the run ended and has all of it: how it ended may be known before its last events have come."""
        await self.shows(status)
        await expect(self.part("connection-state")).to_have_text("finished", timeout=RUN_SECONDS * 1000)

    async def shows_steps(self, *statuses: str) -> None:
        steps = self.part("step-item")
        await expect(steps).to_have_count(len(statuses))
        for step, status in zip(await steps.all(), statuses, strict=True):
            await expect(step).to_have_attribute("data-status", status)

    def frames(self) -> list[dict[str, Any]]:
        """What the page's one connection to a run has brought, heartbeats left out."""
        assert len(self.run_sockets) == 1, [run_id for run_id, _ in self.run_sockets]
        return [frame for frame in self.run_sockets[0][1] if frame["type"] != "heartbeat"]

    def events(self) -> list[dict[str, Any]]:
        """The events among the frames: `connected` and other control frames have no seq."""
        return [frame for frame in self.frames() if "seq" in frame]

    def _note_load(self) -> None:
        self.loads += 1

    def _note_console(self, kind: str, text: str) -> None:
        # Requests that the server refuses are noted by the browser as well; those belong to the tests that make them.
        if kind == "error" and not text.startswith(("Failed to load resource", "WebSocket connection to")):
            self.faults.append(text)

    def _note_socket(self, socket: WebSocket) -> None:
        _, is_run, run_id = socket.url.partition("?")[0].partition("/ws/runs/")
        if is_run:
            frames: list[dict[str, Any]] = []
            self.run_sockets.append((run_id, frames))
            socket.on("framereceived", lambda payload: frames.append(json.loads(payload)))
