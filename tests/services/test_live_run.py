"""A live run among its watchers: whoever comes, falls behind, catches up or leaves, each is given the log, once.

The run's feed, the broadcast and the watchers are the real ones; the log and the outlets are a model of them.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from runcast.core.delivery import Feed
from runcast.errors import UnavailableError
from runcast.events import START, Cursor, LoggedEvent, RunEvent, RunStatus, decode_event, log_event
from runcast.services.live_run import LiveRun, Surroundings
from runcast.services.turn import Turn
from runcast.services.watcher import PulledWatcher, PushedWatcher

TAIL_BYTES = 1_200  # about ten events
FULL_BYTES = 1_500  # of an outlet


def event(attempt: int, seq: int, status: str | None = None) -> LoggedEvent:
    kind, payload = ("run_status", {"status": status}) if status else ("log", {"text": f"{attempt}-{seq}"})
    ts = "2026-01-01T00:00:00.000Z"
    return log_event(RunEvent(type=kind, payload=payload, ts=ts, run_id="abc", seq=seq, attempt=attempt))


class ModelLog:
    """The run's log, and a history that reads it."""

    def __init__(self) -> None:
        self.events = [event(0, 1, "queued")]
        self.is_away = False
        self.is_broken = False  # in a way that nobody expects
        self.reads = 0

    @property
    def last(self) -> Cursor:
        return self.events[-1].cursor

    def append(self, status: str | None = None) -> LoggedEvent:
        added = event(max(self.last.attempt, 1), self.last.seq + 1, status)
        self.events.append(added)
        return added

    def lose(self, count: int) -> LoggedEvent:
        """The last events are lost by everybody, and another attempt goes on from what was kept."""
        attempt = self.last.attempt + 1
        del self.events[max(len(self.events) - count, 1) :]
        added = event(attempt, self.last.seq + 1, "running")
        self.events.append(added)
        return added

    async def read(self, _run_id: str, after: Cursor, *, limit: int = 500) -> Sequence[LoggedEvent]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.is_away:
            raise UnavailableError("away")
        if self.is_broken:
            raise ValueError("broken")
        return [kept for kept in self.events if kept.cursor > after][:limit]


