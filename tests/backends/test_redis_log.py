"""The run log on a real server: the promises of the `RunLog` port."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence

import pytest
import redis.asyncio as redis

from runcast.backends.redis_client import close_redis, open_redis
from runcast.backends.redis_cluster_log import open_run_log
from runcast.backends.redis_log import RedisPubSubService
from runcast.events import START, UNKNOWN_ATTEMPT, Cursor, EventType, LoggedEvent, RunEvent, log_event, read_event
from runcast.ports import Appended, Fenced, Missing
from tests.support.redis_kinds import hang_up_on_listeners, publish, receive_published

RUN = "abc"
JUNK = (b"", b"{}", b"\xff\x00", b'{"seq":1}', b',"seq":x,"attempt":1}')


def event(attempt: int, seq: int, *, run_id: str = RUN, status: str | None = None) -> LoggedEvent:
    kind = EventType.RUN_STATUS if status else EventType.LOG
    payload = {"status": status} if status else {"text": f'tricky ","seq":9,"attempt":9}} {seq}'}
    return log_event(
        RunEvent(type=kind, payload=payload, ts="2026-01-01T00:00:00.000Z", run_id=run_id, seq=seq, attempt=attempt)
    )


def events(attempt: int, first: int, last: int) -> list[LoggedEvent]:
    return [event(attempt, seq) for seq in range(first, last + 1)]


async def last_id(client: "redis.Redis") -> bytes:
    """The highest id that the log has ever had, as it says itself."""
    info = await client.xinfo_stream("{run:abc}:log")
    found: bytes = info["last-generated-id"]
    return found


class Collected(list[LoggedEvent]):
    """A handler that keeps what it gets and can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Condition()
        self._event = asyncio.Event()

    def __call__(self, received: LoggedEvent | bytes) -> None:
        self.append(received if isinstance(received, LoggedEvent) else read_event(received))
        self._event.set()

    async def wait_for(self, count: int) -> Sequence[LoggedEvent]:
        async with asyncio.timeout(10):
            while len(self) < count:
                self._event.clear()
                await self._event.wait()
        return list(self)


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator["redis.Redis"]:
    client = open_redis(any_redis_url)
    yield client
    await close_redis(client)


@pytest.fixture
async def log(client: "redis.Redis") -> AsyncIterator[RedisPubSubService]:
    service = open_run_log(client, retention_seconds=3600, max_events=1000)
    await service.start()
    yield service
    await service.close()


async def test_what_was_appended_is_read_in_order(log: RedisPubSubService) -> None:
    """A read gives the very bytes, from after the cursor on."""
    written = events(1, 1, 5)
    assert await log.append(RUN, written) == Appended(Cursor(1, 5))
    assert await log.read(RUN, START, limit=10) == written
    assert await log.read(RUN, Cursor(1, 3), limit=10) == written[3:]
    assert await log.read(RUN, START, limit=2) == written[:2]


async def test_an_append_is_published_as_json_on_the_channel_of_the_run(
    log: RedisPubSubService, client: "redis.Redis"
) -> None:
    """Anybody with a plain Redis client sees each event on `run:<id>`."""
    pubsub, get_message = await receive_published(client, "run:abc")
    written = event(1, 1)
    await log.append(RUN, [written])
    message = await get_message(timeout=5) or {}
    await pubsub.aclose()
    assert (message["channel"], message["data"]) == (b"run:abc", written.raw)


async def test_publish_run_event_appends_and_publishes_one_event(log: RedisPubSubService) -> None:
    """The short form does what `append` does."""
    collected = Collected()
    unsubscribe = await log.on_run_event(RUN, collected)
    published = RunEvent(
        type=EventType.CUSTOM, payload={"name": "x"}, ts="2026-01-01T00:00:00.000Z", run_id=RUN, seq=1, attempt=1
    )
    assert await log.publish_run_event(RUN, published) == Appended(Cursor(1, 1))
    assert await collected.wait_for(1) == [log_event(published)]
    await unsubscribe()


