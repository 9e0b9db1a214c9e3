"""The protocol's vectors: what PROTOCOL.md says, as JSON, held against the gateway's core and the Python client.

The console runs the same files (`console/src/vectors.test.ts`). Nothing here knows what a scenario expects but the
scenario itself.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

from runcast.client import RuncastClient
from runcast.core.delivery import Feed, Frame, Need, Rewind, Subscription
from runcast.core.follower import Follower
from runcast.core.snapshot import RunFold
from runcast.errors import InvalidCursorError, RuncastError, UnavailableError
from runcast.events import (
    START,
    UNKNOWN_ATTEMPT,
    ControlType,
    Cursor,
    EventType,
    LoggedEvent,
    RunEvent,
    RunStatus,
    decode_event,
    encode_control,
    encode_event,
    read_event,
)
from tests.cli.gateway import TS, Script, gateway

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "tests" / "vectors"
RUN_ID = "r"
SILENCE_SECONDS = 0.15
EVENT_BYTES = 20

Json = dict[str, Any]


def load(name: str) -> Json:
    loaded: Json = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def scenarios(name: str, key: str = "scenarios") -> list[Any]:
    return [pytest.param(one, id=one["name"]) for one in load(name)[key]]


# Encoding and cursors


@pytest.mark.parametrize("vector", scenarios("encoding", "events"))
def test_an_event_has_exactly_these_bytes(vector: Json) -> None:
    """The writer's bytes are the protocol's, and the gateway reads place and status from them."""
    frame = vector["frame"]
    event = RunEvent(
        type=frame["type"],
        payload=frame["payload"],
        ts=frame["ts"],
        run_id=frame["runId"],
        step_id=frame.get("stepId"),
        seq=frame["seq"],
        attempt=frame["attempt"],
    )
    assert encode_event(event).decode() == vector["bytes"]
    assert decode_event(vector["bytes"].encode()) == event
    status = RunStatus(vector["status"]) if vector["status"] else None
    logged = read_event(vector["bytes"].encode())
    assert (logged.cursor, logged.status) == (Cursor.parse(vector["cursor"]), status)


@pytest.mark.parametrize("vector", scenarios("encoding", "controls"))
def test_a_control_frame_has_exactly_these_bytes(vector: Json) -> None:
    """Four keys, in the order of an event's."""
    frame = vector["frame"]
    kind = EventType.RUN_STATUS if frame["type"] == "run_status" else ControlType(frame["type"])
    assert encode_control(kind, frame["runId"], frame["payload"], frame["ts"]).decode() == vector["bytes"]


@pytest.mark.parametrize("vector", scenarios("encoding", "readable"))
def test_what_a_later_version_says_can_be_read(vector: Json) -> None:
    """Unknown keys and types are no errors."""
    event = decode_event(vector["bytes"].encode())
    assert (str(event.cursor), event.type) == (vector["cursor"], vector["type"])


@pytest.mark.parametrize("vector", load("cursors")["valid"], ids=lambda vector: vector["from"])
def test_a_cursor_is_read_and_written_back(vector: Json) -> None:
    """A plain seq has no attempt."""
    cursor = Cursor.parse(vector["from"])
    attempt = UNKNOWN_ATTEMPT if vector["attempt"] is None else vector["attempt"]
    assert cursor == Cursor(attempt, vector["seq"])
    assert str(cursor) == vector.get("text", vector["from"])


@pytest.mark.parametrize("text", load("cursors")["invalid"], ids=repr)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(InvalidCursorError):
        Cursor.parse(text)


def test_cursors_are_ordered_by_attempt_then_seq() -> None:
    """The order of the log."""
    cursors = [Cursor.parse(text) for text in load("cursors")["ascending"]]
    assert sorted(cursors) == cursors


# The client


@pytest.mark.parametrize("scenario", scenarios("feed"))
async def test_the_client_shows_what_it_must(scenario: Json) -> None:
    """Whatever its connections bring, the watcher sees the run, and comes back with the right cursor."""
    scripts = [script_of(connection) for connection in scenario["connections"]]
    async with gateway(*scripts) as server:
        screen, ends = await follow(server.url, scenario.get("after"))
    assert server.cursors == scenario["asks"]
    assert screen.shown == scenario["shown"]
    assert ends == scenario["ends"]
    assert screen.text == scenario.get("text", "")