class ModelWire:
    """A frame a line."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def encode(self, frames: Sequence[bytes]) -> bytes:
        self.pieces.append(b"".join(frame + b"\n" for frame in frames))
        return self.pieces[-1]

    def gather(self, outlets: Sequence["ModelOutlet"]) -> Sequence["ModelOutlet"]:
        return outlets

    def write_all(self, outlets: Sequence["ModelOutlet"], piece: bytes) -> None:
        for outlet in outlets:
            outlet.write(piece)


WIRE = ModelWire()


class ModelOutlet:
    """Takes everything, and is full from a certain amount on until it is drained."""

    wire = WIRE

    def __init__(self) -> None:
        self.written = b""
        self.waiting = 0
        self.is_full = False
        self.has_ended = False
        self.watcher: PushedWatcher | None = None

    def write(self, piece: bytes) -> None:
        assert not self.has_ended, "nothing is written after the end"
        self.written += piece
        self.waiting += len(piece)
        if self.waiting > FULL_BYTES and not self.is_full:
            self.is_full = True
            if self.watcher:
                self.watcher.receive_full()

    def drain(self) -> None:
        self.waiting = 0
        if self.is_full:
            self.is_full = False
            if self.watcher:
                self.watcher.wake()

    def receive_end(self) -> None:
        self.has_ended = True

    def seen(self, after: Cursor) -> list[Cursor]:
        """What a client makes of it: the places of the events that stand, after `after`."""
        seen: list[Cursor] = []
        at = after.seq
        for line in self.written.splitlines()[1:]:
            if line.endswith(b'"}'):
                if b'"rewind"' in line:
                    to = Cursor.parse(line.split(b'"to":"')[1].split(b'"')[0].decode()).seq
                    assert to < at, "a rewind goes back"
                    seen = [cursor for cursor in seen if cursor.seq <= to]
                    at = to
                continue
            cursor = decode_event(line).cursor
            assert cursor.seq == at + 1, f"after {at} came {cursor}"
            at = cursor.seq
            seen.append(cursor)
        return seen


class Scene:
    """One run in a gateway, and those who watch it."""

    def __init__(self, *, window_seconds: float = 0) -> None:
        self.log = ModelLog()
        self.turn = Turn(window_seconds=window_seconds)
        self.live = LiveRun(
            "abc",
            surroundings=Surroundings(
                history=self.log,  # type: ignore[arg-type]  # it has the one method that is used
                turn=self.turn,
                is_degraded=lambda: False,
                now=lambda: "2026-01-01T00:00:00.000Z",
            ),
        )
        self.feed = Feed(last=self.log.last, status=RunStatus.QUEUED, tail_bytes=TAIL_BYTES)
        self.live.join(self.feed)
        self.watchers: list[tuple[ModelOutlet, PushedWatcher, Cursor]] = []

    async def add(self, after: Cursor = START) -> ModelOutlet:
        outlet = ModelOutlet()
        outlet.watcher = PushedWatcher(self.live, self.feed, after=after, outlet=outlet)
        self.live.apart.add(outlet.watcher)
        self.watchers.append((outlet, outlet.watcher, after))
        outlet.watcher.start()
        return outlet

    def publish(self, count: int = 1) -> None:
        """Events that come together."""
        for _ in range(count):
            self.live.receive(self.log.append().raw)
        self.turn.end()

    def hear(self, event: LoggedEvent) -> None:
        self.live.receive(event.raw)
        self.turn.end()

    async def settle(self) -> None:
        """Drain everybody until nothing moves any more."""
        self.log.is_away = False
        self.live.receive_last(self.log.last)
        async with asyncio.timeout(10):
            while not all(outlet.has_ended for outlet, _, _ in self.watchers):
                for outlet, _, _ in self.watchers:
                    outlet.drain()
                await asyncio.sleep(0)


async def rest() -> None:
    """Let everything happen that is about to."""
    for _ in range(30):
        await asyncio.sleep(0)


STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 12)),
    st.tuples(st.just("say"), st.integers(1, 3)),
    st.tuples(st.just("miss"), st.integers(1, 4)),
    st.tuples(st.just("lose"), st.integers(1, 6)),
    st.tuples(st.just("come"), st.integers(0, 30)),
    st.tuples(st.just("drain"), st.integers(0, 5)),
    st.tuples(st.just("wake"), st.integers(0, 5)),
    st.tuples(st.just("hear"), st.just(0)),
    st.tuples(st.just("tick"), st.just(0)),
    st.tuples(st.just("away"), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.integers(1, 6)),
)


async def play(steps: Sequence[tuple[str, int]]) -> Scene:
    scene = Scene()
    for name, number in steps:
        await play_step(scene, name, number)
    scene.hear(scene.log.append("done"))
    await scene.settle()
    return scene


async def play_step(scene: Scene, name: str, number: int) -> None:
    actions: dict[str, Callable[[], Any]] = {
        "publish": lambda: scene.publish(number),
        "miss": lambda: [scene.log.append() for _ in range(number)],
        "lose": lambda: scene.hear(scene.log.lose(number)),
        "hear": lambda: scene.live.receive_last(scene.log.last),
        "tick": scene.live.tick,
        "away": lambda: setattr(scene.log, "is_away", bool(number)),
    }
    if name in actions:
        actions[name]()
    elif name in {"drain", "wake"}:
        for outlet, watcher, _ in scene.watchers[number : number + 1]:
            outlet.drain() if name == "drain" else watcher.wake()
    elif name == "come":
        await scene.add(scene.log.events[number].cursor if number < len(scene.log.events) else START)
    else:
        if name == "say":
            scene.publish(number)
        for _ in range(number):
            await asyncio.sleep(0)


@example(
    steps=[("miss", 1), ("come", 2), ("wait", 2), ("publish", 7), ("say", 1), ("away", 1), ("tick", 0), ("say", 1)]
)
@settings(max_examples=500, deadline=None)
@given(steps=st.lists(STEPS, max_size=40))
def test_each_watcher_is_given_the_log_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    """Whatever happened on the way, in the end each has what stands in the log after its cursor."""

    async def check() -> None:
        scene = await play(steps)
        places = [kept.cursor for kept in scene.log.events]
        for outlet, _, after in scene.watchers:
            seen = outlet.seen(after)
            assert seen == places[len(places) - len(seen) :]
            assert seen[0].seq <= after.seq + 1 if seen else after == places[-1]
        await scene.live.close()

    asyncio.run(check())


async def test_what_comes_in_one_turn_is_encoded_and_written_once() -> None:
    """Events that come with one read of the wire are one piece, the same for all who are in step."""
    scene = Scene()
    outlets = [await scene.add(scene.log.last) for _ in range(3)]
    before = [outlet.written for outlet in outlets]
    WIRE.pieces.clear()
    scene.publish(5)
    (piece,) = WIRE.pieces
    assert piece.count(b"\n") == 5
    assert [outlet.written for outlet in outlets] == [written + piece for written in before]


async def test_what_is_not_an_event_is_let_go() -> None:
    """Anybody with access to Redis may publish anything; the next event still comes."""
    scene = Scene()
    outlet = await scene.add(scene.log.last)
    for junk in (b"", b"{}", b"\xff\x00", b'{"seq":1}', b',"seq":x,"attempt":1}'):
        scene.live.receive(junk)
    scene.publish()
    assert outlet.seen(Cursor(0, 1)) == [scene.log.last]


async def test_one_run_that_fails_does_not_hold_up_the_others() -> None:
    """What is to be sent at the end of a turn is sent for each run."""
    turn, sent = Turn(), []

    class Failing:
        def flush(self) -> None:
            raise ValueError("a bug")

    class Sending:
        def flush(self) -> None:
            sent.append(1)

    for sender in (Sending(), Failing(), Sending()):
        turn.add(sender)
    turn.end()
    assert sent == [1, 1]


async def test_a_watcher_in_step_has_neither_a_task_nor_a_read() -> None:
    """Being in step costs nothing but its place."""
    scene = Scene()
    before = asyncio.all_tasks()
    outlet = await scene.add(scene.log.last)
    scene.publish(3)
    await asyncio.sleep(0)
    assert len(outlet.seen(Cursor(0, 1))) == 3
    assert asyncio.all_tasks() == before
    assert scene.log.reads == 0


async def test_a_full_outlet_gets_nothing_more_until_it_is_drained() -> None:
    """A slow watcher holds back only itself, in bounded memory."""
    scene = Scene()
    slow, quick = await scene.add(scene.log.last), await scene.add(scene.log.last)
    for _ in range(50):
        scene.publish()
        quick.drain()
        await asyncio.sleep(0)
    assert len(quick.seen(Cursor(0, 1))) == 50
    assert slow.is_full
    assert slow.waiting < FULL_BYTES + 500
    scene.hear(scene.log.append("done"))
    await scene.settle()
    assert len(slow.seen(Cursor(0, 1))) == 51


async def test_watchers_who_come_back_together_read_once() -> None:
    """A hundred who each missed an event cost the log one read."""
    scene = Scene()
    scene.log.append()
    scene.live.receive_last(scene.log.last)
    await rest()
    before = scene.log.reads
    outlets = [await scene.add(START) for _ in range(100)]
    await rest()
    later = await scene.add(START)
    assert scene.log.reads == before + 1
    assert all(len(outlet.seen(START)) == 2 for outlet in [*outlets, later])


async def test_only_quiet_runs_are_asked_about_and_those_every_other_time() -> None:
    """What goes on tells of itself: its next event shows whether one was lost before it."""
    scene = Scene()
    due = []
    for is_active in (False, False, False, True, True, False, False, False):
        due.append(scene.live.is_look_due())
        if is_active:
            scene.publish()
    assert due == [False, True, False, True, False, False, True, False]


async def test_heartbeats_come_to_those_who_hear_nothing_else() -> None:
    """Two ticks are the time between two heartbeats; what was broadcast lately stands for one."""
    scene = Scene()
    outlet = await scene.add(scene.log.last)
    said = []
    for is_active in (False, False, False, False, True, True, True, False, False):
        scene.live.tick()
        if is_active:
            scene.publish()
            await asyncio.sleep(0)
        outlet.drain()
        said.append(outlet.written.count(b'"heartbeat"'))
    assert said == [0, 1, 1, 2, 2, 2, 2, 2, 3]


async def test_a_watcher_whose_read_hangs_still_hears_heartbeats() -> None:
    """A log that doesn't answer keeps nobody in the dark."""
    scene = Scene()
    scene.log.is_away = True
    outlet = await scene.add(START)
    pulled = PulledWatcher(scene.live, scene.feed, after=START, from_snapshot=False)
    scene.live.apart.add(pulled)
    asking = asyncio.create_task(pulled.next_frames())
    await asyncio.sleep(0)
    scene.live.tick()
    scene.live.tick()
    frames = await asking
    assert frames is not None
    assert b'"heartbeat"' in frames[0]
    assert b'"heartbeat"' in outlet.written
    pulled.close()
    scene.watchers[0][1].close()
    await scene.live.close()


