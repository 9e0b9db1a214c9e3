"""What the product is for, from the outside: a prompt typed in a browser runs, and every watcher sees it live."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.cli.processes import eventually
from tests.e2e.conftest import OpenTab
from tests.e2e.gates import Gates
from tests.e2e.server import Server
from tests.e2e.tab import Tab

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

TEXT = "Hello from Quik.day!"


async def test_a_prompt_runs_and_the_page_shows_each_change(tab: Tab, gates: Gates, server: Server) -> None:
    """From typing to output in one page: its statuses come in order, each is shown, and nothing is reloaded."""
    await tab.open_home()
    run_id = await tab.submit(f"Post '{TEXT}' on LinkedIn")
    await gates[TEXT].reached()
    await tab.shows("running")
    await tab.shows_steps("running")
    await expect(tab.part("connection-state")).to_have_text("live")

    gates[TEXT].open()
    await tab.ends_as("done")
    await tab.shows_steps("succeeded")
    await expect(tab.part("run-output")).to_contain_text("Posted on LinkedIn.")
    assert tab.loads == 1

    first, *events = tab.frames()
    assert (first["type"], first["payload"]["status"], first["runId"]) == ("run_status", "connected", run_id)
    assert "seq" not in first
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    statuses = [event["payload"]["status"] for event in events if event["type"] == "run_status"]
    assert statuses == ["queued", "running"]
    last = events[-1]
    assert (last["type"], last["payload"]["status"]) == ("run_completed", "done")
    assert last["payload"]["output"]["steps"][0]["output"]["dryRun"] is False
    assert {frozenset(("type", "payload", "ts", "runId")) <= frame.keys() for frame in tab.frames()} == {True}

    said = [line["event"] for line in server.read_log(run_id)]
    wanted = (
        "📡 subscription set up",
        "🔔 handler registered",
        "🔗 WebSocket connected",
        "📤 published",
        "📨 received",
    )
    assert [event for event in wanted if event not in said] == []


async def test_tabs_that_submit_at_once_see_their_own_runs_only(open_tab: OpenTab, gates: Gates) -> None:
    """Three prompts at the same time: each tab gets every event of its run, and no other's."""
    texts = ["First of three", "Second of three", "Third of three"]
    tabs = [await open_tab() for _ in texts]
    await asyncio.gather(*(tab.open_home() for tab in tabs))
    run_ids = await asyncio.gather(
        *(tab.submit(f"Post '{text}' on LinkedIn") for tab, text in zip(tabs, texts, strict=True))
    )
    assert len(set(run_ids)) == 3
    await asyncio.gather(*(gates[text].reached() for text in texts))
    for text in texts:
        gates[text].open()
    for tab, run_id, text in zip(tabs, run_ids, texts, strict=True):
        await tab.ends_as("done")
        events = tab.events()
        assert {frame["runId"] for frame in tab.frames()} == {run_id}
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        plan = next(event for event in events if event["type"] == "plan_generated")
        assert plan["payload"]["steps"][0]["input"] == {"text": text}
        assert events[-1]["type"] == "run_completed"


async def test_two_tabs_on_one_run_both_get_all(open_tab: OpenTab, gates: Gates, server: Server) -> None:
    """Whoever comes later gets what was before, and then the same events live."""
    run_id = await server.create("talk", gate=gates.url_of("two-tabs"))
    early, late = await open_tab(), await open_tab()
    await early.open_run(run_id)
    await gates["two-tabs"].reached()
    await early.shows("running")
    await late.open_run(run_id)
    await late.shows("running")
    assert (await server.get("/runs/stats"))["activeConnections"] == 2
    gates["two-tabs"].open()
    await early.ends_as("done")
    await late.ends_as("done")
    assert early.events() == late.events() == await server.read_events(run_id)


async def test_closing_the_tab_leaves_nothing_behind_and_the_run_goes_on(
    tab: Tab, gates: Gates, server: Server
) -> None:
    """A page is not its run: the gateway lets the subscription go, and the run finishes."""
    run_id = await server.create("hold", gate=gates.url_of("closed-tab"))
    await tab.open_run(run_id)
    await gates["closed-tab"].reached()
    await tab.shows("running")
    assert (await server.get("/runs/stats"))["redis"] == {"channels": 1, "handlers": 1, "connected": True}

    await tab.page.close()
    await server.has_no_watchers()
    assert (await server.get("/runs/stats"))["redis"] == {"channels": 0, "handlers": 0, "connected": True}
    said = {line["event"]: line for line in server.read_log(run_id)}
    assert said["🔌 disconnected"]["connections"] == 0
    assert said["🔕 handler removed"]["remaining"] == 0

    assert (await server.get(f"/runs/{run_id}"))["status"] == "running"
    gates["closed-tab"].open()
    await server.becomes(run_id, "done")


async def test_the_stats_tell_who_watches_what(open_tab: OpenTab, gates: Gates, server: Server) -> None:
    """Two connections open: the counts, and for each its run, how long it is open in ms, and the last status."""
    run_ids = [await server.create("hold", gate=gates.url_of("stats")) for _ in range(2)]
    tabs = [await open_tab() for _ in run_ids]
    for tab, run_id in zip(tabs, run_ids, strict=True):
        await tab.open_run(run_id)
        await tab.shows("running")

    async def are_both_counted() -> bool:  # a page may show what the API has said before its socket is open
        return bool((await server.get("/runs/stats"))["activeConnections"] == len(run_ids))

    await eventually(are_both_counted, "both pages are connected")
    stats = await server.get("/runs/stats")
    connections = stats["connections"]
    assert stats["activeConnections"] == len(connections) == 2
    assert stats["redis"] == {"channels": 2, "handlers": 2, "connected": True}
    assert all(connection.keys() >= {"runId", "duration", "lastStatus"} for connection in connections)
    assert {connection["runId"]: connection["lastStatus"] for connection in connections} == dict.fromkeys(
        run_ids, "running"
    )
    before = {connection["runId"]: connection["duration"] for connection in connections}
    assert all(isinstance(duration, int) and 0 <= duration < 20_000 for duration in before.values())

    async def have_grown() -> bool:
        now = (await server.get("/runs/stats"))["connections"]
        return all(connection["duration"] >= before[connection["runId"]] + 100 for connection in now)

    await eventually(have_grown, "durations count milliseconds")
    gates["stats"].open()
    for tab in tabs:
        await tab.ends_as("done")
    await server.has_no_watchers()
    assert (await server.get("/runs/stats"))["connections"] == []
