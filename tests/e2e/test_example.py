"""The example of the README, started as the README says and used in a browser."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.e2e.server import run_up
from tests.e2e.tab import Tab

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

EXAMPLE = str(Path(__file__).parents[2] / "examples" / "hello.py")


async def test_the_example_greets(browser: Browser, tmp_path: Path) -> None:
    """Its runner takes its one field and shows steps and text; beside it prompts run, dry without credentials."""
    async with run_up(tmp_path, EXAMPLE) as server:
        context = await browser.new_context()
        tab = Tab(context, await context.new_page(), server.url)
        await tab.open_home()
        await tab.part("runner-select").select_option("hello")
        await tab.page.get_by_label("name").fill("Ada")
        await tab.part("prompt-submit").click()
        await tab.ends_as("done")
        await tab.shows_steps("succeeded", "succeeded")
        await expect(tab.part("run-text")).to_have_text("Hello Ada, nice to see you live")
        await expect(tab.part("run-output")).to_contain_text("Hello Ada")

        await tab.open_home()
        await tab.submit("Post 'Hello from Quik.day!' on LinkedIn")
        await tab.ends_as("done")
        await expect(tab.part("step-item").get_by_text("dry run")).to_be_visible()
        await expect(tab.part("run-output")).to_contain_text("nothing was sent")
        await context.close()
        assert tab.faults == []