async def test_a_window_joins_more_but_never_delays_the_first() -> None:
    """With a window the first event leaves at once, those that follow within it leave together."""
    scene = Scene(window_seconds=0.05)
    outlet = await scene.add(scene.log.last)
    scene.publish()
    await asyncio.sleep(0)
    assert len(outlet.seen(Cursor(0, 1))) == 1
    for _ in range(3):
        scene.publish()
        await asyncio.sleep(0)
    assert len(outlet.seen(Cursor(0, 1))) == 1
    async with asyncio.timeout(5):
        while len(outlet.seen(Cursor(0, 1))) < 4:
            await asyncio.sleep(0.01)


async def test_a_watcher_that_leaves_during_its_snapshot_is_written_to_no_more() -> None:
    """Its outlet may be another's soon; and not every read that it waits for can be cancelled."""
    scene = Scene()
    outlet = ModelOutlet()
    watcher = PushedWatcher(scene.live, scene.feed, after=START, outlet=outlet)
    scene.live.apart.add(watcher)
    starting = asyncio.create_task(watcher.start_from_snapshot())
    await asyncio.sleep(0)
    hello = outlet.written
    watcher.close()
    scene.live.leave(watcher)
    await starting
    scene.publish(3)
    await rest()
    assert outlet.written == hello
    assert not scene.live.is_watched


async def test_a_read_that_fails_in_an_unexpected_way_is_tried_again_in_its_time() -> None:
    """The reader neither ends nor spins; once the history can be read, the hole is filled."""
    scene = Scene()
    outlet = await scene.add(scene.log.last)
    scene.log.is_broken = True
    scene.log.append()
    scene.live.receive_last(scene.log.last)
    await rest()
    assert scene.log.reads == 1
    scene.log.is_broken = False
    async with asyncio.timeout(10):
        while len(outlet.seen(Cursor(0, 1))) < 1:
            await asyncio.sleep(0.001)
    await scene.live.close()
