"""People in the loop, and what else a run's page offers: forms, answers, files, undo, runs that started others."""

import re

import httpx
import pytest
from playwright.async_api import Locator, expect

from tests.e2e.conftest import OpenTab
from tests.e2e.gates import Gates
from tests.e2e.server import Server
from tests.e2e.tab import Tab

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PHONE = {"width": 360, "height": 740}


async def test_a_form_is_made_from_the_signature(tab: Tab, server: Server) -> None:
    """Every kind of field, what is wrong told at its field, and the very values reach the runner."""
    await tab.open_home()
    await tab.part("runner-select").select_option("order")
    await expect(tab.part("runner-description")).to_have_text("Takes an order and gives it back.")
    await _field(tab, "customer").locator("input").fill("Ada")
    await _field(tab, "size").locator("select").select_option("large")
    await _field(tab, "day").locator("input").fill("2026-02-03")
    await _field(tab, "address.city").locator("input").fill("Bonn")
    await _field(tab, "pieces").locator("input").fill("11")
    await _field(tab, "is_gift").locator("input").check()
    await tab.part("prompt-submit").click()
    await expect(_field(tab, "pieces").get_by_role("alert")).to_contain_text("from 1 to 10")
    await expect(_field(tab, "pieces").locator("input")).to_be_focused()
    await _field(tab, "pieces").locator("input").fill("2")
    await tab.part("prompt-submit").click()
    await tab.ends_as("done")
    assert (await server.get(f"/runs/{tab.run_id}"))["output"] == {
        "customer": "Ada",
        "size": "large",
        "day": "2026-02-03",
        "address": {"city": "Bonn", "zip": None},
        "pieces": 2,
        "gift": True,
        "tags": None,
    }


async def test_a_run_goes_on_when_somebody_approves(tab: Tab, open_tab: OpenTab, server: Server) -> None:
    """The list marks it; the page shows what it is about; every page then tells who decided what."""
    run_id = await server.create("report")
    await tab.open_home()
    item = tab.page.locator(f"[data-run-id='{run_id}']")
    await expect(item.get_by_test_id("run-waits")).to_have_text("waits for approval")
    other = await open_tab()
    await other.open_run(run_id)
    await item.click()
    await tab.shows("awaiting approval")
    await expect(tab.part("request")).to_contain_text("Dear Ada,")
    await tab.part("name-input").fill("Bob")
    await tab.part("comment-input").fill("well done")
    await tab.part("approve-button").click()
    for each in (tab, other):
        await each.ends_as("done")
        await expect(each.part("request-answer")).to_have_text("Approved by Bob")
        await expect(each.part("request")).to_have_count(0)
    output = (await server.get(f"/runs/{run_id}"))["output"]
    assert output == {"sent": True, "by": "Bob", "comment": "well done"}


async def test_a_rejection_by_keyboard(tab: Tab, server: Server) -> None:
    """The buttons are reached by Tab and pressed by Enter."""
    run_id = await server.create("report")
    await tab.open_run(run_id)
    await tab.part("approve-button").focus()
    await tab.page.keyboard.press("Tab")
    await expect(tab.part("reject-button")).to_be_focused()
    await tab.page.keyboard.press("Enter")
    await tab.ends_as("done")
    await expect(tab.part("request-answer")).to_have_text("Rejected")
    assert (await server.get(f"/runs/{run_id}"))["output"] == {"sent": False}


async def test_a_part_of_a_plan_is_approved(tab: Tab, server: Server) -> None:
    """What is ticked off isn't done."""
    run_id = await server.create("plan")
    await tab.open_run(run_id)
    await tab.page.get_by_label("weigh").uncheck()
    await expect(tab.part("approve-button")).to_have_text("Approve 2 of 3")
    await tab.part("approve-button").click()
    await tab.ends_as("done")
    await expect(tab.part("step-item").locator(".step-name")).to_have_text(["pack", "ship"])
    assert (await server.get(f"/runs/{run_id}"))["output"] == {"steps": [1, 3]}


async def test_a_wrong_answer_is_told_at_its_field(tab: Tab, server: Server) -> None:
    """By the page and, should that let it pass, by the server; the right one goes through."""
    run_id = await server.create("survey")
    await tab.open_run(run_id)
    await expect(tab.part("request")).to_contain_text("What shall be ordered?")
    await _field(tab, "item").locator("input").fill("apples")
    await _field(tab, "pieces").locator("input").fill("12")
    await tab.part("answer-button").click()
    await expect(_field(tab, "pieces").get_by_role("alert")).to_contain_text("from 1 to 10")
    await tab.page.route(
        re.compile("/input$"),
        lambda route: route.continue_(post_data={**route.request.post_data_json, "value": {"item": "x", "pieces": 12}}),
    )
    await _field(tab, "pieces").locator("input").fill("3")
    await tab.part("answer-button").click()
    await expect(_field(tab, "pieces").get_by_role("alert")).to_be_visible()
    await tab.page.unroute_all()
    await tab.part("answer-button").click()
    await tab.ends_as("done")
    await expect(tab.part("request-answer")).to_have_text("Answered")
    assert (await server.get(f"/runs/{run_id}"))["output"] == {"item": "apples", "pieces": 3}


