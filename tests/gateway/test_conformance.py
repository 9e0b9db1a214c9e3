"""One run, every transport: the same frames from the same cursor."""

import asyncio

import pytest

from tests.gateway.conftest import Gates
from tests.gateway.transports import ALL, STREAMING, Follow, comparable
from tests.support.stack import Stack

every_transport = pytest.mark.parametrize("follow", ALL.values(), ids=ALL)


@every_transport
async def test_an_ended_run_is_told_whole(stack: Stack, follow: Follow) -> None:
    """As the WebSocket tells it, frame by frame and key by key."""
    run_id = await stack.create("greet", name="Ada", times=3)
    expected = comparable(await stack.follow(run_id))
    assert [frame["seq"] for frame in expected] == list(range(1, 10))
    assert comparable(await follow(stack, run_id, None)) == expected


@every_transport
async def test_a_run_is_told_while_it_happens(stack: Stack, follow: Follow, gates: Gates) -> None:
    """What comes later follows what was there, without a seam."""
    run_id = await stack.create("hold", gate="a")
    following = asyncio.create_task(follow(stack, run_id, None))
    reference = asyncio.create_task(stack.follow(run_id))
    while (await stack.get(f"/runs/{run_id}"))["status"] != "running":
        await asyncio.sleep(0.01)
    gates["a"].set()
    assert comparable(await following) == comparable(await reference)


@every_transport
async def test_every_cursor_gives_exactly_the_rest(stack: Stack, follow: Follow) -> None:
    """As `<attempt>-<seq>` and as a plain seq."""
    run_id = await stack.create("greet", name="Ada", times=2)
    whole = comparable(await stack.follow(run_id))
    for event in whole[:-1]:
        for cursor in (f"{event['attempt']}-{event['seq']}", str(event["seq"])):
            assert comparable(await follow(stack, run_id, cursor)) == whole[event["seq"] :]


@every_transport
async def test_events_that_are_no_more_are_taken_back(stack: Stack, follow: Follow) -> None:
    """A cursor of events that the log doesn't have: back to where the log goes on, then what comes from there."""
    run_id = await stack.create("greet", name="Ada")
    whole = comparable(await stack.follow(run_id))
    rewind, *rest = comparable(await follow(stack, run_id, "0-4"))
    assert rewind == {"type": "rewind", "payload": {"to": "1"}, "runId": run_id}
    assert rest == whole[1:]


@pytest.mark.parametrize("follow", STREAMING.values(), ids=STREAMING)
async def test_every_stream_opens_with_where_the_run_stands(stack: Stack, follow: Follow) -> None:
    """`connected` is the first frame, whatever carries it."""
    run_id = await stack.create("greet", name="Ada")
    await stack.follow(run_id)
    first = (await follow(stack, run_id, None))[0]
    assert first["payload"] == {"status": "connected", "lastSeq": 5, "runStatus": "done", "final": True}


@every_transport
async def test_many_equal_tokens_all_arrive(stack: Stack, follow: Follow) -> None:
    """Thousands of events, more than one page or write holds, while they happen."""
    run_id = await stack.create("talk", tokens=600)
    frames = comparable(await follow(stack, run_id, None))
    assert [frame["seq"] for frame in frames] == list(range(1, 606))
