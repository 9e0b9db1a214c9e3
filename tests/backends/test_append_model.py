"""The append and fence scripts on a real server, against what they are to do said plainly in Python."""

import asyncio
import uuid
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis.asyncio as redis
from hypothesis import example, given
from hypothesis import strategies as st

from runcast.backends.redis_client import close_redis, open_redis
from runcast.backends.redis_log import RedisPubSubService, stream_of
from runcast.events import START, Cursor, EventType, LoggedEvent, RunEvent, log_event
from runcast.ports import Appended, AppendResult, Fenced, Missing
from tests.support.redis_server import RedisServer


class Append(NamedTuple):
    attempt: int
    first: int
    size: int


class Fence(NamedTuple):
    attempt: int
    floor: int


class Loss(NamedTuple):
    """Redis comes back without so many of its last entries, and without what no entry says."""

    size: int


# A run's first event is of no attempt; the first attempt goes on behind it, a later one may begin anywhere.
ACTIONS = st.one_of(
    st.builds(Append, attempt=st.just(1), first=st.integers(2, 7), size=st.integers(1, 3)),
    st.builds(Append, attempt=st.integers(2, 3), first=st.integers(1, 7), size=st.integers(1, 3)),
    st.builds(Fence, attempt=st.integers(1, 3), floor=st.integers(1, 7)),
    st.builds(Loss, size=st.integers(1, 3)),
)


@dataclass
class Model:
    """What a log is to hold, and to answer."""

    kept: list[Cursor] = field(default_factory=list)
    last: Cursor = START
    let_go: Cursor = START  # the highest id of an entry that was taken out: nothing goes below it
    exists: bool = False

    def append(self, append: Append) -> AppendResult:
        for seq in range(append.first, append.first + append.size):
            if append.attempt < self.last.attempt:
                return Fenced(self.last)
            if append.attempt > self.last.attempt or seq > self.last.seq:
                if seq > self.last.seq + 1:
                    return Missing(self.last)
                self.last, self.exists = Cursor(append.attempt, seq), True
                self.kept.append(self.last)
        return Appended(self.last)

    def fence(self, fence: Fence) -> Cursor:
        place, end = Cursor(fence.attempt, fence.floor), self.kept[-1] if self.kept else START
        if not self.exists:
            self.exists, self.last, self.let_go = True, place, place
        elif fence.attempt >= self.last.attempt and place >= max(end, self.let_go):
            self.last = place
        return end

    def lose(self, loss: Loss) -> None:
        del self.kept[-loss.size :]
        self.last, self.let_go, self.exists = self.kept[-1] if self.kept else START, START, bool(self.kept)


def event(run_id: str, attempt: int, seq: int) -> LoggedEvent:
    ts = "2026-01-01T00:00:00.000Z"
    return log_event(RunEvent(type=EventType.LOG, payload={}, ts=ts, run_id=run_id, seq=seq, attempt=attempt))


async def lose(client: "redis.Redis", run_id: str, loss: Loss) -> None:
    """As if a snapshot of a moment ago had been loaded."""
    entries: Any = await client.xrange(stream_of(run_id))
    await client.delete(stream_of(run_id))
    for entry_id, fields in entries[: -loss.size]:
        await client.xadd(stream_of(run_id), fields, id=entry_id)
    await client.expire(stream_of(run_id), 60)


async def compare(url: str, actions: list[Append | Fence | Loss]) -> None:
    client, run_id, model = open_redis(url), uuid.uuid4().hex, Model()
    log = RedisPubSubService(client, retention_seconds=60, max_events=1_000)
    try:
        for action in [Append(0, 1, 1), *actions]:
            match action:
                case Append(attempt, first, size):
                    said = [event(run_id, attempt, seq) for seq in range(first, first + size)]
                    assert await log.append(run_id, said) == model.append(action)
                case Fence(attempt, floor):
                    assert await log.fence(run_id, attempt, floor=floor) == model.fence(action)
                case Loss():
                    await lose(client, run_id, action)
                    model.lose(action)
            assert [kept.cursor for kept in await log.read(run_id, START, limit=99)] == model.kept
    finally:
        await log.close()
        await close_redis(client)


@given(actions=st.lists(ACTIONS, max_size=8))
@example([Append(1, 2, 3), Append(2, 3, 1), Append(2, 6, 1)])  # as many entries as there should be, but not those
@example([Append(1, 2, 3), Loss(1), Append(1, 5, 1)])
@example([Append(1, 2, 1), Fence(1, 4), Append(1, 3, 1), Append(1, 5, 1), Append(1, 4, 1)])
def test_a_log_does_as_its_model(redis_server: RedisServer, actions: list[Append | Fence | Loss]) -> None:
    """Appends in the right place and in wrong ones, again and too late, before and after Redis has lost its end."""
    asyncio.run(compare(redis_server.url, actions))