async def test_who_comes_second_is_told_who_came_first(tab: Tab, server: Server) -> None:
    """An answer that was given meanwhile isn't overwritten, and says whose it is."""
    run_id = await server.create("report")
    await tab.open_run(run_id)
    await expect(tab.part("request")).to_be_visible()

    async def answer_before(route: object) -> None:
        value = {"value": {"approved": False}, "by": "Eve"}
        assert (await server.http.post(f"/runs/{run_id}/input", json=value)).status_code == 202
        await route.continue_()  # type: ignore[attr-defined]

    await tab.page.route(re.compile("/input$"), answer_before)
    async with tab.page.expect_response(re.compile("/input$")) as answer:
        await tab.part("approve-button").click()
    assert (await answer.value).status == 409
    await tab.ends_as("done")
    await expect(tab.part("request-answer")).to_have_text("Rejected by Eve")


async def test_files_are_shown_and_downloaded(tab: Tab, server: Server) -> None:
    """Name, type and size; a picture as a picture; the bytes that the runner gave."""
    run_id = await server.create("paint")
    await tab.open_run(run_id)
    await tab.ends_as("done")
    picture, table = await tab.part("artifact").all()
    await expect(picture.locator("img")).to_be_visible()
    assert await picture.locator("img").evaluate("(image) => image.complete && image.naturalWidth") == 40
    await expect(table).to_contain_text("rows.csv")
    await expect(table).to_contain_text("8 bytes")
    async with tab.page.expect_download() as download:
        await table.get_by_role("link", name="Download rows.csv").click()
    assert (await (await download.value).path()).read_text() == "a,b\n1,2\n"
    await expect(tab.part("run-log")).to_contain_text("painted")
    await expect(tab.page.locator(".facts")).to_contain_text("Input tokens")


async def test_a_run_is_undone(tab: Tab, server: Server) -> None:
    """Undo leads to the run that does it; from there and back the two are linked. The child is linked as well."""
    run_id = await server.create("book")
    await tab.open_run(run_id)
    await tab.ends_as("done")
    await expect(tab.part("child-run")).to_contain_text("count")
    await tab.part("undo-button").click()
    await expect(tab.part("parent-link")).to_have_text(run_id)
    await tab.ends_as("done")
    await expect(tab.part("step-item").locator(".step-name")).to_have_text("undo reserve")
    await tab.part("parent-link").click()
    await expect(tab.part("undo-link")).to_be_visible()
    await expect(tab.part("undo-button")).to_have_count(0)
    await tab.part("child-run").locator("a").click()
    await expect(tab.part("parent-link")).to_have_text(run_id)


async def test_a_step_says_that_it_is_tried_again(tab: Tab, gates: Gates, server: Server) -> None:
    """Which try it is stands beside it, and it keeps its place."""
    run_id = await server.create("flaky", gate=gates.url_of("flaky"))
    await tab.open_run(run_id)
    await expect(tab.part("step-item")).to_contain_text("try 2")
    gates["flaky"].open()
    await tab.ends_as("done")
    await tab.shows_steps("succeeded")


async def test_a_delayed_run_says_when_it_starts(tab: Tab, server: Server) -> None:
    """Until then the page counts down; it can be canceled."""
    answer = await server.http.post("/runners/count/runs", json={"input": {"number": 1}, "delaySeconds": 3_600})
    await tab.open_run(answer.json()["runId"])
    await expect(tab.part("run-delayed")).to_contain_text("Goes on in 59 min")
    await tab.part("cancel-button").click()
    await tab.ends_as("canceled")


async def test_the_mode_of_a_prompt_is_sent(tab: Tab) -> None:
    """Auto says nothing; the others are part of the request."""
    await tab.open_home()
    asked: list[object] = []

    async def note(route: object) -> None:
        asked.append(route.request.post_data_json.get("mode"))  # type: ignore[attr-defined]
        await route.abort()  # type: ignore[attr-defined]

    await tab.page.route(re.compile("/runs$"), note)
    await tab.part("prompt-input").fill("wait 1 ms")
    await tab.part("prompt-submit").click()
    await expect(tab.page.locator("#run-problem")).to_be_visible()
    await tab.part("mode-approval").check(force=True)
    await tab.part("prompt-submit").click()
    await expect(tab.part("prompt-submit")).to_be_enabled()
    await tab.page.unroute_all()
    assert asked == [None, "approval"]


async def test_a_question_fits_a_phone(open_tab: OpenTab, server: Server) -> None:
    """At 360 pixels nothing of a question or a form sticks out sideways."""
    tab = await open_tab(viewport=PHONE, has_touch=True, is_mobile=True)
    for runner in ("plan", "survey", "report"):
        run_id = await server.create(runner)
        await tab.open_run(run_id)
        await expect(tab.part("request")).to_be_visible()
        width = await tab.page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= PHONE["width"]
        assert (await server.http.post(f"/runs/{run_id}/cancel")).status_code == httpx.codes.ACCEPTED


def _field(tab: Tab, path: str) -> Locator:
    return tab.page.locator(f"[data-testid='field'][data-path='{path}']")
