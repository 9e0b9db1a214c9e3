"""The delivery core against a model.

A log that grows, ends, loses its tail, lets go of its start; a wire that loses, repeats and reorders; answers that
were read at one moment and come at another. Whatever happens, a watcher's record is the log.
"""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from runcast.core.delivery import Feed, Need, Rewind, Subscription
from runcast.events import START, UNKNOWN_ATTEMPT, Cursor, LoggedEvent, RunStatus

EVENT_BYTES = 60
TAIL_BYTES = 6 * EVENT_BYTES


def event(attempt: int, seq: int, status: RunStatus | None = None) -> LoggedEvent:
    """An event of a fixed size that can be told from every other."""
    start = f'{{"type":"{"run_status" if status else "log"}"'
    end = f',"seq":{seq},"attempt":{attempt}}}'
    return LoggedEvent(Cursor(attempt, seq), (start.ljust(EVENT_BYTES - len(end)) + end).encode(), status)


def feed_at(attempt: int, seq: int, *, status: RunStatus = RunStatus.RUNNING) -> Feed:
    return Feed(last=Cursor(attempt, seq), status=status, tail_bytes=10_000)


class Log:
    """What the run's log holds now, and what it has ever said."""

    def __init__(self) -> None:
        self.events = [event(0, 1, RunStatus.QUEUED)]
        self.status = RunStatus.QUEUED

    @property
    def last(self) -> Cursor:
        return self.events[-1].cursor if self.events else START

    def append(self, status: RunStatus | None = None, *, raise_attempt: bool = False) -> LoggedEvent:
        attempt = self.last.attempt + (1 if raise_attempt or self.last.attempt == 0 else 0)
        added = event(attempt, self.last.seq + 1, status)
        self.events.append(added)
        self.status = status or self.status
        return added

    def after(self, cursor: Cursor, limit: int) -> Sequence[LoggedEvent]:
        if cursor.attempt == UNKNOWN_ATTEMPT:
            return [kept for kept in self.events if kept.cursor.seq > cursor.seq][:limit]
        return [kept for kept in self.events if kept.cursor > cursor][:limit]


class Record:
    """A watcher and all that it has seen."""

    def __init__(self, feed: Feed, after: Cursor) -> None:
        self.subscription = Subscription(feed, after=after)
        self.start = after.seq
        self.seen: list[LoggedEvent] = []

    @property
    def seq(self) -> int:
        return self.start + len(self.seen)

    def take(self, max_bytes: int) -> None:
        for frame in self.subscription.take(max_bytes=max_bytes):
            if isinstance(frame, Rewind):
                assert frame.to.seq < self.seq, "a rewind goes back"
                del self.seen[max(frame.to.seq - self.start, 0) :]
                self.start = min(self.start, frame.to.seq)
            else:
                assert frame.cursor.seq == self.seq + 1, f"after {self.seq} came {frame.cursor}"
                self.seen.append(frame)