async def test_appends_of_several_runs_are_each_for_themselves(log: RedisPubSubService, client: "redis.Redis") -> None:
    """One that misses something, is refused or breaks is told so, and the others stand."""
    await log.append("fenced", [event(1, 1, run_id="fenced")])
    await log.fence("fenced", 2, floor=1)
    await client.set("{run:broken}:log", "no stream", ex=60)
    results: dict[int, object] = {}
    runs = {"one": 1, "missing": 5, "fenced": 2, "broken": 1, "two": 1}
    appends = [(run_id, [event(1, seq, run_id=run_id)]) for run_id, seq in runs.items()]
    await log.append_all(appends, results.__setitem__)
    broken = results.pop(3)
    assert results == {
        0: Appended(Cursor(1, 1)),
        1: Missing(START),
        2: Fenced(Cursor(2, 1)),
        4: Appended(Cursor(1, 1)),
    }
    assert "WRONGTYPE" in str(broken)


async def test_repeating_an_append_changes_and_publishes_nothing(log: RedisPubSubService) -> None:
    """After a time-out the writer tries again; nobody sees an event twice."""
    collected = Collected()
    unsubscribe = await log.on_run_event(RUN, collected)
    await log.append(RUN, events(1, 1, 3))
    assert await log.append(RUN, events(1, 1, 4)) == Appended(Cursor(1, 4))
    assert [seen.cursor.seq for seen in await collected.wait_for(4)] == [1, 2, 3, 4]
    assert len(await log.read(RUN, START, limit=10)) == 4
    await unsubscribe()


async def test_a_missing_predecessor_is_reported_not_papered_over(log: RedisPubSubService) -> None:
    """A hole is never written."""
    await log.append(RUN, events(1, 1, 2))
    assert await log.append(RUN, events(1, 4, 5)) == Missing(Cursor(1, 2))
    assert len(await log.read(RUN, START, limit=10)) == 2


async def test_an_append_in_the_wrong_place_leaves_nothing_behind(
    log: RedisPubSubService, client: "redis.Redis"
) -> None:
    """Neither an entry nor a number taken, and nobody is told: what was missing can still be put in."""
    collected = Collected()
    unsubscribe = await log.on_run_event(RUN, collected)
    await log.append(RUN, events(1, 1, 2))
    before = await last_id(client)
    for wrong in (events(1, 4, 6), events(1, 1, 1), events(1, 9, 9)):
        await log.append(RUN, wrong)
        assert await last_id(client) == before
    assert await log.append(RUN, events(1, 3, 4)) == Appended(Cursor(1, 4))
    assert [seen.cursor.seq for seen in await collected.wait_for(4)] == [1, 2, 3, 4]
    assert await log.read(RUN, START, limit=10) == events(1, 1, 4)
    await unsubscribe()


async def test_an_attempt_that_has_not_fenced_begins_where_the_one_before_has_ended(log: RedisPubSubService) -> None:
    """What is missing before its first event is reported all the same, and the older one is refused from then on."""
    await log.append(RUN, [event(0, 1)])
    assert await log.append(RUN, events(1, 3, 3)) == Missing(Cursor(0, 1))
    assert await log.append(RUN, events(1, 2, 3)) == Appended(Cursor(1, 3))
    assert isinstance(await log.append(RUN, [event(0, 2)]), Fenced)
    assert [kept.cursor for kept in await log.read(RUN, START, limit=9)] == [Cursor(0, 1), Cursor(1, 2), Cursor(1, 3)]


async def test_an_older_attempt_is_refused_as_soon_as_a_later_one_has_fenced(log: RedisPubSubService) -> None:
    """A worker that was taken for dead can't write any more, even before its successor has written."""
    await log.append(RUN, events(1, 1, 3))
    assert await log.fence(RUN, 2, floor=3) == Cursor(1, 3)
    assert await log.append(RUN, events(1, 4, 4)) == Fenced(Cursor(2, 3))
    assert await log.append(RUN, events(2, 4, 4)) == Appended(Cursor(2, 4))
    assert [kept.cursor for kept in await log.read(RUN, Cursor(1, 2), limit=9)] == [Cursor(1, 3), Cursor(2, 4)]


