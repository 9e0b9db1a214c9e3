"""The appender: what several runs say leaves together, and each is told what became of its own."""

import asyncio
from collections.abc import Sequence

from runcast.errors import UnavailableError
from runcast.events import Cursor, LoggedEvent
from runcast.ports import Appended, AppendHandler, AppendResult, Missing
from runcast.services.appender import Appender
from runcast.services.lease import Lease

Appends = Sequence[tuple[str, Sequence[LoggedEvent]]]


class Talking:
    """A run with one event."""

    def __init__(self, run_id: str, *, events: int = 1) -> None:
        self.run_id = run_id
        self.told: list[AppendResult | Exception] = []
        self._events = [LoggedEvent(Cursor(1, seq), b"{}") for seq in range(1, events + 1)]

    def take_events(self) -> Sequence[LoggedEvent]:
        return self._events

    def receive_result(self, events: Sequence[LoggedEvent], result: AppendResult | Exception) -> None:
        assert events == self._events
        self.told.append(result)


class StubLog:
    """A log that says what it is told to."""

    def __init__(self, *results: AppendResult | Exception) -> None:
        self.calls: list[list[str]] = []
        self.breaks: Exception | None = None
        self.called = asyncio.Event()
        self._results = results

    async def append_all(self, appends: Appends, tell: AppendHandler) -> None:
        self.calls.append([run_id for run_id, _ in appends])
        self.called.set()
        for place, _ in enumerate(appends):
            if place == len(self._results) and self.breaks is not None:
                raise self.breaks
            tell(place, self._results[place])


def make_appender(log: StubLog, *, lease: Lease | None = None, window_seconds: float = 0) -> Appender:
    if lease is None:
        lease = Lease(seconds=60, now=lambda: 0.0)
        lease.renew(asked_at=0)
    return Appender(log=log, lease=lease, window_seconds=window_seconds)  # type: ignore[arg-type] # asked for one method


async def test_runs_that_speak_together_are_appended_together_and_told_apart() -> None:
    """One call for all of them, and one that has nothing to say is left out."""
    log = StubLog(Appended(Cursor(1, 1)), UnavailableError("away"), Missing(Cursor(1, 0)))
    appender = make_appender(log)
    one, silent, two, three = Talking("one"), Talking("silent", events=0), Talking("two"), Talking("three")
    for source in (one, silent, two, three):
        appender.add(source)
    await log.called.wait()
    assert log.calls == [["one", "two", "three"]]
    assert one.told == [Appended(Cursor(1, 1))]
    assert [str(error) for error in two.told] == ["away"]
    assert three.told == [Missing(Cursor(1, 0))]
    assert silent.told == []
    await appender.close()


async def test_a_worker_that_was_quiet_does_not_wait_and_one_that_was_not_does() -> None:
    """What comes shortly after is gathered until the window is over."""
    log = StubLog(Appended(Cursor(1, 1)), Appended(Cursor(1, 1)))
    window_seconds = 0.5
    appender = make_appender(log, window_seconds=window_seconds)
    loop = asyncio.get_running_loop()
    began = loop.time()
    appender.add(Talking("one"))
    await asyncio.sleep(0)  # one turn of the loop, for the call
    await asyncio.sleep(0)  # another, for the task
    assert log.calls == [["one"]]
    log.called.clear()
    appender.add(Talking("two"))
    await asyncio.sleep(0)
    appender.add(Talking("three"))
    await log.called.wait()
    assert loop.time() - began >= window_seconds
    assert log.calls == [["one"], ["two", "three"]]
    await appender.close()


async def test_nothing_is_appended_before_the_lease_is_held() -> None:
    """Until then another worker may have the runs."""
    lease = Lease(seconds=60, now=lambda: 0.0)
    log = StubLog(Appended(Cursor(1, 1)))
    appender = make_appender(log, lease=lease)
    appender.add(Talking("one"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert log.calls == []
    lease.renew(asked_at=0)
    await log.called.wait()
    assert log.calls == [["one"]]
    await appender.close()


async def test_when_the_log_breaks_whoever_was_not_told_hears_of_it() -> None:
    """Else its run would wait for ever."""
    log = StubLog(Appended(Cursor(1, 1)))
    log.breaks = ValueError("a bug")
    appender = make_appender(log)
    one, two = Talking("one"), Talking("two")
    appender.add(one)
    appender.add(two)
    await log.called.wait()
    assert one.told == [Appended(Cursor(1, 1))]
    assert two.told == [log.breaks]
    await appender.close()