class DeliveryMachine(RuleBasedStateMachine):
    """Random histories of one run, one gateway and several watchers."""

    reads = Bundle("reads")
    watchers = Bundle("watchers")

    @initialize(known=st.integers(0, 4))
    def join(self, known: int) -> None:
        self.log = Log()
        self.wire: list[LoggedEvent] = []
        for _ in range(known):
            self.log.append()
        self.feed = Feed(last=self.log.last, status=self.log.status, tail_bytes=TAIL_BYTES)
        self.records: list[Record] = []
        self.published = list(self.log.events)

    def _deliver(self, arriving: LoggedEvent) -> None:
        """As a live run does."""
        if not self.feed.receive_raw(arriving.raw):
            self.feed.receive_live(arriving)

    def _publish(self, added: LoggedEvent) -> None:
        self.wire.append(added)
        self.published.append(added)

    @precondition(lambda self: not self.log.status.is_final)
    @rule(count=st.integers(1, 6))
    def worker_writes(self, count: int) -> None:
        for _ in range(count):
            self._publish(self.log.append())

    @precondition(lambda self: not self.log.status.is_final)
    @rule()
    def next_attempt(self) -> None:
        self._publish(self.log.append(RunStatus.RUNNING, raise_attempt=True))

    @precondition(lambda self: not self.log.status.is_final)
    @rule(lost=st.integers(1, 6))
    def worker_and_redis_lose_the_same_events(self, lost: int) -> None:
        kept = [kept for kept in self.log.events if kept.cursor.attempt == 0]
        attempt = self.log.last.attempt
        self.log.events = kept + self.log.events[len(kept) : max(len(self.log.events) - lost, len(kept))]
        added = event(attempt + 1, self.log.last.seq + 1, RunStatus.RUNNING)
        self.log.events.append(added)
        self._publish(added)

    @precondition(lambda self: not self.log.status.is_final)
    @rule()
    def run_ends(self) -> None:
        self._publish(self.log.append(RunStatus.DONE))

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), keep=st.booleans())
    def wire_delivers_some_event(self, *, data: st.DataObject, keep: bool) -> None:
        at = data.draw(st.integers(0, len(self.wire) - 1))
        self._deliver(self.wire[at])
        if not keep:
            del self.wire[: at + 1]

    @precondition(lambda self: self.wire)
    @rule()
    def wire_delivers_all(self) -> None:
        for waiting in self.wire:
            self._deliver(waiting)
        self.wire.clear()

    @precondition(lambda self: self.wire)
    @rule()
    def wire_loses_all(self) -> None:
        self.wire.clear()

    @rule()
    def gateway_hears_how_far_the_log_reaches(self) -> None:
        self.feed.receive_last(self.log.last)

    @precondition(lambda self: self.feed.needs_read)
    @rule(target=reads, limit=st.integers(1, 5), let_go=st.integers(0, 2))
    def feed_reads(self, limit: int, let_go: int) -> tuple[None, Cursor, Sequence[LoggedEvent]]:
        return None, self.feed.head, self._read(self.feed.head, limit, let_go)

    @rule(target=watchers, data=st.data(), plain=st.booleans())
    def watcher_comes(self, *, data: st.DataObject, plain: bool) -> Record:
        cursor = data.draw(st.sampled_from([START, *(seen.cursor for seen in self.published)]))
        if plain:
            cursor = Cursor(UNKNOWN_ATTEMPT, min(cursor.seq, self.log.last.seq))
        record = Record(self.feed, cursor)
        self.records.append(record)
        return record

    @rule(target=reads, record=watchers, limit=st.integers(1, 5), let_go=st.integers(0, 2))
    def watcher_reads(self, record: Record, limit: int, let_go: int) -> tuple[Record, Cursor, Sequence[LoggedEvent]]:
        after = record.subscription.cursor
        return record, after, self._read(after, limit, let_go)

    def _read(self, after: Cursor, limit: int, let_go: int) -> Sequence[LoggedEvent]:
        """What stands in the log, which may have let its start go. What then isn't shown by a hole, the history sees by
        the attempt: it never gives it out.
        """
        found = self.log.after(after, limit)
        left = found[let_go:]
        return left if left == found or (left and left[0].cursor.seq > after.seq + 1) else ()

    @rule(read=reads, shared=st.booleans())
    def an_answer_comes(self, *, read: tuple[Record | None, Cursor, Sequence[LoggedEvent]], shared: bool) -> None:
        record, after, events = read
        if record is None:
            self.feed.receive_read(events)
            return
        if shared:
            self.feed.receive_past(after, events)
        record.subscription.receive_read(events)

    @rule(record=watchers, max_bytes=st.integers(1, 100))
    def watcher_takes(self, record: Record, max_bytes: int) -> None:
        if record.subscription.need is Need.TAKE:
            record.take(max_bytes)

    @invariant()
    def the_tail_is_gapless_and_bounded(self) -> None:
        seqs = [kept.cursor.seq for kept in self.feed.tail]
        assert seqs == list(range(self.feed.base.seq + 1, self.feed.base.seq + 1 + len(seqs)))
        assert sum(len(kept.raw) for kept in self.feed.tail) <= max(TAIL_BYTES, EVENT_BYTES)

    def teardown(self) -> None:
        """Once the wire is quiet and reads are answered, every watcher has the whole log, and no more than it."""
        if not hasattr(self, "log"):
            return
        if not self.log.status.is_final:
            self._publish(self.log.append(RunStatus.DONE))
        self.feed.receive_last(self.log.last)
        for _ in range(100):
            if self.feed.needs_read:
                self.feed.receive_read(self.log.after(self.feed.head, 50))
        assert self.feed.head == self.log.last
        for record in self.records:
            self._drain(record)
            assert record.subscription.need is Need.END
            if not record.seen and record.subscription.cursor.attempt == UNKNOWN_ATTEMPT:
                continue  # a plain seq beyond the log's end can't tell whether its event was lost
            assert record.seq == self.log.last.seq
            assert record.seen == self.log.events[len(self.log.events) - len(record.seen) :]

    def _drain(self, record: Record) -> None:
        for _ in range(1_000):
            need = record.subscription.need
            if need is Need.TAKE:
                record.take(50)
            elif need is Need.READ:
                record.subscription.receive_read(self.log.after(record.subscription.cursor, 3))
            else:
                return
        pytest.fail(f"{record.subscription} never comes to rest")


