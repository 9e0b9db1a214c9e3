"""Bugs planted into the product on purpose, to see that a drill catches each. Run by hand, from the checkout:

    python -m tests.chaos.plants NAME [SEED]

starts a drill whose processes all carry the bug, prints its report, and exits 0 if the drill caught it. Without a name
it lists them. What came of each stands in docs/reliability.md.
"""

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from runcast.chaos.drill import DrillOptions, run_drill
from runcast.chaos.plan import FaultKind
from runcast.cli import main as runcast
from runcast.core import delivery
from runcast.errors import StaleAttemptError
from runcast.events import Cursor, LoggedEvent, RunEvent, encode_event, read_event
from runcast.services import broadcast, live_run, lookout, sweeper, takeover, writer

_CHECKOUT: Final = Path(__file__).parent.parent.parent


def _remove_fence() -> None:
    """An attempt that is over may go on writing: neither the log nor the database refuses it."""
    from runcast.backends.redis_log import RedisPubSubService
    from runcast.backends.sql import commits, schema
    from runcast.backends.sql.archive import archive
    from runcast.ports import Appended, Fenced

    append_all, commit = RedisPubSubService.append_all, commits.commit

    async def append_always(self: RedisPubSubService, appends: Any, tell: Any) -> None:
        results: dict[int, Any] = {}
        await append_all(self, appends, results.__setitem__)
        for place, result in results.items():
            run_id, events = appends[place]
            if isinstance(result, Fenced):
                for event in events:  # published as if it were kept
                    await self._client.publish(f"run:{run_id}", event.raw)
            tell(place, Appended(events[-1].cursor) if isinstance(result, Fenced) else result)

    def commit_always(connection: Any, change: Any) -> None:
        try:
            commit(connection, change)
        except StaleAttemptError:  # a database without compare-and-set: the last writer wins
            seqs = [event.cursor.seq for event in change.events]
            is_there = (schema.events.c.run_id == change.run_id) & schema.events.c.seq.in_(seqs)
            connection.execute(schema.events.delete().where(is_there))
            archive(connection, change.run_id, change.events)

    RedisPubSubService.append_all = append_always  # type: ignore[method-assign]
    commits.commit = commit_always  # type: ignore[assignment]


def _skip_resync() -> None:
    """A hole in what arrives live isn't read from the log: what was dropped stays away."""
    delivery.Feed.needs_read = property(lambda _: False)  # type: ignore[method-assign,assignment]


def _show_holes() -> None:
    """Whatever arrives live is taken for the next."""
    delivery.is_surely_next = lambda head, cursor: cursor.seq > head.seq


def _trust_the_wire() -> None:
    """Nobody asks how far the log reaches: a lost last message is never noticed."""

    async def look_away(self: lookout.Lookout, runs: Any) -> None:
        """Ask nobody."""

    lookout.Lookout._look_into_log = look_away  # type: ignore[method-assign]
    lookout.Lookout._look_into_database = look_away  # type: ignore[method-assign]


def _reuse_seqs() -> None:
    """When Redis has lost its tail, the worker goes on numbering where Redis stands, as if nobody had seen it."""

    async def renumber(self: writer.RunWriter, last: Cursor) -> None:
        box = self._outbox
        lost = min(last.seq, box.last_seq)
        back = box._first - (lost + 1)
        box._events = [_renumbered(event, event.cursor.seq - back) for event in box._events]
        box._states = deque(seq - back for seq in box._states)
        box._first, box.last_seq = lost + 1, box.last_seq - back
        box.appended = lost
        box.archived = min(box.archived, lost)

    def _renumbered(logged: LoggedEvent, seq: int) -> LoggedEvent:
        from runcast.events import decode_event

        event: RunEvent = decode_event(logged.raw)
        fields = {name: getattr(event, name) for name in event.__struct_fields__} | {"seq": seq}
        return read_event(encode_event(RunEvent(**fields)))

    writer.RunWriter._restore = renumber  # type: ignore[method-assign]


