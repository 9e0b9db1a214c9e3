"""The console in the hand: cancel, keyboard, phone, dark and light, the list, the API's page."""

import re

import pytest
from playwright.async_api import Page, expect

from tests.e2e.conftest import OpenTab
from tests.e2e.gates import Gates
from tests.e2e.server import Server
from tests.e2e.tab import Tab

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PHONE = {"width": 360, "height": 740}
MAX_TABS = 40  # more presses than any page has places to stop at


async def test_the_cancel_button_stops_the_run(tab: Tab, gates: Gates, server: Server) -> None:
    """The runner really lets go of what it was doing, and the page shows the run as canceled."""
    run_id = await server.create("hold", gate=gates.url_of("cancel"))
    await tab.open_run(run_id)
    await gates["cancel"].reached()
    await tab.part("cancel-button").click()
    await gates["cancel"].left()
    await tab.ends_as("canceled")
    await tab.shows_steps("canceled")
    await expect(tab.part("cancel-button")).to_have_count(0)
    assert tab.loads == 1


async def test_run_again_starts_a_new_run_of_the_same(tab: Tab, server: Server) -> None:
    """The page of the new run comes up with the same prompt."""
    await tab.open_home()
    first = await tab.submit("wait 1 ms then wait 2 ms")
    await tab.ends_as("done")
    await tab.part("repeat-button").click()
    await expect(tab.page).not_to_have_url(re.compile(first))
    await expect(tab.part("run-title")).to_have_text("wait 1 ms then wait 2 ms")
    await tab.ends_as("done")
    await tab.shows_steps("succeeded", "succeeded")
    assert tab.run_id != first
    assert (await server.get(f"/runs/{tab.run_id}"))["prompt"] == "wait 1 ms then wait 2 ms"


async def test_the_list_is_live(tab: Tab, gates: Gates, server: Server) -> None:
    """A run that somebody else starts appears in the list and moves there; a filter shows what it should."""
    await tab.open_home()
    run_id = await server.create("hold", gate=gates.url_of("list"))
    item = tab.page.locator(f"[data-run-id='{run_id}']")
    await expect(item.get_by_test_id("run-status")).to_have_text("running")
    gates["list"].open()
    await expect(item.get_by_test_id("run-status")).to_have_text("done")
    await tab.part("run-filter-status").select_option("running")
    await expect(item).to_have_count(0)
    await tab.part("run-filter-status").select_option("done")
    await expect(item).to_be_visible()
    await tab.part("run-filter-text").fill("no run has this text")
    await expect(tab.part("run-item")).to_have_count(0)
    assert tab.loads == 1


async def test_everything_works_by_keyboard(tab: Tab, gates: Gates) -> None:
    """Typing, running, canceling and coming back without a mouse; what has the focus shows it."""
    await tab.open_home()
    keyboard = tab.page.keyboard
    await expect(tab.part("prompt-input")).to_be_focused()
    await keyboard.type("Post 'By keyboard' on LinkedIn")
    await keyboard.press("Enter")
    await gates["By keyboard"].reached()
    await tab.shows("running")
    run_id = tab.run_id

    await _tab_to(tab.page, "cancel-button")
    outline = await tab.part("cancel-button").evaluate("(button) => getComputedStyle(button).outlineStyle")
    assert outline != "none"
    await keyboard.press("Enter")
    await tab.ends_as("canceled")

    await tab.open_home()
    link = tab.page.locator(f"[data-run-id='{run_id}'] a")
    await _tab_to(tab.page, "run-filter-status")
    await keyboard.press("Tab")
    await expect(link).to_be_focused()
    await keyboard.press("Enter")
    await expect(tab.part("run-title")).to_have_text("Post 'By keyboard' on LinkedIn")


async def test_a_phone_scrolls_only_down(open_tab: OpenTab, server: Server) -> None:
    """At 360 pixels nothing sticks out sideways: the first page, a finished run, a failed one, the longest words."""
    tab = await open_tab(viewport=PHONE, has_touch=True, is_mobile=True)
    await tab.open_home()
    long_word = "x" * 300
    await tab.submit(f"wait 1 ms then {long_word}")
    await tab.ends_as("failed")
    assert await _overhang(tab.page) == 0
    await tab.open_home()
    await expect(tab.part("run-item").first).to_be_visible()
    assert await _overhang(tab.page) == 0
    await tab.open_run(await server.create("count", number=10**15))
    await tab.ends_as("done")
    await tab.part("step-item").locator("summary").first.click()
    assert await _overhang(tab.page) == 0


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
async def test_the_page_is_as_dark_as_the_system(
    open_tab: OpenTab,
    scheme: str,
    is_dark: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Ground and text follow the system's scheme, with the contrast that reading takes (WCAG AA, 4.5 to 1)."""
    tab = await open_tab(color_scheme=scheme)
    await tab.open_home()
    ground = _luminance(await _colour(tab.page, "html", "backgroundColor"))
    ink = _luminance(await _colour(tab.page, "body", "color"))
    assert (ground < ink) is is_dark
    assert (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05) >= 4.5


async def test_the_apis_page_renders(tab: Tab, server: Server) -> None:
    """/docs shows every operation, from this server's own files."""
    foreign: list[str] = []
    tab.page.on("request", lambda request: foreign.append(request.url) if server.url not in request.url else None)
    await tab.page.goto(f"{server.url}/docs")
    await expect(tab.page.locator(".info .title")).to_contain_text("Runcast")
    operations = (await server.get("/openapi.json"))["paths"]
    await expect(tab.page.locator(".opblock")).to_have_count(sum(map(len, operations.values())))
    assert [url for url in foreign if not url.startswith("data:")] == []


async def _tab_to(page: Page, test_id: str) -> None:
    target = page.get_by_test_id(test_id)
    for _ in range(MAX_TABS):
        await page.keyboard.press("Tab")
        if await target.evaluate("(element) => element === document.activeElement"):
            return
    raise AssertionError(f"{test_id} can't be reached by Tab")


async def _overhang(page: Page) -> int:
    """By how many pixels the page is wider than the phone. The window doesn't tell: it widens with its content."""
    width: int = await page.evaluate("() => Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)")
    return max(width - PHONE["width"], 0)


async def _colour(page: Page, element: str, name: str) -> list[int]:
    text: str = await page.locator(element).evaluate("(element, name) => getComputedStyle(element)[name]", name)
    return [int(part) for part in re.findall(r"\d+", text)[:3]]


def _luminance(colour: list[int]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    shares = [part / 255 for part in colour]
    linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