TestDelivery = DeliveryMachine.TestCase
TestDelivery.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)


@given(
    arriving=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.sampled_from([None, RunStatus.RUNNING]))),
    start=st.tuples(st.integers(-1, 2), st.integers(1, 6)),
    known=st.tuples(st.integers(0, 2), st.integers(1, 8)),
)
def test_bytes_alone_say_what_the_event_says(
    arriving: list[tuple[int, int, RunStatus | None]], start: tuple[int, int], known: tuple[int, int]
) -> None:
    """Taking an event by the end of its bytes leads where taking it by its place does."""
    by_bytes, by_place = feed_at(*start), feed_at(*start)
    for feed in (by_bytes, by_place):
        feed.receive_last(Cursor(*known))
    for arrived in arriving:
        came = event(*arrived)
        grew = by_bytes.receive_raw(came.raw) or by_bytes.receive_live(came)
        assert grew == by_place.receive_live(came)
        for name in ("tail", "head", "base", "known", "status", "needs_read"):
            assert getattr(by_bytes, name) == getattr(by_place, name)


def test_the_next_event_is_taken_by_its_bytes() -> None:
    """What says by its end that it is the next isn't looked at any further; what tells a status is."""
    feed = feed_at(1, 4)
    assert not feed.receive_raw(event(1, 6).raw)
    assert not feed.receive_raw(event(2, 5).raw)
    assert not feed.receive_raw(event(1, 5, RunStatus.DONE).raw)
    assert feed.receive_raw(event(1, 5).raw)
    assert feed.receive_raw(event(1, 6).raw)
    assert feed.tail == [event(1, 5), event(1, 6)]
    feed.receive_last(Cursor(1, 9))
    assert not feed.receive_raw(event(1, 7).raw), "what lies beyond is to be read first"


def test_a_live_event_that_follows_is_taken_at_once() -> None:
    """The next event of the same attempt goes straight into the tail."""
    feed = feed_at(1, 4)
    assert feed.receive_live(event(1, 5))
    assert feed.head == Cursor(1, 5)
    assert not feed.needs_read


def test_a_repeated_event_changes_nothing() -> None:
    """Pub/Sub may say a thing twice; the watcher hears it once."""
    feed = feed_at(1, 4)
    feed.receive_live(event(1, 5))
    assert not feed.receive_live(event(1, 5))
    assert [kept.cursor.seq for kept in feed.tail] == [5]