def _hide_rewinds() -> None:
    """A watcher that saw events which are lost isn't told."""
    raws = live_run.LiveRun.raws

    def hide(self: live_run.LiveRun, frames: Sequence[delivery.Frame]) -> list[bytes]:
        return [raws(self, [frame])[0] if isinstance(frame, LoggedEvent) else self.heartbeat() for frame in frames]

    live_run.LiveRun.raws = hide  # type: ignore[method-assign]


def _forget_tail() -> None:
    """A new attempt doesn't look what only the log has of the one before."""

    async def forget(run: Any, **_: Any) -> Cursor:
        last: Cursor = run.last
        return last

    takeover.archive_tail = forget
    sweeper.archive_tail = forget  # type: ignore[attr-defined]  # its own name for the same


def _drop_equal_text() -> None:
    """Two deltas of the same text, one after the other, are taken for one that came twice."""
    raws, write = live_run.LiveRun.raws, broadcast.Broadcast.write

    def without_repeats(frames: Sequence[bytes]) -> list[bytes]:
        kept, last = [], b""
        for frame in frames:
            text = frame.partition(b'"delta":"')[2].partition(b'"')[0]
            if not text or text != last:
                kept.append(frame)
            last = text
        return kept

    live_run.LiveRun.raws = lambda self, frames: without_repeats(raws(self, frames))  # type: ignore[method-assign]
    broadcast.Broadcast.write = lambda self, frames: write(self, without_repeats(frames))  # type: ignore[method-assign]


PLANTS: Final[dict[str, Callable[[], None]]] = {
    "fence_removed": _remove_fence,
    "resync_skipped": _skip_resync,
    "holes_shown": _show_holes,
    "wire_trusted": _trust_the_wire,
    "seq_reused": _reuse_seqs,
    "rewinds_hidden": _hide_rewinds,
    "tail_forgotten": _forget_tail,
    "equal_text_dropped": _drop_equal_text,
}
_KINDS: Final = {
    "fence_removed": (FaultKind.WORKER_PAUSED,),
    "resync_skipped": (FaultKind.MESSAGES_DROPPED, FaultKind.REDIS_KILLED),
    "holes_shown": (FaultKind.MESSAGES_DROPPED, FaultKind.LINKS_CUT),
    "wire_trusted": (FaultKind.MESSAGES_DROPPED,),
    "seq_reused": (FaultKind.REDIS_ROLLED_BACK, FaultKind.REDIS_WIPED),
    "rewinds_hidden": (FaultKind.WORKER_AND_TAIL_LOST,),
    "tail_forgotten": (FaultKind.WORKER_KILLED,),
    "equal_text_dropped": (),
}
"""The faults under which each bug shows; a whole drill takes longer and shows it as well."""


def main(name: str, seed: int) -> int:
    """Run a drill with the bug; 0 if it was caught."""
    options = DrillOptions(
        seed=seed,
        runs=60,
        lines=150,
        watchers=120,
        lease_seconds=2,
        pace=0.6,
        kinds=_KINDS[name],
        settle_seconds=25,
        command=(sys.executable, "-m", "tests.chaos.plants", "--as", name),
    )
    environ = dict(os.environ) | {"PYTHONPATH": f"{_CHECKOUT / 'src'}{os.pathsep}{_CHECKOUT}"}
    report = asyncio.run(run_drill(options, environ=environ, say=print))
    sys.stdout.write(f"{report.render()}\nplanted bug {name}: {'NOT CAUGHT' if report.is_clean else 'caught'}\n")
    return 1 if report.is_clean else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if not arguments:
        sys.stdout.writelines(f"{name:<20}{plant.__doc__}\n" for name, plant in PLANTS.items())
    elif arguments[0] == "--as":
        PLANTS[arguments[1]]()
        runcast(arguments[2:])
    else:
        sys.exit(main(arguments[0], int(arguments[1]) if len(arguments) > 1 else 1))
