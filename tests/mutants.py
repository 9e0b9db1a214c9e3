"""Breaks the delivery core in one place at a time and asks its tests whether they notice. `python tests/mutants.py`.

Each mutation is put into a copy of the tree, never into the checkout, and `tests/core` runs there. A mutation that no
test notices is a hole in the tests: it exits 1 with the table of those that survived, or that fit the source no more.
Words after the command choose mutations by name (`python tests/mutants.py outbox`).
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
CORE: Final = Path("src/runcast/core")
TIMEOUT_SECONDS: Final = 180
"""The suite takes a few seconds; a mutant that never comes to rest is caught, too."""

_COPIED: Final = ("src/runcast", "tests", "pyproject.toml")
_NOT_COPIED: Final = shutil.ignore_patterns("__pycache__", "static", "node_modules", ".hypothesis")
_PLUGIN: Final = '''
"""Whether a test fails is all that counts here, not the smallest example: so the quick tests run first."""
import hypothesis
import pytest

hypothesis.settings.register_profile(
    "mutants",
    database=None,
    deadline=None,  # a busy machine is no failure
    derandomize=True,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("mutants")


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    items.sort(key=lambda item: item.cls is not None or hypothesis.is_hypothesis_test(item.obj))
'''


class Mutation(NamedTuple):
    """Text of a module of the core, found there exactly once, and what is put in its place."""

    module: str
    breaks: str
    before: str
    after: str


def _delivery(breaks: str, before: str, after: str) -> Mutation:
    return Mutation("delivery", breaks, before, after)


def _outbox(breaks: str, before: str, after: str) -> Mutation:
    return Mutation("outbox", breaks, before, after)


def _snapshot(breaks: str, before: str, after: str) -> Mutation:
    return Mutation("snapshot", breaks, before, after)


def _follower(breaks: str, before: str, after: str) -> Mutation:
    return Mutation("follower", breaks, before, after)


MUTATIONS: Final[Sequence[Mutation]] = (
    # The feed, live
    _delivery(
        "a later attempt is believed from the wire alone",
        "return cursor.seq == head.seq + 1 and head.attempt in (cursor.attempt, 0)",
        "return cursor.seq == head.seq + 1",
    ),
    _delivery(
        "attempt 0 isn't followed by attempt 1 on the wire",
        "and head.attempt in (cursor.attempt, 0)",
        "and head.attempt == cursor.attempt",
    ),
    _delivery("holes are jumped", "return cursor.seq == head.seq + 1 and", "return cursor.seq > head.seq and"),
    _delivery(
        "what is known comes again",
        "        if event.cursor > self.head:\n            self._hear_of",
        "        if True:\n            self._hear_of",
    ),
    _delivery(
        "a live event beyond a hole doesn't say how far the log reaches",
        "            self._hear_of(event.cursor)\n            self._hold",
        "            self._hold",
    ),
    _delivery(
        "what waits after a live event's hole stays waiting",
        "            if self._early:\n                self._take_early()\n            return True",
        "            return True",
    ),
    _delivery(
        "nothing is held after a hole",
        "            self._hold(event)\n        return False",
        "            pass\n        return False",
    ),
    _delivery(
        "the watchers aren't woken by a live event",
        "                self._take_early()\n            return True",
        "                self._take_early()\n            return False",
    ),
    # The feed, read
    _delivery(
        "a read's rewind is overlooked",
        "            if event.cursor.seq <= self.head.seq:\n                self._rewind_to(event.cursor.seq - 1)\n",
        "",
    ),
    _delivery(
        "a rewind keeps one too many", "self._rewind_to(event.cursor.seq - 1)", "self._rewind_to(event.cursor.seq)"
    ),
    _delivery(
        "a rewind takes one too many", "self._rewind_to(event.cursor.seq - 1)", "self._rewind_to(event.cursor.seq - 2)"
    ),
    _delivery(
        "a read that starts late is taken",
        "            if event.cursor.seq > self.head.seq + 1:\n                break",
        "            if False:\n                break",
    ),
    _delivery(
        "a read is compared by seq alone",
        "            if event.cursor <= self.head:\n                continue",
        "            if event.cursor.seq <= self.head.seq:\n                continue",
    ),
    _delivery(
        "what waits after a read's hole stays waiting",
        "        self._take_early()\n        return self.head != before",
        "        return self.head != before",
    ),
    _delivery("the watchers aren't woken by a read", "return self.head != before", "return False"),
    _delivery(
        "the word how far the log reaches is ignored",
        "        self._hear_of(last)\n",
        "        pass\n",
    ),
    _delivery("what is known goes back", "self.known = max(self.known, cursor)", "self.known = cursor"),
    _delivery("a hole needs no read", "return self.known > self.head", "return self.known.seq > self.head.seq"),
    _delivery(
        "a rewound base claims an attempt",
        "self.base = Cursor(UNKNOWN_ATTEMPT, seq)",
        "self.base = Cursor(self.base.attempt, seq)",
    ),
    # The feed's memory and its end
    _delivery(
        "the end is told with a hole before it",
        "return self.status.is_final and not self.needs_read",
        "return self.status.is_final",
    ),
    _delivery(
        "the tail isn't bounded", "        while self._size > self._tail_bytes // 2 and", "        while False and"
    ),
    _delivery(
        "an event is taken by another's end",
        "        if not raw.endswith(self._next_end):",
        "        if not raw.endswith(self._next_end[-3:]):",
    ),
    _delivery(
        "an event is taken though the log is known to reach further",
        "        if self.known is not head or self._early or raw",
        "        if self._early or raw",
    ),
    _delivery(
        "the tail is trimmed to too much", "self._size > self._tail_bytes // 2", "self._size > self._tail_bytes * 2"
    ),
    _delivery(
        "the base slips by one", "self.base = self.tail[count - 1].cursor", "self.base = self.tail[count].cursor"
    ),
    _delivery("the newest event is let go", "count < len(self.tail) - 1", "count < len(self.tail)"),
    _delivery(
        "bytes that are gone are counted on", "self._size -= len(self.tail[count].raw)", "self._size -= 0 * count + 1"
    ),
    _delivery(
        "bytes that were rewound are counted on",
        "        self._size -= sum(len(event.raw) for event in self.tail[keep:])\n",
        "",
    ),
    _delivery("what is held isn't bounded", "        if size <= self._tail_bytes:", "        if True:"),
    _delivery(
        "an older attempt displaces a newer one that is held",
        "held.cursor >= event.cursor",
        "held.cursor <= event.cursor",
    ),
    _delivery(
        "what was held is taken twice",
        "            self._append(event)\n            del",
        "            self._append(event)\n            self._append(event)\n            del",
    ),
    _delivery("held bytes that are gone are counted on", "            self._early_size -= len(event.raw)\n", ""),
    _delivery(
        "held events of an older attempt are kept",
        "if self._early and not self.needs_read:",
        "if False:",
    ),
    _delivery("a status is overlooked", "            self.status = event.status\n", "            pass\n"),
    # The past
    _delivery(
        "a read of the past is put before a tail that it doesn't lead to",
        "while at and events[at - 1].cursor == base and",
        "while at and",
    ),
    _delivery("what the tail has is put before it again", "if event.cursor <= self.base]", "]"),
    _delivery("the past isn't bounded", " and size + len(events[at - 1].raw) <= self._tail_bytes", ""),
    _delivery("bytes of the past aren't counted", "            size += len(events[at].raw)\n", ""),
    _delivery(
        "an attempt is made up where one begins",
        "return candidate if is_surely_next(candidate, cursor) else Cursor(UNKNOWN_ATTEMPT, cursor.seq - 1)",
        "return candidate",
    ),
    _delivery("the beginning of a run isn't known", "    if cursor.seq == 1:\n        return START\n", ""),
    # The subscription
    _delivery(
        "a cursor of a lost attempt is taken for a kept one",
        "return cursor.attempt in (here.attempt, UNKNOWN_ATTEMPT)",
        "return True",
    ),
    _delivery(
        "a plain seq never lies in the tail",
        "return cursor.attempt in (here.attempt, UNKNOWN_ATTEMPT)",
        "return cursor.attempt == here.attempt",
    ),
    _delivery(
        "the place at the tail's end isn't in it",
        "if not 0 <= at <= len(self.tail):",
        "if not 0 <= at < len(self.tail):",
    ),
    _delivery(
        "the place before the tail's start is in it",
        "if not 0 <= at <= len(self.tail):",
        "if not -1 <= at <= len(self.tail):",
    ),
    _delivery("the start is everywhere", "return self.base.seq == 0", "return True"),
    _delivery(
        "a plain seq isn't pinned to its event",
        "self.cursor = feed.cursor_of(after)",
        "self.cursor = after",
    ),
    _delivery(
        "events of the tail come one too late",
        "return self.tail[seq - self.base.seq :]",
        "return self.tail[seq - self.base.seq + 1 :]",
    ),
    _delivery(
        "events of the tail come again", "self.cursor = events[len(taken) - 1].cursor", "self.cursor = events[0].cursor"
    ),
    _delivery(
        "frames of a read come again",
        "self._frames = self._frames[len(waiting) :]",
        "self._frames = self._frames[len(waiting) - 1 :]",
    ),
    _delivery("a take ignores its limit", "        if size > max_bytes and count:", "        if False:"),
    _delivery("a take may be empty", "        if size > max_bytes and count:", "        if size > max_bytes:"),
    _delivery(
        "a watcher jumps a hole",
        "            if event.cursor.seq > self.cursor.seq + 1:\n                break",
        "            pass",
    ),
    _delivery(
        "a watcher isn't told of a rewind",
        "                self._frames.append(Rewind(Cursor(UNKNOWN_ATTEMPT, event.cursor.seq - 1)))",
        "                pass",
    ),
    _delivery(
        "a rewind names the wrong place",
        "Rewind(Cursor(UNKNOWN_ATTEMPT, event.cursor.seq - 1))",
        "Rewind(Cursor(UNKNOWN_ATTEMPT, event.cursor.seq))",
    ),
    _delivery(
        "a watcher takes an older attempt",
        "        return cursor > self.cursor\n",
        "        return cursor.seq > self.cursor.seq\n",
    ),
    _delivery(
        "a cursor beyond the log reads for ever",
        "        if self._is_ahead():\n            return Need.END if feed.is_ended else Need.WAIT\n",
        "",
    ),
    # The outbox
    _outbox(
        "state is told before it is a fact",
        "            end = min(end, self._states[0] - self._first)\n",
        "            pass\n",
    ),
    _outbox(
        "state is told with what may go first", "self._states[0] - self._first)", "self._states[0] - self._first + 1)"
    ),
    _outbox("what may go first waits with state", "self._states[0] - self._first)", "0)"),
    _outbox("only the newest state is waited for", "self._states[0] - self._first)", "self._states[-1] - self._first)"),
    _outbox("text waits for the archive", "        if is_state:\n", "        if True:\n"),
    _outbox("state that is a fact still waits", "self._states[0] <= self.archived", "self._states[0] < self.archived"),
    _outbox(
        "state that isn't a fact is taken for one",
        "while self._states and self._states[0] <= self.archived:",
        "while self._states:",
    ),
    _outbox("an append has no limit", "end = begin + max_events", "end = len(self._events)"),
    _outbox("an append goes one above its limit", "end = begin + max_events", "end = begin + max_events + 1"),
    _outbox(
        "the archive gets what it has", "return self._events[self.archived + 1 - self._first :]", "return self._events"
    ),
    _outbox(
        "an old confirmation takes the archive back", "self.archived = max(self.archived, seq)", "self.archived = seq"
    ),
    _outbox("an old confirmation takes the log back", "self.appended = max(self.appended, seq)", "self.appended = seq"),
    _outbox(
        "what the log may lose is let go",
        "min(self.archived, self.appended) + 1",
        "max(self.archived, self.appended) + 1",
    ),
    _outbox("one too many is let go", "min(self.archived, self.appended) + 1", "min(self.archived, self.appended) + 2"),
    _outbox("what has arrived is kept", "        if count > 0:", "        if count > 1:"),
    _outbox("the first place isn't moved", "            self._first += count", "            self._first += 0"),
    _outbox(
        "bytes let go are counted on",
        "            self.size -= sum(len(event.raw) for event in self._events[:count])\n",
        "",
    ),
    _outbox("bytes aren't counted", "        self.size += len(event.raw)\n", ""),
    _outbox(
        "lost events aren't appended again",
        "self.appended = min(self.appended, log_seq)",
        "self.appended = self.appended",
    ),
    _outbox(
        "a log that is ahead makes events skipped",
        "self.appended = min(self.appended, log_seq)",
        "self.appended = log_seq",
    ),
    _outbox("the floor is one too high", "        if log_seq >= floor:", "        if log_seq > floor:"),
    _outbox("below the floor nothing is appended again", "        self.appended = floor\n", ""),
    _outbox("a hole is hidden", "        return floor\n", "        return None\n"),
    _outbox("state doesn't wait for the archive", "            self._states.append(seq)\n", "            pass\n"),
    _outbox(
        "spilling drops what nobody has",
        "self.appended = max(self.appended, self.archived)",
        "self.appended = self.last_seq",
    ),
    _outbox(
        "spilling frees nothing",
        "        self.appended = max(self.appended, self.archived)\n        self._release()",
        "        self.appended = max(self.appended, self.archived)",
    ),
    _outbox("a gap in the numbers is accepted", "assert seq == self.last_seq + 1,", "assert seq > 0,"),
    # The snapshot
    _snapshot(
        "an event is folded twice", "            if event.cursor <= self.position:\n                continue\n", ""
    ),
    _snapshot(
        "a hole is folded over", "            if event.cursor.seq > self.position.seq + 1:", "            if False:"
    ),
    _snapshot(
        "a step back of the log is overlooked",
        "                if event.cursor.seq <= self.cursor.seq:\n",
        "                if False:\n",
    ),
    _snapshot("what was kept is taken back, too", "and cursor.seq >= first.seq", "and cursor.seq >= first.seq - 1"),
    _snapshot(
        "what was folded of lost events stays",
        "        self.cursor = self.position = START\n        self._clear()",
        "        self.cursor = self.position = START",
    ),
    _snapshot("the snapshot says the wrong place", "        self.cursor = event.cursor\n", "        pass\n"),
    _snapshot(
        "a new attempt's text is added to the old",
        "for key, message in fold.messages.items() if message.completed}",
        "for key, message in fold.messages.items()}",
    ),
    _snapshot(
        "a parked run's text is added to the old",
        "if event.attempt > self.cursor.attempt and event",
        "if False and event",
    ),
    _snapshot("text that waits to be tried again stays", "        _begin_attempt(fold)", "        pass"),
    _snapshot("an open question outlives its run", "        fold.requests.clear()\n", ""),
    _snapshot("a question that was answered stays open", "        fold.requests.pop(request_id, None)", "        pass"),
    _snapshot("why it was tried again outlives the retry", "        fold.facts.pop(key, None)", "        pass"),
    _snapshot("a step that was taken back stays", "        fold.steps.pop(step_id, None)\n", ""),
    _snapshot(
        "text of a step that was taken back stays", "if message.completed or message.step_id != step_id", "if True"
    ),
    _snapshot(
        "a text that was said to its end goes with its step",
        "if message.completed or message.step_id",
        "if message.step_id",
    ),
    _snapshot(
        "text is put in place of what was said before",
        "        self._parts.append(delta)",
        "        self._parts = [delta]",
    ),
    _snapshot("a text's last word on itself is ignored", "self._parts if text is None else [text]", "self._parts"),
    _snapshot("a step's progress outlives the step", '        step.pop("progress", None)\n', ""),
    _snapshot(
        "a restored text doesn't know its step",
        'completed=each["completed"], step_id=each.get("stepId")',
        'completed=each["completed"]',
    ),
    _snapshot("a restored fold starts from the beginning", "fold.cursor = fold.position = ", "fold.cursor = "),
    # The follower
    _follower("a hole is shown", "if frame.seq != self.cursor.seq + 1:", "if frame.seq <= self.cursor.seq:"),
    _follower(
        "a seq of a later attempt counts as seen",
        "return cursor <= self.cursor",
        "return cursor.seq <= self.cursor.seq",
    ),
    _follower("what was seen ends the connection", "self._is_seen(frame.cursor):", "False:"),
    _follower("a plain seq has seen everything", "if self.cursor.attempt == UNKNOWN_ATTEMPT:", "if False:"),
    _follower(
        "the attempt of the cursor is forgotten",
        "        self.cursor = frame.cursor\n",
        "        self.cursor = Cursor(UNKNOWN_ATTEMPT, frame.seq)\n",
    ),
    _follower(
        "a readable part of a message counts",
        "        if frames is None:\n            return Received((), is_sound=False)",
        "        if frames is None:\n            return Received((), is_sound=True)",
    ),
    _follower(
        "a rewind is overlooked",
        "if frame.type in {ControlType.REWIND, ControlType.SNAPSHOT}:",
        "if frame.type == ControlType.SNAPSHOT:",
    ),
    _follower(
        "a snapshot is overlooked",
        "if frame.type in {ControlType.REWIND, ControlType.SNAPSHOT}:",
        "if frame.type == ControlType.REWIND:",
    ),
    _follower("a rewind leads forward", "frame.type == ControlType.REWIND and to.seq > self.cursor.seq", "False"),
    _follower("a rewind to where one stands is refused", "to.seq > self.cursor.seq:", "to.seq >= self.cursor.seq:"),
    _follower(
        "a jump nowhere is taken for good",
        "        except InvalidCursorError:\n            return False",
        "        except InvalidCursorError:\n            return True",
    ),
    _follower(
        "the end stays after a rewind",
        "        self.cursor = to\n        self.is_ended = False",
        "        self.cursor = to",
    ),
    _follower("the end is overlooked", "        self.is_ended = _is_final(frame)\n", ""),
    _follower("every status is the end", 'event.payload.get("status") in FINAL_STATUSES', "True"),
    _follower("one heartbeat that is ahead is enough", "return not (is_behind and was_behind)", "return not is_behind"),
    _follower("heartbeats are ignored", "return not (is_behind and was_behind)", "return True"),
    _follower(
        "what another connection said counts on",
        "        self._behind_at = None\n\n    def receive_message",
        "        pass\n\n    def receive_message",
    ),
)


def path_of(mutation: Mutation, root: Path) -> Path:
    """The module that a mutation is of."""
    return root / CORE / f"{mutation.module}.py"


def count_places(mutation: Mutation, root: Path = ROOT) -> int:
    """How often the text stands in the source: once, or the mutation no longer fits."""
    return path_of(mutation, root).read_text(encoding="utf-8").count(mutation.before)


def main(words: Sequence[str]) -> int:
    """Try the mutations, print the table, and return the exit status."""
    chosen = [one for one in MUTATIONS if all(word in f"{one.module}: {one.breaks}" for word in words)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        copy = Path(directory)
        _copy_tree(copy)
        _check_copy(copy)
        results = [_try(mutation, copy) for mutation in chosen]
    failed = [result for result in results if result != "killed"]
    print(f"{len(results)} mutations, {len(results) - len(failed)} killed")  # noqa: T201 - this is what it says
    return 1 if failed or not results else 0


def _copy_tree(copy: Path) -> None:
    for name in _COPIED:
        source, target = ROOT / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=_NOT_COPIED)
        else:
            shutil.copyfile(source, target)
    (copy / "mutants_profile.py").write_text(_PLUGIN, encoding="utf-8")


def _check_copy(copy: Path) -> None:
    """The tests must see the copy and not an installation, and pass while nothing is broken."""
    code = "import runcast.core; print(runcast.core.__file__)"
    seen = _run(copy, "-c", code)
    if not Path(seen.stdout.strip()).is_relative_to(copy):
        sys.exit(f"the copy isn't what is imported: {seen.stdout or seen.stderr}")
    whole = _run_tests(copy)
    if whole is None or whole.returncode != 0:
        sys.exit(f"tests/core fails with nothing broken:\n{whole.stdout if whole else 'it never ends'}")


def _try(mutation: Mutation, copy: Path) -> str:
    """Break the copy, run the tests, mend it."""
    begun = time.monotonic()
    path = path_of(mutation, copy)
    whole = path.read_text(encoding="utf-8")
    if whole.count(mutation.before) == 1:
        path.write_text(whole.replace(mutation.before, mutation.after), encoding="utf-8")
        finished = _run_tests(copy)
        path.write_text(whole, encoding="utf-8")
        result = _judge(finished)
    else:
        result = "no longer applies"
    spent = time.monotonic() - begun
    print(f"{result:<18}{spent:5.1f} s  {mutation.module}: {mutation.breaks}", flush=True)  # noqa: T201
    return result


def _judge(finished: "subprocess.CompletedProcess[str] | None") -> str:
    """Exit status 1 is pytest's word for a failed test; whatever else it says is no proof."""
    if finished is None or finished.returncode == 1:
        return "killed"
    return "SURVIVED" if finished.returncode == 0 else "broke the tests"


def _run_tests(copy: Path) -> "subprocess.CompletedProcess[str] | None":
    """None if they took too long."""
    options = ("-x", "-q", "-p", "no:cacheprovider", "-p", "mutants_profile")
    try:
        return _run(copy, "-m", "pytest", "tests/core", *options)
    except subprocess.TimeoutExpired:
        return None


def _run(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
