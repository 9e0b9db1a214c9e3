"""Pages and long polls against a whole server, and where a page ends."""

import asyncio
import time

import msgspec
import pytest

from runcast.events import START, UNKNOWN_ATTEMPT, Cursor, LoggedEvent
from runcast.gateway.longpoll import EventPage
from tests.gateway.conftest import Gates
from tests.gateway.test_api import assert_problem, wait_for_status
from tests.gateway.transports import wait_for_handlers
from tests.support.stack import Stack


def events(*cursors: tuple[int, int]) -> list[LoggedEvent]:
    return [LoggedEvent(Cursor(*cursor), b'{"seq":%d}' % cursor[1]) for cursor in cursors]


async def test_what_is_there_is_answered_at_once(stack: Stack) -> None:
    """Without waiting for more; whoever is behind doesn't wait at all."""
    run_id = await stack.create("greet", name="Ada")
    await wait_for_status(stack, run_id, "done")
    page = await stack.get(f"/runs/{run_id}/events?after=1-2&wait=30")
    assert ([event["seq"] for event in page["events"]], page["cursor"], page["final"]) == ([3, 4, 5], "1-5", True)


async def test_at_the_end_of_an_ended_run_there_is_nothing_to_wait_for(stack: Stack) -> None:
    """An empty page says so at once."""
    run_id = await stack.create("greet", name="Ada")
    await wait_for_status(stack, run_id, "done")
    page = await stack.get(f"/runs/{run_id}/events?after=1-5&wait=30")
    assert page == {"events": [], "cursor": "1-5", "final": True}


async def test_the_next_event_ends_the_wait(stack: Stack, gates: Gates) -> None:
    """As it happens, long before the time is over."""
    run_id = await stack.create("hold", gate="a")
    await wait_for_status(stack, run_id, "running")
    cursor = "0"
    while cursor != "1-3":
        cursor = (await stack.get(f"/runs/{run_id}/events?after={cursor}&wait=10"))["cursor"]
    polling = asyncio.create_task(stack.get(f"/runs/{run_id}/events?after={cursor}&wait=30"))
    await wait_for_handlers(stack, 1)
    assert [each["transport"] for each in (await stack.get("/runs/stats"))["connections"]] == ["long-poll"]
    gates["a"].set()
    async with asyncio.timeout(5):
        page = await polling
    assert [event["type"] for event in page["events"]] == ["run_completed"]
    assert (page["cursor"], page["final"]) == ("1-4", True)


async def test_a_wait_for_nothing_ends_with_an_empty_page(stack: Stack, gates: Gates) -> None:
    """After the time asked for: same cursor, not final."""
    run_id = await stack.create("hold", gate="a")
    async with asyncio.timeout(10):
        while (await stack.get(f"/runs/{run_id}/events"))["cursor"] != "1-3":
            pass
    began = time.monotonic()
    page = await stack.get(f"/runs/{run_id}/events?starting_after=3&wait=0.2")
    assert page == {"events": [], "cursor": "3", "final": False}
    assert time.monotonic() - began >= 0.2
    gates["a"].set()


async def test_a_limited_page_leaves_the_rest_for_the_next(stack: Stack) -> None:
    """And isn't final before all is given."""
    run_id = await stack.create("greet", name="Ada")
    await wait_for_status(stack, run_id, "done")
    for wait in ("", "&wait=5"):
        first = await stack.get(f"/runs/{run_id}/events?limit=2{wait}")
        rest = await stack.get(f"/runs/{run_id}/events?after={first['cursor']}{wait}")
        assert ([event["seq"] for event in first["events"]], first["final"]) == ([1, 2], False)
        assert ([event["seq"] for event in rest["events"]], rest["final"]) == ([3, 4, 5], True)


async def test_a_client_that_hangs_up_is_not_waited_for(stack: Stack, gates: Gates) -> None:
    """The gateway lets go of the run at once."""
    run_id = await stack.create("hold", gate="a")
    await wait_for_status(stack, run_id, "running")
    polling = asyncio.create_task(stack.http.get(f"/runs/{run_id}/events?after=1-3&wait=30"))
    await wait_for_handlers(stack, 1)
    polling.cancel()
    await wait_for_handlers(stack, 0)
    gates["a"].set()


async def test_a_stopping_gateway_answers_who_waits(stack: Stack, gates: Gates) -> None:
    """With an empty page: the cursor holds at the next gateway."""
    run_id = await stack.create("hold", gate="a")
    await wait_for_status(stack, run_id, "running")
    polling = asyncio.create_task(stack.get(f"/runs/{run_id}/events?after=1-3&wait=30"))
    await wait_for_handlers(stack, 1)
    await stack.stop_api()
    assert (await polling) == {"events": [], "cursor": "1-3", "final": False}
    gates["a"].set()


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("wait=31", 422, "invalid_input"),
        ("wait=-1", 422, "invalid_input"),
        ("after=x&wait=1", 400, "invalid_cursor"),
        ("after=1&starting_after=1", 400, "ambiguous_cursor"),
        ("wait=1", 404, "run_not_found"),
    ],
)
async def test_a_bad_question_is_a_problem(stack: Stack, query: str, status: int, code: str) -> None:
    """As on every route."""
    assert_problem(await stack.http.get(f"/runs/nobody/events?{query}"), status, code)


def test_a_page_ends_where_the_log_steps_back() -> None:
    """The next one opens there, and says how far to go back."""
    log = events((1, 3), (1, 4), (2, 3), (2, 4))
    first = EventPage.of(Cursor(1, 2), log, limit=500)
    assert ([event.cursor for event in first.events], first.cursor, first.rewind) == (
        [Cursor(1, 3), Cursor(1, 4)],
        Cursor(1, 4),
        None,
    )
    second = EventPage.of(first.cursor, log[2:], limit=500)
    assert (second.cursor, second.rewind) == (Cursor(2, 4), Cursor(UNKNOWN_ATTEMPT, 2))


def test_a_page_says_how_far_to_go_back_only_if_there_is_a_way_back() -> None:
    """The key is absent else."""
    plain = EventPage.of(START, events((0, 1)), limit=1)
    assert msgspec.json.decode(plain.encode(is_final=False)) == {
        "events": [{"seq": 1}],
        "cursor": "0-1",
        "final": False,
    }
    back = EventPage.of(Cursor(1, 9), events((2, 5)), limit=1)
    assert msgspec.json.decode(back.encode(is_final=True))["rewind"] == "4"


def test_a_page_of_nothing_keeps_the_cursor() -> None:
    """As it was given."""
    assert EventPage.of(Cursor(UNKNOWN_ATTEMPT, 7), [], limit=5).encode(is_final=False) == (
        b'{"events":[],"cursor":"7","final":false}'
    )