async def test_an_attempt_goes_on_after_its_floor_whatever_an_older_one_has_written(log: RedisPubSubService) -> None:
    """Nothing of the new attempt is taken for something that is there already; readers see seq go back."""
    await log.append(RUN, events(1, 1, 5))
    await log.fence(RUN, 2, floor=3)
    assert await log.append(RUN, events(2, 4, 5)) == Appended(Cursor(2, 5))
    kept = [kept.cursor for kept in await log.read(RUN, Cursor(1, 4), limit=9)]
    assert kept == [Cursor(1, 5), Cursor(2, 4), Cursor(2, 5)]


async def test_fencing_again_below_what_the_attempt_has_written_changes_nothing(log: RedisPubSubService) -> None:
    """A repeated takeover can't make the attempt's own events count as not written."""
    await log.append(RUN, events(1, 1, 5))
    await log.fence(RUN, 1, floor=3)
    assert await log.append(RUN, events(1, 4, 6)) == Appended(Cursor(1, 6))
    assert len(await log.read(RUN, START, limit=9)) == 6


async def test_an_older_attempt_cannot_lower_a_fence(log: RedisPubSubService) -> None:
    """Redis itself would allow it."""
    await log.append(RUN, events(1, 1, 3))
    await log.fence(RUN, 3, floor=3)
    await log.fence(RUN, 1, floor=3)
    assert isinstance(await log.append(RUN, events(1, 4, 4)), Fenced)


async def test_a_log_that_lost_everything_goes_on_after_the_floor(log: RedisPubSubService) -> None:
    """What the archive has needs no place in Redis; the numbers go on."""
    assert await log.append(RUN, events(1, 41, 42)) == Missing(START)
    assert await log.fence(RUN, 1, floor=40) == START
    assert await log.append(RUN, events(1, 41, 42)) == Appended(Cursor(1, 42))
    assert [kept.cursor.seq for kept in await log.read(RUN, Cursor(1, 7), limit=9)] == [41, 42]


async def test_a_plain_seq_is_found_whatever_its_attempt(log: RedisPubSubService) -> None:
    """A watcher that only knows a number goes on after that number."""
    await log.append(RUN, [event(0, 1)])
    await log.append(RUN, events(1, 2, 4))
    await log.append(RUN, events(2, 5, 6))
    for seq in range(7):
        found = await log.read(RUN, Cursor(UNKNOWN_ATTEMPT, seq), limit=10)
        assert [kept.cursor.seq for kept in found] == list(range(seq + 1, 7))


async def test_read_last_answers_for_many_runs_at_once(log: RedisPubSubService) -> None:
    """One round trip, in the order of the question."""
    await log.append(RUN, events(1, 1, 2))
    assert await log.read_last(["nobody", RUN]) == [START, Cursor(1, 2)]


async def test_handlers_share_a_channel_and_leave_none_behind(log: RedisPubSubService) -> None:
    """Two handlers of a run need one subscription; when the last goes it goes too."""
    first, second = Collected(), Collected()
    undo_first = await log.on_run_event(RUN, first)
    undo_second = await log.on_run_event(RUN, second)
    stats = log.get_stats()
    assert (stats.channels, stats.handlers, stats.connected) == (1, 2, True)
    await undo_first()
    await undo_first()
    await log.append(RUN, [event(1, 1)])
    assert await second.wait_for(1)
    assert first == []
    await undo_second()
    stats = log.get_stats()
    assert (stats.channels, stats.handlers) == (0, 0)