class Screen:
    """What a watcher has before it: the events that count, and their text."""

    def __init__(self) -> None:
        self._events: list[RunEvent] = []
        self._snapshot: str | None = None

    @property
    def shown(self) -> list[str]:
        snapshot = [f"snapshot {self._snapshot}"] if self._snapshot else []
        return snapshot + [str(event.cursor) for event in self._events]

    @property
    def text(self) -> str:
        return "".join(event.payload["delta"] for event in self._events if event.type == EventType.MESSAGE_DELTA)

    def receive(self, news: Any) -> None:
        if isinstance(news, RunEvent):
            self._events.append(news)
        elif news.type == ControlType.REWIND:
            to = Cursor.parse(news.payload["to"]).seq
            self._events = [event for event in self._events if event.seq <= to]
        elif news.type == ControlType.SNAPSHOT:
            self._events, self._snapshot = [], news.payload["to"]


async def follow(url: str, after: str | None) -> tuple[Screen, str]:
    screen = Screen()
    async with RuncastClient(url, silence_seconds=SILENCE_SECONDS, jitter=lambda: 0.0) as client:
        try:
            async for news in client.watch(RUN_ID, after=after, control=True):
                screen.receive(news)
        except UnavailableError:
            raise
        except RuncastError:
            return screen, "refused"
    return screen, "finished"


def script_of(connection: Json) -> Script:
    async def script(socket: ServerConnection, _cursor: str) -> None:
        for frames in connection["messages"]:
            await socket.send("\n".join(line_of(frame) for frame in frames))
        match connection["close"]:
            case "torn":
                socket.transport.close()  # what was sent still leaves, a close frame doesn't
            case "silent" | "client":
                await socket.wait_closed()
            case code, reason:
                await socket.close(code, reason)

    return script


def line_of(frame: str | Json) -> str:
    """A frame of a scenario as its line on the wire."""
    if isinstance(frame, str):
        return encode_event(event_of(frame)).decode()
    if "raw" in frame:
        return str(frame["raw"])
    if "control" in frame:
        head = {"type": frame["control"], "payload": frame["payload"], "ts": TS, "runId": RUN_ID}
        return json.dumps(head, separators=(",", ":"))
    return encode_event(make_event(frame["type"], frame["payload"], Cursor.parse(frame["at"]))).decode()


def event_of(short: str) -> RunEvent:
    """`1-3`, `1-3 done`, `1-3 failed`."""
    place, _, word = short.partition(" ")
    cursor = Cursor.parse(place)
    if word == "done":
        return make_event(EventType.RUN_COMPLETED, {"status": word, "output": None}, cursor)
    if word:
        return make_event(EventType.RUN_STATUS, {"status": word}, cursor)
    return make_event(EventType.LOG, {"message": place}, cursor)


def make_event(event_type: str, payload: Mapping[str, Any], cursor: Cursor) -> RunEvent:
    return RunEvent(type=event_type, payload=payload, ts=TS, run_id=RUN_ID, seq=cursor.seq, attempt=cursor.attempt)


# The gateway


@pytest.mark.parametrize("scenario", scenarios("gateway"))
def test_the_gateway_sends_what_it_must(scenario: Json) -> None:
    """Whatever the log keeps and the wire brings, each watcher is sent the run."""
    desk = Desk(scenario)
    for step in scenario["steps"]:
        desk.perform(step)
    desk.take()
    sent = {name: [short_of(frame) for frame in desk.sent[name]] for name in scenario["sends"]}
    assert sent == scenario["sends"]
    assert [name for name, one in desk.watchers.items() if one.need is Need.END] == scenario["ends"]


@pytest.mark.parametrize("scenario", scenarios("gateway"))
def test_the_client_takes_what_the_gateway_sends(scenario: Json) -> None:
    """The two halves of the protocol fit: nothing that a gateway must send makes a client ask again."""
    desk = Desk(scenario)
    for step in scenario["steps"]:
        desk.perform(step)
    desk.take()
    for name, frames in desk.sent.items():
        follower = Follower(after=desk.began[name])
        for frame in frames:
            news, is_sound = follower.receive_message(wire_of(frame))
            assert (len(news), is_sound) == (1, True)
        assert follower.cursor.seq == desk.watchers[name].cursor.seq