def test_events_after_a_hole_wait_for_the_read() -> None:
    """What comes early is shown only once the missing event was read."""
    feed = feed_at(1, 4)
    assert not feed.receive_live(event(1, 6))
    assert feed.needs_read
    assert feed.receive_read([event(1, 5)])
    assert feed.head == Cursor(1, 6)
    assert not feed.needs_read


def test_a_later_attempt_is_never_taken_from_the_wire_alone() -> None:
    """Seq alone can't tell whether events were lost before an attempt began: the log has to be asked."""
    feed = feed_at(1, 10)
    assert not feed.receive_live(event(2, 11))
    assert feed.receive_read([event(2, 9), event(2, 10), event(2, 11)])
    assert [kept.cursor for kept in feed.tail] == [Cursor(2, 9), Cursor(2, 10), Cursor(2, 11)]


def test_the_first_worker_is_believed_from_the_wire() -> None:
    """Before it nothing can have been lost: what attempt 0 says is in the database first."""
    feed = feed_at(0, 1)
    assert feed.receive_live(event(1, 2))
    assert feed.head == Cursor(1, 2)


def test_what_is_known_takes_no_memory() -> None:
    """A repeated event isn't held, whatever it says."""
    feed = feed_at(1, 4)
    assert not feed.receive_live(event(1, 3))
    assert repr(feed) == "<Feed 1-4..1-4 known=1-4 early=0 running>"


def test_a_late_event_frees_those_that_wait_for_it() -> None:
    """The wire itself may fill the hole that it made: no read is needed."""
    feed = feed_at(1, 4)
    feed.receive_live(event(1, 6))
    assert feed.receive_live(event(1, 5))
    assert repr(feed) == "<Feed 1-4..1-6 known=1-6 early=0 running>"


def test_an_answer_that_starts_late_is_not_taken() -> None:
    """The log has let its start go: what lies before has to come from elsewhere first."""
    feed = feed_at(1, 4)
    feed.receive_last(Cursor(1, 8))
    assert not feed.receive_read([event(1, 7), event(1, 8)])
    assert repr(feed) == "<Feed 1-4..1-4 known=1-8 early=0 running>"


def test_a_watcher_does_not_take_an_answer_that_starts_late() -> None:
    """The same for a watcher's own read."""
    subscription = Subscription(feed_at(1, 9), after=Cursor(1, 4))
    assert not subscription.receive_read([event(1, 7), event(1, 8)])
    assert subscription.need is Need.READ


def test_a_plain_seq_means_the_event_that_has_it_when_the_watcher_comes() -> None:
    """If that event is lost later the watcher is told, though its cursor named no attempt."""
    feed = feed_at(1, 4)
    feed.receive_live(event(1, 5))
    subscription = Subscription(feed, after=Cursor(UNKNOWN_ATTEMPT, 5))
    feed.receive_read([event(2, 5)])
    assert subscription.need is Need.READ
    subscription.receive_read([event(2, 5)])
    assert subscription.take(max_bytes=100) == [Rewind(Cursor(UNKNOWN_ATTEMPT, 4)), event(2, 5)]


def test_a_newer_attempt_is_held_in_place_of_an_older_one() -> None:
    """Of two events with one seq the later attempt's is the run's."""
    feed = feed_at(1, 4)
    feed.receive_live(event(2, 6))
    feed.receive_live(event(1, 6))
    assert feed.receive_read([event(2, 5)])
    assert [kept.cursor for kept in feed.tail] == [Cursor(2, 5), Cursor(2, 6)]


def test_held_events_of_an_older_attempt_are_let_go() -> None:
    """Once the log has passed them they will never be shown, so they take no memory."""
    feed = feed_at(1, 4)
    feed.receive_live(event(1, 9))
    feed.receive_read([event(2, 5)])
    assert repr(feed) == "<Feed 1-4..2-5 known=2-5 early=0 running>"


