"""Taking runs from dead workers, and how far runs have got: the store's promises, on every database."""

import asyncio

import pytest

from runcast.errors import StaleAttemptError
from runcast.events import Cursor, LoggedEvent, RunStatus
from runcast.ports import RunStore
from runcast.records import Head, Run, RunError, StatusChange
from tests.backends.test_store import LATER, NOW, RUN, archive, change, claim, commit, create, event

LOST = RunError(code="worker_lost", message="gone")


def retry(run: Run) -> tuple[StatusChange, LoggedEvent]:
    return change(RunStatus.RETRYING), event(run.attempt + 1, run.last.seq + 1, status="retrying")


def fail(run: Run) -> tuple[StatusChange, LoggedEvent]:
    return change(RunStatus.FAILED, error=LOST), event(run.attempt + 1, run.last.seq + 1, status="failed")


async def test_a_living_worker_keeps_its_run(store: RunStore) -> None:
    """Until its lease has run out nobody can take it."""
    await claim(store)
    assert await store.take_from_dead(RUN, retry, now=NOW) is None


async def test_a_dead_worker_loses_its_run_and_every_right_to_write(store: RunStore) -> None:
    """Status, attempt and event change together; the old attempt is refused from then on."""
    await claim(store)
    taken = await store.take_from_dead(RUN, retry, now=LATER)
    assert taken is not None
    assert (taken.status, taken.attempt, taken.last) == (RunStatus.RETRYING, 2, Cursor(2, 2))
    assert [kept.cursor for kept in await archive(store)] == [Cursor(0, 1), Cursor(2, 2)]
    with pytest.raises(StaleAttemptError):
        await store.commit(commit(event(1, 2)))


async def test_the_next_worker_goes_on_with_the_attempt_that_was_announced(store: RunStore) -> None:
    """`retrying` names the attempt; whoever claims the run is that one."""
    await claim(store)
    await store.take_from_dead(RUN, retry, now=LATER)
    claimed = await store.claim_run(RUN, "w2", now=LATER)
    assert claimed is not None
    assert (claimed.previous, claimed.run.attempt) == (RunStatus.RETRYING, 2)


async def test_a_run_may_be_ended_for_its_dead_worker(store: RunStore) -> None:
    """With the error that says why, for good."""
    await claim(store)
    taken = await store.take_from_dead(RUN, fail, now=LATER)
    assert taken is not None
    assert (taken.status, taken.error, taken.ended_at) == (RunStatus.FAILED, LOST, LATER)
    assert await store.claim_run(RUN, "w2", now=LATER) is None


async def test_only_one_of_many_takes_a_run(store: RunStore) -> None:
    """Every process sweeps; what they find at once is taken once."""
    await claim(store)
    taken = await asyncio.gather(*(store.take_from_dead(RUN, retry, now=LATER) for _ in range(8)))
    assert len([run for run in taken if run is not None]) == 1
    assert len(await archive(store)) == 2


@pytest.mark.parametrize("run_id", [RUN, "nobody"])
async def test_what_nobody_holds_cannot_be_taken(store: RunStore, run_id: str) -> None:
    """A waiting run, or none."""
    await create(store)
    assert await store.take_from_dead(run_id, retry, now=LATER) is None


async def test_an_attempt_can_ask_whether_it_still_counts(store: RunStore) -> None:
    """Also after the run has ended: it ended as that attempt's."""
    await claim(store)
    await store.check_attempt(RUN, 1)
    await store.commit(commit(event(1, 2, status="failed"), change=change(RunStatus.FAILED)))
    await store.check_attempt(RUN, 1)
    for run_id, attempt in ((RUN, 2), (RUN, 0), ("nobody", 1)):
        with pytest.raises(StaleAttemptError):
            await store.check_attempt(run_id, attempt)


async def test_heads_tell_how_far_runs_have_got(store: RunStore) -> None:
    """For any number of runs at once; unknown ones are absent."""
    await claim(store)
    await create(store, "other")
    asked = [RUN, "other", *(f"nobody-{number}" for number in range(2_500))]
    assert await store.read_heads(asked) == {
        RUN: Head(Cursor(0, 1), RunStatus.RUNNING),
        "other": Head(Cursor(0, 1), RunStatus.QUEUED),
    }
    assert await store.read_heads([]) == {}