async def test_a_handler_hears_everything_published_after_it_was_registered(log: RedisPubSubService) -> None:
    """`on_run_event` returns once Redis has acknowledged, even when handlers come and go quickly."""
    for round_number in range(50):
        run_id = f"{RUN}{round_number % 3}"
        collected = Collected()
        unsubscribe = await log.on_run_event(run_id, collected)
        seq = (await log.read_last([run_id]))[0].seq + 1
        await log.append(run_id, [event(1, seq, run_id=run_id)])
        assert [seen.cursor.seq for seen in await collected.wait_for(1)] == [seq]
        await unsubscribe()


async def test_a_cut_connection_comes_back_and_tells_of_the_gap(log: RedisPubSubService, client: "redis.Redis") -> None:
    """After a reconnect every handler listens again, and those who keep a feed are told to look."""
    collected = Collected()
    gap = asyncio.Event()
    undo_gap = log.on_gap(gap.set)
    unsubscribe = await log.on_run_event(RUN, collected)
    await hang_up_on_listeners(client)
    async with asyncio.timeout(10):
        await gap.wait()
    await log.append(RUN, [event(1, 1)])
    assert await collected.wait_for(1)
    undo_gap()
    await unsubscribe()


async def test_a_handler_that_fails_on_what_is_not_an_event_still_gets_the_next(
    log: RedisPubSubService, client: "redis.Redis"
) -> None:
    """Anybody may publish anything on a run's channel."""
    collected = Collected()
    unsubscribe = await log.on_run_event(RUN, collected)
    for junk in JUNK:
        await publish(client, "run:abc", junk)
    await log.append(RUN, [event(1, 1)])
    assert [seen.cursor.seq for seen in await collected.wait_for(1)] == [1]
    await unsubscribe()


async def test_what_is_not_an_event_is_no_status(log: RedisPubSubService, client: "redis.Redis") -> None:
    """Anybody may publish anything on the channel of all runs; the next status still comes."""
    collected = Collected()
    unsubscribe = await log.on_status(collected)
    for junk in JUNK:
        await client.publish("runs", junk)
    await log.append(RUN, [event(1, 1, status="running")])
    assert [seen.status for seen in await collected.wait_for(1)] == ["running"]
    await unsubscribe()


async def test_the_end_of_a_batch_is_told_after_its_events(log: RedisPubSubService) -> None:
    """Whoever joins what comes together is told when all of it was handed over."""
    collected, ends, ended = Collected(), list[int](), asyncio.Event()

    def end() -> None:
        ends.append(len(collected))
        if len(collected) == 3:
            ended.set()

    undo = log.on_batch(end)
    unsubscribe = await log.on_run_event(RUN, collected)
    ends.clear()
    await log.append(RUN, events(1, 1, 3))
    async with asyncio.timeout(10):
        await ended.wait()
    assert 0 not in ends
    undo()
    before = len(ends)
    await log.append(RUN, events(1, 4, 4))
    await collected.wait_for(4)
    await asyncio.sleep(0)
    assert len(ends) == before
    await unsubscribe()


async def test_an_entry_that_is_not_an_event_ends_the_read(log: RedisPubSubService, client: "redis.Redis") -> None:
    """Anybody may add anything to a stream; what stands before it is given out, the archive has the rest."""
    await log.append(RUN, events(1, 1, 2))
    await client.xadd("{run:abc}:log", {"e": b"junk"}, id="1-3")
    await client.xadd("{run:abc}:log", {"other": b"field"}, id="1-4")
    assert await log.read(RUN, START, limit=10) == events(1, 1, 2)
    assert await log.read(RUN, Cursor(1, 2), limit=10) == []
    assert await log.read(RUN, Cursor(1, 3), limit=10) == []


async def test_statuses_of_all_runs_come_on_one_channel(log: RedisPubSubService) -> None:
    """A list of runs follows the statuses and nothing else."""
    collected = Collected()
    unsubscribe = await log.on_status(collected)
    await log.append("one", [event(1, 1, run_id="one", status="running"), event(1, 2, run_id="one")])
    await log.append("two", [event(1, 1, run_id="two", status="done")])
    assert [seen.status for seen in await collected.wait_for(2)] == ["running", "done"]
    await unsubscribe()