def test_what_is_held_after_a_hole_is_bounded() -> None:
    """More than the tail may have isn't held: the read that fills the hole brings it. What was taken counts no more."""
    feed = Feed(last=Cursor(1, 0), status=RunStatus.RUNNING, tail_bytes=3 * EVENT_BYTES)
    for seq in range(2, 9):
        feed.receive_live(event(1, seq))
    assert repr(feed) == "<Feed 1-0..1-0 known=1-8 early=3 running>"
    feed.receive_live(event(1, 1))
    assert feed.head == Cursor(1, 4)
    for seq in range(6, 10):
        feed.receive_live(event(1, seq))
    assert repr(feed).endswith("known=1-9 early=3 running>")


def test_the_tail_is_halved_when_it_is_full_and_fills_again() -> None:
    """Its bytes are counted as events come and go."""
    feed = Feed(last=Cursor(1, 0), status=RunStatus.RUNNING, tail_bytes=6 * EVENT_BYTES)
    lengths = []
    for seq in range(1, 12):
        feed.receive_live(event(1, seq))
        lengths.append(len(feed.tail))
    assert lengths == [1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 3]


def test_what_was_taken_back_no_longer_counts() -> None:
    """After a rewind there is room for the events that come instead."""
    feed = Feed(last=Cursor(1, 0), status=RunStatus.RUNNING, tail_bytes=6 * EVENT_BYTES)
    for seq in range(1, 7):
        feed.receive_live(event(1, seq))
    feed.receive_read([event(2, seq) for seq in range(2, 7)])
    assert [kept.cursor for kept in feed.tail] == [Cursor(1, 1), *(Cursor(2, seq) for seq in range(2, 7))]


def test_the_newest_event_stays_however_large() -> None:
    """A tail that can't hold one event would have every watcher read it from the log."""
    feed = Feed(last=Cursor(1, 0), status=RunStatus.RUNNING, tail_bytes=1)
    for seq in (1, 2):
        feed.receive_live(event(1, seq))
    assert [kept.cursor.seq for kept in feed.tail] == [2]


def test_nobody_is_said_to_stand_where_a_rewind_has_led() -> None:
    """Which attempt's event lies before the place isn't known there: the log is asked."""
    feed = feed_at(2, 10)
    feed.receive_read([event(3, 6)])
    assert feed.base == Cursor(UNKNOWN_ATTEMPT, 5)
    assert Subscription(feed, after=Cursor(2, 5)).need is Need.READ
    assert Subscription(feed, after=Cursor(UNKNOWN_ATTEMPT, 5)).need is Need.TAKE


def test_what_one_watcher_has_read_the_others_need_not_read() -> None:
    """A read that leads up to the tail is put before it: whoever comes with the same cursor takes it from there."""
    feed = feed_at(1, 5)
    feed.receive_live(event(1, 6))
    feed.receive_past(Cursor(1, 3), [event(1, 4), event(1, 5)])
    assert repr(feed) == "<Feed 1-3..1-6 known=1-6 early=0 running>"
    assert Subscription(feed, after=Cursor(1, 3)).need is Need.TAKE


def test_a_read_of_the_past_may_reach_into_the_tail() -> None:
    """What the tail has is not put before it again."""
    feed = feed_at(1, 5)
    feed.receive_live(event(1, 6))
    feed.receive_past(Cursor(1, 3), [event(1, 4), event(1, 5), event(1, 6)])
    assert [kept.cursor.seq for kept in feed.tail] == [4, 5, 6]


def test_a_read_of_the_past_that_does_not_reach_the_tail_is_not_kept() -> None:
    """The tail has no gaps, whatever a watcher has read."""
    feed = feed_at(1, 5)
    feed.receive_past(Cursor(1, 2), [event(1, 3), event(1, 4)])
    feed.receive_past(Cursor(1, 3), [event(1, 4), event(2, 5)])
    assert repr(feed) == "<Feed 1-5..1-5 known=1-5 early=0 running>"


