"""Taking over: how a run passes from an attempt that is over to the next, without losing what either has told.

The archive may lag behind the log by what was told in the last moments. So the new holder first fences the log, then
brings what only the log has into the archive, and goes on after that. It is the same for a worker that claims a run and
for the sweeper that takes one from a dead worker.
"""

from collections.abc import Sequence
from typing import Final

from runcast.events import START, Cursor, LoggedEvent
from runcast.ports import Appended, RunLog, RunStore
from runcast.records import Commit, Run

_PAGE_EVENTS: Final = 500


async def take_over(run: Run, *, attempt: int, store: RunStore, log: RunLog) -> Cursor:
    """Fence the run's log for `attempt`, complete the archive in its name, and return the archive's new end."""
    kept = await log.fence(run.id, attempt, floor=run.last.seq)
    last = await archive_tail(run, upto=kept, attempt=attempt, store=store, log=log)
    if last.seq > run.last.seq:
        await log.fence(run.id, attempt, floor=last.seq)
    return last


async def archive_tail(run: Run, *, upto: Cursor, attempt: int, store: RunStore, log: RunLog) -> Cursor:
    """Archive what only the log has, up to its first hole, in the name of `attempt`. Returns the archive's end."""
    last = run.last
    while last < upto:
        events = _following(await log.read(run.id, last, limit=_PAGE_EVENTS), last)
        if not events:
            break  # what lies beyond a hole can't be vouched for
        await store.commit(Commit(run_id=run.id, attempt=attempt, events=events))
        last = events[-1].cursor
    return last


async def complete_log(run: Run, *, store: RunStore, log: RunLog) -> None:
    """Append what an ended run's log lacks of its end, as when its worker died between the commit and the append.

    A log that has let go of the run altogether is left so: its events are read from the archive.
    """
    last = (await log.read_last([run.id]))[0]
    while START < last < run.last:
        events = _following(await store.read_events(run.id, last, limit=_PAGE_EVENTS), last)
        if not events or not isinstance(await log.append(run.id, events), Appended):
            return  # older events are missing as well, or were taken back: the archive is read instead
        last = events[-1].cursor


def _following(events: Sequence[LoggedEvent], after: Cursor) -> list[LoggedEvent]:
    following: list[LoggedEvent] = []
    for event in events:
        if event.cursor.seq != after.seq + len(following) + 1:
            break
        following.append(event)
    return following