class Desk:
    """A feed, its watchers and the log that they read, moved by a scenario's steps."""

    def __init__(self, scenario: Json) -> None:
        self._log = [logged(short) for short in scenario["log"]]
        self._may_read = not scenario.get("unread", False)
        status = next((event.status for event in reversed(self._log) if event.status), RunStatus.QUEUED)
        self._feed = Feed(last=self._last, status=status, tail_bytes=scenario.get("tailBytes", 10_000))
        self.watchers: dict[str, Subscription] = {}
        self.began: dict[str, Cursor] = {}
        self.sent: dict[str, list[Frame]] = {}

    @property
    def _last(self) -> Cursor:
        return self._log[-1].cursor if self._log else START

    def perform(self, step: Json) -> None:
        match step:
            case {"append": short}:
                self._log.append(logged(short))
            case {"lose": cursor}:
                self._log = [event for event in self._log if event.cursor <= Cursor.parse(cursor)]
            case {"live": short}:
                self._feed.receive_live(logged(short))
            case {"hear": True}:
                self._feed.receive_last(self._last)
            case {"watch": name, "after": after}:
                self.began[name] = Cursor.parse(after)
                self.watchers[name] = Subscription(self._feed, after=self.began[name])
                self.sent[name] = []
            case {"take": _}:
                self.take()
            case _:
                pytest.fail(f"a step that nobody knows: {step}")
        if self._may_read and self._feed.needs_read:
            self._feed.receive_read(self._read(self._feed.head))

    def take(self) -> None:
        """Give every watcher what there is for it."""
        for name, watcher in self.watchers.items():
            for _ in range(100):
                if watcher.need is Need.TAKE:
                    self.sent[name] += watcher.take(max_bytes=2 * EVENT_BYTES)
                elif watcher.need is Need.READ and self._may_read:
                    watcher.receive_read(self._read(watcher.cursor))
                else:
                    break
            else:
                pytest.fail(f"{watcher} never comes to rest")

    def _read(self, after: Cursor) -> Sequence[LoggedEvent]:
        """Three events at most, so that a long way takes several reads."""
        if after.attempt == UNKNOWN_ATTEMPT:
            return [event for event in self._log if event.cursor.seq > after.seq][:3]
        return [event for event in self._log if event.cursor > after][:3]


def logged(short: str) -> LoggedEvent:
    place, _, word = short.partition(" ")
    return LoggedEvent(Cursor.parse(place), place.ljust(EVENT_BYTES).encode(), RunStatus(word) if word else None)


def short_of(frame: Frame) -> str | Json:
    return {"rewind": frame.to.seq} if isinstance(frame, Rewind) else str(frame.cursor)


def wire_of(frame: Frame) -> bytes:
    if isinstance(frame, Rewind):
        return encode_control(ControlType.REWIND, RUN_ID, {"to": str(frame.to)}, TS)
    return encode_event(event_of(str(frame.cursor)))


# What the events come to


@pytest.mark.parametrize("scenario", scenarios("fold"))
def test_the_events_come_to_what_they_must(scenario: Json) -> None:
    """What is taken back and what stays, read in one go or from a snapshot on."""
    events = [make_event(kind, payload, Cursor.parse(place)) for place, kind, payload in scenario["events"]]
    for cut in range(len(events) + 1):
        fold = RunFold()
        fold.receive(events[:cut])
        fold = RunFold.restore(fold.describe())
        fold.receive(events[cut:])
        described = fold.describe()
        assert described["status"] == scenario["status"]
        steps = sorted(described["steps"], key=lambda step: step["index"])
        assert [[step["stepId"], step["status"]] for step in steps] == scenario["steps"]
        messages = [[each["messageId"], each["text"], each["completed"]] for each in described["messages"]]
        assert messages == scenario["messages"]
        assert [each["requestId"] for each in described["requests"]] == scenario["requests"]


# PROTOCOL.md


def test_rules_and_vectors_name_each_other() -> None:
    """Each rule says which files test it, and each file's scenarios say which rules: neither names what isn't there."""
    text = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    rules = re.findall(r"^\*\*(R\d+)\b", text, re.MULTILINE)
    assert rules == [f"R{number}" for number in range(1, len(rules) + 1)]
    named = {rule: named_vectors(text, rule) for rule in rules}
    assert {rule: files for rule, files in vectors_by_rule().items() if files} == {
        rule: files for rule, files in named.items() if files
    }


def named_vectors(text: str, rule: str) -> set[str]:
    block = text.split(f"**{rule}", 1)[1].split("\n**R", 1)[0]
    line = re.search(r"^Vectors: (.+)$", block, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", line[1])) if line else set()


def vectors_by_rule() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"R6": {"cursors"}}
    for name in ("encoding", "feed", "gateway", "fold"):
        for group in load(name).values():
            for one in group:
                for rule in one["rules"] if isinstance(one, dict) else ():
                    found.setdefault(rule, set()).add(name)
    return found