def test_of_the_past_only_what_has_room_is_kept() -> None:
    """The newest of it, and its bytes count as those of the tail do."""
    feed = Feed(last=Cursor(1, 9), status=RunStatus.RUNNING, tail_bytes=4 * EVENT_BYTES)
    feed.receive_past(START, [event(1, seq) for seq in range(1, 10)])
    assert [kept.cursor.seq for kept in feed.tail] == [6, 7, 8, 9]
    assert feed.base == Cursor(1, 5)
    feed.receive_live(event(1, 10))
    assert [kept.cursor.seq for kept in feed.tail] == [9, 10]


def test_where_an_attempt_begins_the_past_is_known_only_to_the_log() -> None:
    """The attempt of the event before isn't made up."""
    feed = feed_at(2, 6)
    feed.receive_past(Cursor(1, 4), [event(2, 5), event(2, 6)])
    assert feed.base == Cursor(UNKNOWN_ATTEMPT, 4)


def test_the_beginning_of_a_run_is_known() -> None:
    """Nothing comes before the first event, so a watcher from the start needs no read."""
    feed = feed_at(1, 2)
    feed.receive_past(START, [event(0, 1), event(1, 2)])
    assert Subscription(feed, after=START).need is Need.TAKE


def test_a_watcher_who_saw_lost_events_is_told() -> None:
    """A cursor of an older attempt beyond where the next one began gets a rewind, then the new events."""
    feed = feed_at(2, 12)
    subscription = Subscription(feed, after=Cursor(1, 10))
    assert subscription.need is Need.READ
    subscription.receive_read([event(2, 9), event(2, 10), event(2, 11), event(2, 12)])
    frames = subscription.take(max_bytes=1_000)
    assert frames == [
        Rewind(Cursor(UNKNOWN_ATTEMPT, 8)),
        event(2, 9),
        event(2, 10),
        event(2, 11),
        event(2, 12),
    ]


def test_a_finished_run_ends_its_watchers_after_the_last_event() -> None:
    """END comes only when everything was taken."""
    feed = feed_at(1, 2)
    subscription = Subscription(feed, after=Cursor(1, 2))
    feed.receive_live(event(1, 3, RunStatus.DONE))
    assert repr(subscription) == "<Subscription 1-2 take frames=0>"
    subscription.take(max_bytes=1)
    assert repr(subscription) == "<Subscription 1-3 end frames=0>"


def test_a_run_is_not_over_while_its_end_is_missing() -> None:
    """A final status that was read before the hole was filled doesn't end anybody."""
    feed = feed_at(1, 2)
    feed.receive_live(event(1, 4, RunStatus.DONE))
    assert Subscription(feed, after=Cursor(1, 2)).need is Need.WAIT
    assert not feed.is_ended


def test_a_run_that_was_joined_after_its_end_is_not_over_before_it_is_read() -> None:
    """The status may be newer than the log's end was when it was asked for."""
    feed = feed_at(1, 2, status=RunStatus.DONE)
    feed.receive_last(Cursor(1, 3))
    subscription = Subscription(feed, after=Cursor(1, 2))
    assert subscription.need is Need.WAIT
    feed.receive_read([event(1, 3, RunStatus.DONE)])
    assert subscription.take(max_bytes=1) == [event(1, 3, RunStatus.DONE)]
    assert repr(subscription) == "<Subscription 1-3 end frames=0>"


def test_a_cursor_beyond_the_log_waits() -> None:
    """The log may still get there: the writer puts back what Redis lost."""
    feed = feed_at(1, 5)
    assert Subscription(feed, after=Cursor(1, 7)).need is Need.WAIT


@pytest.mark.parametrize("max_bytes", [1, EVENT_BYTES, EVENT_BYTES + 1])
def test_a_take_is_bounded_but_never_empty(max_bytes: int) -> None:
    """At least one frame comes, however large it is."""
    feed = feed_at(1, 1)
    for seq in (2, 3, 4):
        feed.receive_live(event(1, seq))
    subscription = Subscription(feed, after=Cursor(1, 1))
    assert len(subscription.take(max_bytes=max_bytes)) == 1
    assert subscription.cursor == Cursor(1, 2)