async def test_a_status_that_follows_other_events_is_told_on_the_channel_of_all_runs(log: RedisPubSubService) -> None:
    """It doesn't matter where in a batch, or of which attempt, it comes."""
    collected = Collected()
    unsubscribe = await log.on_status(collected)
    await log.append(RUN, events(1, 1, 2))
    await log.append(RUN, [event(1, 3), event(1, 4, status="retrying"), event(1, 5)])
    await log.append(RUN, [event(1, 6), event(2, 7, status="running")])
    assert [seen.cursor for seen in await collected.wait_for(2)] == [Cursor(1, 4), Cursor(2, 7)]
    await unsubscribe()


async def test_events_below_the_attempts_own_fence_count_as_written(log: RedisPubSubService) -> None:
    """An append that was late must not stop one that goes on after the floor."""
    await log.append(RUN, events(1, 1, 3))
    await log.fence(RUN, 1, floor=5)
    assert await log.append(RUN, events(1, 4, 6)) == Appended(Cursor(1, 6))
    assert [kept.cursor.seq for kept in await log.read(RUN, START, limit=9)] == [1, 2, 3, 6]


async def test_a_log_lets_go_of_its_oldest_events(client: "redis.Redis") -> None:
    """Beyond the greatest number, and not long before it."""
    short = open_run_log(client, retention_seconds=3600, max_events=300)
    await short.append(RUN, events(1, 1, 300))
    assert len(await short.read(RUN, START, limit=2_000)) == 300
    for first in range(301, 1_301, 100):
        await short.append(RUN, events(1, first, first + 99))
    kept = await short.read(RUN, START, limit=2_000)
    assert kept[-1].cursor == Cursor(1, 1_300)
    assert 300 <= len(kept) < 600
    await short.close()


async def test_a_log_is_kept_for_the_retention_time(client: "redis.Redis") -> None:
    """It begins with the first append, and anew with a later one, though not with each of many."""
    short = open_run_log(client, retention_seconds=100, max_events=1_000_000)
    await short.append(RUN, [event(1, 1)])
    assert 90 < await client.ttl("{run:abc}:log") <= 100
    await client.expire("{run:abc}:log", 10_000)
    async with asyncio.timeout(20):
        for seq in itertools.count(2):
            await short.append(RUN, [event(1, seq)])
            if await client.ttl("{run:abc}:log") <= 100:
                break
    await short.close()


async def test_a_log_that_begins_again_is_kept_no_longer_than_others(
    log: RedisPubSubService, client: "redis.Redis"
) -> None:
    """Also if its time has begun a moment before it went."""
    await log.append(RUN, events(1, 1, 2))
    await client.delete("{run:abc}:log")
    await log.append(RUN, [event(1, 1)])
    assert await client.ttl("{run:abc}:log") > 3590


async def test_a_log_as_long_as_it_should_be_still_refuses_what_it_has_gone_beyond(log: RedisPubSubService) -> None:
    """Two entries, but not the two before the third."""
    await log.append(RUN, [event(1, 1)])
    await log.fence(RUN, 1, floor=4)
    await log.append(RUN, [event(1, 5)])
    assert await log.append(RUN, [event(1, 3)]) == Appended(Cursor(1, 5))
    assert [kept.cursor.seq for kept in await log.read(RUN, START, limit=9)] == [1, 5]


async def test_control_messages_reach_every_listener(log: RedisPubSubService) -> None:
    """A cancel is told to all workers at once."""
    heard: asyncio.Queue[object] = asyncio.Queue()
    unsubscribe = await log.on_control(heard.put_nowait)
    await log.send_control({"cancel": RUN})
    assert await asyncio.wait_for(heard.get(), 5) == {"cancel": RUN}
    await unsubscribe()
