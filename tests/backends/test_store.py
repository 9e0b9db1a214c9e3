"""The promises of the `RunStore` port, on every database that keeps them."""

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runcast.core.lifecycle import CANCELED_AT_ONCE, HELD_BY_WORKER, is_run_transition
from runcast.errors import IllegalCommitError, InvalidInputError, StaleAttemptError
from runcast.events import (
    START,
    UNKNOWN_ATTEMPT,
    Cursor,
    EventType,
    LoggedEvent,
    RunEvent,
    RunStatus,
    StepStatus,
    log_event,
)
from runcast.ports import RunStore
from runcast.records import Commit, NewRun, Run, RunError, RunFilter, StatusChange, Step

RUN = "abc"
NOW = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
SOON = NOW + timedelta(seconds=10)
LATER = NOW + timedelta(seconds=60)
ON_A_DATABASE = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
NUMBERS = itertools.count()


def event(attempt: int, seq: int, *, run_id: str = RUN, status: str | None = None, text: str = "") -> LoggedEvent:
    kind = EventType.RUN_STATUS if status else EventType.LOG
    payload = {"status": status} if status else {"text": text}
    return log_event(
        RunEvent(type=kind, payload=payload, ts="2026-01-01T00:00:00.000Z", run_id=run_id, seq=seq, attempt=attempt)
    )


def events(attempt: int, first: int, last: int) -> list[LoggedEvent]:
    return [event(attempt, seq) for seq in range(first, last + 1)]


async def create(store: RunStore, run_id: str = RUN, **more: Any) -> Run:
    new = NewRun(**{"id": run_id, "runner": "prompt", "input": {}, "created_at": NOW, **more})
    run, _ = await store.create_run(new, event(0, 1, run_id=run_id, status="queued"))
    return run


async def claim(store: RunStore, run_id: str = RUN, worker_id: str = "w1") -> Run:
    """Create a run and have a living worker take it."""
    await create(store, run_id)
    await store.renew_lease(worker_id, until=SOON)
    claimed = await store.claim_run(run_id, worker_id, now=NOW)
    assert claimed is not None
    return claimed.run


def change(status: RunStatus, **more: Any) -> StatusChange:
    return StatusChange(status=status, at=LATER, **more)


def commit(*logged: LoggedEvent, attempt: int = 1, **more: Any) -> Commit:
    return Commit(run_id=RUN, attempt=attempt, events=logged, **more)


async def archive(store: RunStore, run_id: str = RUN) -> Sequence[LoggedEvent]:
    return await store.read_events(run_id, Cursor(0, 0), limit=1_000)


async def unattended(store: RunStore, **asked: Any) -> list[str]:
    return [run.id for run in await store.list_unattended(**asked)]


async def bring_to(store: RunStore, status: RunStatus) -> Run:
    """A run in any status, by the ways that lead there."""
    if status is RunStatus.QUEUED:
        return await create(store)
    if (await claim(store)).status is not status:
        await store.commit(commit(event(1, 2), change=change(status)))
    run = await store.get_run(RUN)
    assert run is not None
    return run


class TestCreating:
    async def test_a_new_run_is_queued_with_its_first_event(self, store: RunStore) -> None:
        """A created run has everything that was given, the status queued, and its first event in the archive."""
        new = NewRun(
            id=RUN,
            runner="greet",
            input={"name": "Ada", "deep": [1, None, {"x": 1.5}]},
            created_at=NOW,
            prompt="Say hello",
            tags=("blue", "red"),
            idempotency_key="k",
        )
        expected = Run(
            id=RUN,
            runner="greet",
            status=RunStatus.QUEUED,
            attempt=0,
            last=Cursor(0, 1),
            input=new.input,
            created_at=NOW,
            prompt="Say hello",
            tags=("blue", "red"),
        )
        first = event(0, 1, status="queued")

        assert await store.create_run(new, first) == (expected, True)
        assert await store.get_run(RUN) == expected
        assert await archive(store) == [first]

    async def test_a_known_id_gives_the_run_that_is_there(self, store: RunStore) -> None:
        """Creating under a known id changes nothing and returns the first run."""
        first = await create(store, prompt="first")
        again = NewRun(id=RUN, runner="other", input={}, created_at=LATER, tags=("late",))

        assert await store.create_run(again, event(0, 1, text="again")) == (first, False)
        assert [stored.raw for stored in await archive(store)] == [event(0, 1, status="queued").raw]
        assert (await store.list_runs(RunFilter(tag="late"), limit=5)).runs == []

    async def test_a_known_key_gives_the_run_that_is_there(self, store: RunStore) -> None:
        """Creating with a known idempotency key returns the run created with it, whatever the id."""
        first = await create(store, "one", idempotency_key="k")
        again = NewRun(id="two", runner="prompt", input={}, created_at=LATER, idempotency_key="k")

        assert await store.create_run(again, event(0, 1, run_id="two")) == (first, False)
        assert await store.get_run("two") is None

    async def test_the_id_is_the_closer_name(self, store: RunStore) -> None:
        """If the id is one run's and the key another's, the run with the id is meant."""
        await create(store, "one", idempotency_key="k")
        two = await create(store, "two", created_at=LATER)
        both = NewRun(id="two", runner="prompt", input={}, created_at=LATER, idempotency_key="k")
        assert await store.create_run(both, event(0, 1, run_id="two")) == (two, False)

    async def test_runs_without_a_key_are_all_different(self, store: RunStore) -> None:
        """No key is no likeness."""
        await create(store, "one")
        await create(store, "two")
        assert await store.count_runs() == {"queued": 2}

    async def test_of_many_racers_with_one_key_one_creates(self, store: RunStore, other_store: RunStore) -> None:
        """Twenty requests with one key, in two processes, make one run, and all are given that one."""
        news = [NewRun(id=f"r{n}", runner="p", input={}, created_at=NOW, idempotency_key="k") for n in range(20)]
        stores = itertools.cycle([store, other_store])

        answers = await asyncio.gather(*(next(stores).create_run(new, event(0, 1, run_id=new.id)) for new in news))

        assert sorted(created for _, created in answers) == [False] * 19 + [True]
        assert len({run.id for run, _ in answers}) == 1
        assert await store.count_runs() == {"queued": 1}

    async def test_of_many_racers_with_one_id_one_creates(self, store: RunStore, other_store: RunStore) -> None:
        """Twenty requests with one id, in two processes, make one run."""
        new = NewRun(id=RUN, runner="p", input={}, created_at=NOW)
        answers = await asyncio.gather(*(s.create_run(new, event(0, 1)) for s in [store, other_store] * 10))
        assert sorted(created for _, created in answers) == [False] * 19 + [True]

    async def test_odd_characters_are_kept_or_stood_for(self, store: RunStore) -> None:
        """NUL comes back whole in JSON and as U+FFFD in text, on every database."""
        run = await create(store, prompt="a\0b 😀\ud800", input={"text": "a\0b 😀"}, tags=("t\0",))
        assert (run.prompt, run.input, run.tags) == ("a\ufffdb 😀\ufffd", {"text": "a\0b 😀"}, ("t\0",))
        assert len((await store.list_runs(RunFilter(tag="t\0"), limit=5)).runs) == 1

    async def test_an_input_that_isnt_text_is_the_callers_fault(self, store: RunStore) -> None:
        """Half a surrogate pair in the input is refused as invalid, and nothing is stored."""
        with pytest.raises(InvalidInputError):
            await create(store, input={"text": "\ud800"})
        assert await store.count_runs() == {}

    async def test_times_come_back_as_utc(self, store: RunStore) -> None:
        """A time of any zone comes back as the same moment, in UTC, to the microsecond."""
        abroad = NOW.astimezone(timezone(timedelta(hours=-7)))
        run = await create(store, created_at=abroad)
        assert (run.created_at, run.created_at.tzinfo) == (NOW, UTC)


class TestArchiving:
    async def test_any_number_of_events_is_archived_in_order(self, store: RunStore) -> None:
        """However many go in at once, of one attempt or of several."""
        await claim(store)
        written = [event(min(seq // 300, 1), seq) for seq in range(2, 1000)]
        await store.commit(commit(*written))
        assert await store.read_events(RUN, Cursor(0, 1), limit=2000) == written

    async def test_archiving_again_keeps_what_is_there(self, store: RunStore) -> None:
        """A commit that overlaps an earlier one adds what is new."""
        await claim(store)
        written = [event(1, seq) for seq in range(2, 90)]
        await store.commit(commit(*written[:50]))
        await store.commit(commit(*written[20:]))
        assert await store.read_events(RUN, Cursor(0, 1), limit=2000) == written


class TestClaiming:
    async def test_a_queued_run_is_taken_as_attempt_one(self, store: RunStore) -> None:
        """A claim sets the run running, as the worker's, with the next attempt and its start."""
        before = await create(store)
        claimed = await store.claim_run(RUN, "w1", now=SOON)

        assert claimed is not None
        assert claimed.previous is RunStatus.QUEUED
        assert claimed.run == await store.get_run(RUN)
        run = claimed.run
        assert (run.status, run.attempt, run.worker_id, run.started_at) == (RunStatus.RUNNING, 1, "w1", SOON)
        assert run.last == before.last

    async def test_a_claim_tells_of_itself_in_the_same_transaction(self, store: RunStore) -> None:
        """The event is made of the run as it stands then, is archived with it, and comes back."""
        await create(store)
        told: list[Run] = []

        def tell(run: Run) -> LoggedEvent:
            told.append(run)
            return event(run.attempt, run.last.seq, status="running")

        claimed = await store.claim_run(RUN, "w1", now=SOON, tell=tell)

        assert claimed is not None
        assert claimed.told == event(1, 2, status="running")
        assert told == [claimed.run] == [await store.get_run(RUN)]
        assert claimed.run.last == Cursor(1, 2)
        archived = await store.read_events(RUN, START, limit=9)
        assert [logged.cursor for logged in archived] == [Cursor(0, 1), Cursor(1, 2)]

    async def test_a_claim_of_a_run_that_was_held_before_tells_nothing(self, store: RunStore) -> None:
        """What its log lacks has to be archived first: that is the new holder's to do."""
        before = await claim(store)

        def tell(run: Run) -> LoggedEvent:
            raise AssertionError(run)

        claimed = await store.claim_run(RUN, "w2", now=LATER, tell=tell)
        assert claimed is not None
        assert (claimed.told, claimed.run.last, claimed.run.attempt) == (None, before.last, 2)
        assert await store.claim_run("unknown", "w2", now=LATER, tell=tell) is None

    async def test_a_claim_whose_event_fails_is_none(self, store: RunStore) -> None:
        """The run waits as before."""
        before = await create(store)

        def tell(run: Run) -> LoggedEvent:
            raise RuntimeError(run.id)

        with pytest.raises(RuntimeError, match=RUN):
            await store.claim_run(RUN, "w1", now=SOON, tell=tell)
        assert await store.get_run(RUN) == before

    async def test_of_two_workers_exactly_one_gets_the_run(self, store: RunStore, other_store: RunStore) -> None:
        """Ten workers in two processes ask for each of ten runs: each run goes to exactly one."""
        for worker in range(10):
            await store.renew_lease(f"w{worker}", until=LATER)
        for run in range(10):
            await create(store, f"r{run}")
        stores = itertools.cycle([store, other_store])

        claims = await asyncio.gather(
            *(next(stores).claim_run(f"r{run}", f"w{worker}", now=NOW) for run in range(10) for worker in range(10))
        )

        won = [claimed.run for claimed in claims if claimed is not None]
        assert sorted(run.id for run in won) == [f"r{run}" for run in range(10)]
        assert {run.attempt for run in won} == {1}

    async def test_a_living_workers_run_is_not_taken(self, store: RunStore) -> None:
        """While the holder's lease lasts nobody else gets the run."""
        await claim(store, worker_id="w1")
        assert await store.claim_run(RUN, "w2", now=SOON - timedelta(microseconds=1)) is None

    @pytest.mark.parametrize("status", sorted(HELD_BY_WORKER))
    async def test_a_dead_workers_run_is_taken_as_the_next_attempt(self, store: RunStore, status: RunStatus) -> None:
        """Once the holder's lease has run out, a run in any held status is taken, and its start stays."""
        before = await bring_to(store, status)
        claimed = await store.claim_run(RUN, "w2", now=SOON)

        assert claimed is not None
        assert claimed.previous is status
        run = claimed.run
        assert (run.status, run.attempt, run.worker_id) == (RunStatus.RUNNING, 2, "w2")
        assert run.started_at == before.started_at

    async def test_a_worker_that_ended_leaves_its_runs_at_once(self, store: RunStore) -> None:
        """After `end_lease` another worker gets the run without waiting."""
        await claim(store, worker_id="w1")
        await store.end_lease("w1")
        assert await store.claim_run(RUN, "w2", now=NOW) is not None

    async def test_a_worker_may_take_its_own_run_again(self, store: RunStore) -> None:
        """A living worker that asks for its own run has lost it: it gets it, as the next attempt."""
        await claim(store, worker_id="w1")
        claimed = await store.claim_run(RUN, "w1", now=NOW)
        assert claimed is not None
        assert claimed.run.attempt == 2

    async def test_retrying_raises_the_attempt_and_the_claim_keeps_it(self, store: RunStore) -> None:
        """Setting `retrying` fences the attempt before; the claim that follows goes on with the raised one."""
        await claim(store)
        await store.commit(commit(event(1, 2), change=change(RunStatus.RETRYING)))
        with pytest.raises(StaleAttemptError):
            await store.commit(commit(event(1, 3)))

        claimed = await store.claim_run(RUN, "w2", now=NOW)
        assert claimed is not None
        assert (claimed.previous, claimed.run.attempt) == (RunStatus.RETRYING, 2)

    async def test_an_ended_or_unknown_run_is_not_taken(self, store: RunStore) -> None:
        """There is nothing to claim of a run that has ended or never was."""
        await claim(store)
        await store.commit(commit(event(1, 2), change=change(RunStatus.FAILED)))
        assert await store.claim_run(RUN, "w1", now=LATER) is None
        assert await store.claim_run("unknown", "w1", now=LATER) is None

    async def test_a_requested_cancel_survives_the_next_claim(self, store: RunStore) -> None:
        """A cancel that was requested of a dead worker is still requested of the next."""
        await claim(store)
        await store.request_cancel(RUN, now=NOW)
        claimed = await store.claim_run(RUN, "w2", now=LATER)
        assert claimed is not None
        assert claimed.run.cancel_requested_at == NOW


class TestCommitting:
    async def test_events_status_and_steps_are_written_together(self, store: RunStore) -> None:
        """A commit archives its events, raises `last`, sets the status with what comes with it, and puts the steps."""
        before = await claim(store)
        step = Step(
            run_id=RUN,
            id="step-1",
            name="compose\0",
            index=1,
            status=StepStatus.SUCCEEDED,
            attempt=1,
            input={"a": "\0"},
            output=[1],
            started_at=NOW,
            ended_at=SOON,
        )
        await store.commit(commit(*events(1, 2, 4), change=change(RunStatus.DONE, output={"ok": True}), steps=[step]))

        run = await store.get_run(RUN)
        assert run is not None
        assert (run.status, run.last, run.output, run.ended_at) == (RunStatus.DONE, Cursor(1, 4), {"ok": True}, LATER)
        assert (run.started_at, run.attempt, run.worker_id) == (before.started_at, 1, "w1")
        assert [stored.raw for stored in await archive(store)][1:] == [given.raw for given in events(1, 2, 4)]
        (stored,) = await store.list_steps(RUN)
        assert (stored.name, stored.input, stored.output, stored.ended_at) == ("compose\ufffd", {"a": "\0"}, [1], SOON)

    async def test_an_error_comes_back_as_it_was(self, store: RunStore) -> None:
        """A failed run and a failed step keep their error, whatever characters it has."""
        await claim(store)
        error = RunError(code="worker_lost", message="it\0went")
        step = Step(run_id=RUN, id="s", name="n", index=1, status=StepStatus.FAILED, attempt=1, error=error)
        await store.commit(commit(event(1, 2), change=change(RunStatus.FAILED, error=error), steps=[step]))

        run = await store.get_run(RUN)
        assert run is not None
        assert run.error == error
        assert await store.list_steps(RUN) == [step]

    async def test_archiving_again_changes_nothing(self, store: RunStore) -> None:
        """A commit whose answer was lost may be repeated, with more events behind the old."""
        await claim(store)
        await store.commit(commit(*events(1, 2, 3)))
        await store.commit(commit(*events(1, 2, 3)))
        await store.commit(commit(event(1, 3, text="otherwise"), event(1, 4)))

        assert [stored.raw for stored in await archive(store)][1:] == [given.raw for given in events(1, 2, 4)]
        run = await store.get_run(RUN)
        assert run is not None
        assert run.last == Cursor(1, 4)

    @pytest.mark.parametrize("status", [RunStatus.DONE, RunStatus.RETRYING])
    async def test_the_commit_that_ended_its_attempt_may_be_repeated(self, store: RunStore, status: RunStatus) -> None:
        """A worker that didn't hear whether its last commit took place asks again, and isn't told it was fenced."""
        await claim(store)
        last = commit(event(1, 2), change=change(status))
        await store.commit(last)
        run = await store.get_run(RUN)
        await store.commit(last)
        assert await store.get_run(RUN) == run

    async def test_an_older_attempt_is_refused(self, store: RunStore) -> None:
        """Once another attempt has the run, nothing of the older is written: a zombie can't."""
        await claim(store)
        await store.claim_run(RUN, "w2", now=LATER)
        before = await store.get_run(RUN)
        step = Step(run_id=RUN, id="s", name="n", index=1, status=StepStatus.RUNNING, attempt=1)

        with pytest.raises(StaleAttemptError):
            await store.commit(commit(event(1, 2), change=change(RunStatus.DONE), steps=[step]))

        assert await store.get_run(RUN) == before
        assert (len(await archive(store)), await store.list_steps(RUN)) == (1, [])

    async def test_an_attempt_to_come_is_refused(self, store: RunStore) -> None:
        """Nobody writes for an attempt that hasn't begun, or for a run that isn't there."""
        await create(store)
        with pytest.raises(StaleAttemptError):
            await store.commit(commit(event(1, 2)))
        with pytest.raises(StaleAttemptError):
            await store.commit(Commit(run_id="unknown", attempt=0, events=[event(0, 2)]))

    async def test_an_ended_run_takes_nothing(self, store: RunStore) -> None:
        """After the end even its own attempt is refused."""
        await claim(store)
        await store.commit(commit(event(1, 2), change=change(RunStatus.DONE)))
        with pytest.raises(StaleAttemptError):
            await store.commit(commit(event(1, 3)))
        with pytest.raises(StaleAttemptError):
            await store.commit(commit(event(1, 2, text="otherwise"), change=change(RunStatus.DONE)))

    @pytest.mark.parametrize("before", [RunStatus.QUEUED, *sorted(HELD_BY_WORKER)])
    async def test_the_table_says_which_status_may_follow(self, store: RunStore, before: RunStatus) -> None:
        """A status that the table of the lifecycle doesn't allow is refused and leaves nothing behind."""
        run = await bring_to(store, before)
        seq = run.last.seq + 1
        for after in RunStatus:
            if after is not before and not is_run_transition(before, after):
                with pytest.raises(IllegalCommitError):
                    await store.commit(commit(event(1, seq), attempt=run.attempt, change=change(after)))
        assert await store.get_run(RUN) == run
        assert len(await archive(store)) == run.last.seq
        await store.commit(commit(event(1, seq), attempt=run.attempt, change=change(before)))

    async def test_the_archive_has_no_hole(self, store: RunStore) -> None:
        """Events that don't follow the archive's end, or each other, are refused."""
        await claim(store)
        with pytest.raises(IllegalCommitError):
            await store.commit(commit(event(1, 3)))
        with pytest.raises(IllegalCommitError):
            await store.commit(commit(event(1, 2), event(1, 4)))
        assert len(await archive(store)) == 1

    async def test_a_step_written_again_replaces_itself(self, store: RunStore) -> None:
        """Steps are kept under their id and listed by index."""
        await claim(store)

        def step(index: int, status: StepStatus, output: Any = None) -> Step:
            return Step(
                run_id=RUN, id=f"s{index}", name="n", index=index, status=status, attempt=1, output=output, ended_at=NOW
            )

        running = [step(index, StepStatus.RUNNING) for index in (10, 2, 1)]
        await store.commit(commit(event(1, 2), steps=running))
        done = step(2, StepStatus.SUCCEEDED, output="yes")
        await store.commit(commit(event(1, 3), steps=[done]))

        assert await store.list_steps(RUN) == [running[2], done, running[0]]

    async def test_many_commits_at_once_all_stand(self, store: RunStore, other_store: RunStore) -> None:
        """Two processes write for twenty runs at once, ten commits each, and every archive is whole."""

        async def work(store: RunStore, run_id: str) -> None:
            await claim(store, run_id)
            for seq in range(2, 12):
                logged = [event(1, seq, run_id=run_id)]
                await store.commit(Commit(run_id=run_id, attempt=1, events=logged))

        stores = itertools.cycle([store, other_store])
        await asyncio.gather(*(work(next(stores), f"r{number}") for number in range(20)))

        for number in range(20):
            archived = await archive(store, f"r{number}")
            assert [stored.cursor.seq for stored in archived] == list(range(1, 12))


class TestCanceling:
    @pytest.mark.parametrize("status", sorted(CANCELED_AT_ONCE))
    async def test_a_waiting_run_ends_at_once(self, store: RunStore, status: RunStatus) -> None:
        """A run that nobody holds ends as canceled, with the event made from the run as it stands."""
        before = await bring_to(store, status)

        def end(run: Run) -> LoggedEvent:
            return event(run.attempt, run.last.seq + 1, status="canceled")

        run = await store.cancel_unheld(RUN, end, now=LATER)
        assert run is not None
        assert run == await store.get_run(RUN)
        assert (run.status, run.ended_at, run.last.seq) == (RunStatus.CANCELED, LATER, before.last.seq + 1)
        assert (await archive(store))[-1].status is RunStatus.CANCELED
        assert await store.claim_run(RUN, "w2", now=LATER) is None

    async def test_a_held_or_ended_run_is_not_ended_from_outside(self, store: RunStore) -> None:
        """Only its worker ends a held run; an ended or unknown one stays as it is."""

        def end(run: Run) -> LoggedEvent:
            raise AssertionError(run)

        await claim(store)
        assert await store.cancel_unheld(RUN, end, now=NOW) is None
        await store.commit(commit(event(1, 2), change=change(RunStatus.DONE)))
        assert await store.cancel_unheld(RUN, end, now=NOW) is None
        assert await store.cancel_unheld("unknown", end, now=NOW) is None

    async def test_a_request_is_noted_once_and_told_to_the_holder(self, store: RunStore) -> None:
        """The first request's time stays, and only the holder is told, until the run has ended."""
        await claim(store, worker_id="w1")
        assert (await store.renew_lease("w1", until=SOON)).canceled == []

        run = await store.request_cancel(RUN, now=NOW)
        assert run is not None
        assert run.cancel_requested_at == NOW
        assert await store.request_cancel(RUN, now=LATER) == run
        assert (await store.renew_lease("w1", until=SOON)).canceled == [RUN]
        assert (await store.renew_lease("w2", until=SOON)).canceled == []

        await store.commit(commit(event(1, 2), change=change(RunStatus.CANCELED)))
        assert (await store.renew_lease("w1", until=SOON)).canceled == []
        assert await store.request_cancel(RUN, now=LATER) is None

    async def test_a_waiting_run_has_nobody_to_request_it_of(self, store: RunStore) -> None:
        """No request is noted for a run that nobody holds."""
        await create(store)
        assert await store.request_cancel(RUN, now=NOW) is None

    async def test_cancel_and_claim_at_once_leave_one_outcome(self, store: RunStore, other_store: RunStore) -> None:
        """Whichever comes first, a run is either canceled or claimed, never both."""

        def end(run: Run) -> LoggedEvent:
            return event(run.attempt, run.last.seq + 1, run_id=run.id, status="canceled")

        for number in range(10):
            run_id = f"r{number}"
            await create(store, run_id)
            canceled, claimed = await asyncio.gather(
                store.cancel_unheld(run_id, end, now=NOW), other_store.claim_run(run_id, "w1", now=NOW)
            )
            assert (canceled is None) != (claimed is None)


class TestListing:
    async def test_pages_lead_to_the_last(self, store: RunStore) -> None:
        """The newest come first; `next_before` leads on, and is None on the last page, also when that is full."""
        for number in range(4):
            await create(store, f"r{number}", created_at=NOW + timedelta(seconds=number))
        first = await store.list_runs(RunFilter(), limit=2)
        last = await store.list_runs(RunFilter(), limit=2, before=first.next_before)
        assert [run.id for run in (*first.runs, *last.runs)] == ["r3", "r2", "r1", "r0"]
        assert (first.next_before, last.next_before) == ("r2", None)

    async def test_an_unknown_place_is_the_callers_fault(self, store: RunStore) -> None:
        """A page after a run that isn't there can't be given."""
        with pytest.raises(InvalidInputError, match="nowhere"):
            await store.list_runs(RunFilter(), limit=2, before="nowhere")

    @given(offsets=st.lists(st.integers(0, 3), max_size=12), limit=st.integers(1, 5))
    @ON_A_DATABASE
    async def test_every_run_is_listed_once(self, store: RunStore, offsets: list[int], limit: int) -> None:
        """Page by page each run comes once, newest first, however many were created in the same moment."""
        group = f"runner-{next(NUMBERS)}"
        runs = [
            await create(store, f"{group}-{number}", runner=group, created_at=NOW + timedelta(microseconds=offset))
            for number, offset in enumerate(offsets)
        ]
        listed: list[Run] = []
        before = None
        while True:
            page = await store.list_runs(RunFilter(runner=group), limit=limit, before=before)
            listed += page.runs
            before = page.next_before
            if before is None:
                break
        assert listed == sorted(runs, key=lambda run: (run.created_at, run.id), reverse=True)

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            (RunFilter(), {"one", "two", "three"}),
            (RunFilter(status=RunStatus.RUNNING), {"two"}),
            (RunFilter(tag="blue"), {"one", "two"}),
            (RunFilter(runner="greet"), {"three"}),
            (RunFilter(text="TWO"), {"two"}),
            (RunFilter(text="straße"), {"one"}),
            (RunFilter(text="ÄRGER"), {"one"}),
            (RunFilter(text="GREE"), {"three"}),
            (RunFilter(text="100%"), {"two"}),
            (RunFilter(text="a_b"), set()),
            (RunFilter(tag="blue", text="ärger", status=RunStatus.QUEUED), {"one"}),
            (RunFilter(tag="blu"), set()),
        ],
    )
    async def test_filters_narrow_the_list(self, store: RunStore, where: RunFilter, expected: set[str]) -> None:
        """A list shows what fits every filter; text is found without case and without wildcards."""
        await create(store, "one", prompt="Ärger in der STRASSE, axb", tags=("blue", "red"))
        await create(store, "two", prompt="100% sure", tags=("blue",))
        await create(store, "three", runner="greet", prompt="1000 times")
        await store.claim_run("two", "w1", now=NOW)

        page = await store.list_runs(where, limit=10)
        assert {run.id for run in page.runs} == expected

    async def test_a_search_has_a_limit(self, store: RunStore) -> None:
        """A text too long to look for is refused."""
        with pytest.raises(InvalidInputError):
            await store.list_runs(RunFilter(text="x" * 1_001), limit=1)

    async def test_runs_are_counted_by_status(self, store: RunStore) -> None:
        """Every run counts once, under the status that it has."""
        for number in range(3):
            await create(store, f"r{number}")
        await store.claim_run("r0", "w1", now=NOW)
        assert await store.count_runs() == {"queued": 2, "running": 1}

    async def test_what_isnt_there_is_empty(self, store: RunStore) -> None:
        """An unknown run is None, and has no steps and no events."""
        assert await store.get_run("unknown") is None
        assert await store.list_steps("unknown") == []
        assert await archive(store, "unknown") == []


class TestUnattended:
    async def test_waiting_and_orphaned_runs_are_found_oldest_first(self, store: RunStore) -> None:
        """The queue should know of runs that wait for long and of runs whose worker is dead, and of no others."""
        await claim(store, "orphaned", "dead")
        for run_id, seconds in {"waiting": -9, "new": 0, "led": -5}.items():
            await create(store, run_id, created_at=NOW + timedelta(seconds=seconds))
        await store.renew_lease("living", until=LATER)
        await store.claim_run("led", "living", now=NOW)

        found = await unattended(store, now=SOON, queued_before=NOW, limit=10)
        assert found == ["waiting", "orphaned"]
        assert await unattended(store, now=SOON, queued_before=NOW, limit=1) == ["waiting"]

    async def test_a_retry_waits_from_when_it_was_set(self, store: RunStore) -> None:
        """A run that is to be retried counts as waiting since then, not since it was created."""
        await bring_to(store, RunStatus.RETRYING)
        assert await unattended(store, now=NOW, queued_before=LATER, limit=10) == []
        assert await unattended(store, now=NOW, queued_before=LATER + timedelta(seconds=1), limit=10) == [RUN]

    async def test_an_ended_run_is_left_in_peace(self, store: RunStore) -> None:
        """However its worker fares, the queue has nothing to do with a run that has ended."""
        await claim(store)
        await store.commit(commit(event(1, 2), change=change(RunStatus.DONE)))
        assert await unattended(store, now=LATER, queued_before=LATER, limit=10) == []

    async def test_workers_long_dead_are_forgotten(self, store: RunStore) -> None:
        """A lease that ran out long ago and no lease at all are the same."""
        await claim(store, worker_id="dead")
        await store.renew_lease("living", until=NOW + timedelta(days=2))
        assert await store.claim_run(RUN, "living", now=NOW) is not None


class TestReading:
    async def test_the_very_bytes_come_back(self, store: RunStore) -> None:
        """An archived event is what watchers got, to the byte."""
        await claim(store)
        odd = event(1, 2, text='","seq":9,"attempt":9} \0 😀')
        await store.commit(commit(odd))
        assert (await archive(store))[-1] == odd

    async def test_a_page_ends_at_the_limit(self, store: RunStore) -> None:
        """Reading goes on after the last event of the page before."""
        await claim(store)
        await store.commit(commit(*events(1, 2, 5)))
        page = await store.read_events(RUN, Cursor(0, 1), limit=3)
        rest = await store.read_events(RUN, page[-1].cursor, limit=3)
        assert [read.cursor.seq for read in (*page, *rest)] == [2, 3, 4, 5]

    @given(
        attempts=st.lists(st.integers(1, 4), max_size=8).map(sorted),
        after=st.builds(Cursor, st.integers(UNKNOWN_ATTEMPT, 5), st.integers(0, 10)),
        limit=st.integers(1, 12),
    )
    @ON_A_DATABASE
    async def test_any_cursor_finds_its_place(
        self, store: RunStore, attempts: list[int], after: Cursor, limit: int
    ) -> None:
        """After any cursor come the events that the log would give: by attempt, then seq; by seq for a plain seq."""
        run_id = f"run-{next(NUMBERS)}"
        await create(store, run_id)
        for _ in range(4):
            await store.claim_run(run_id, "w1", now=NOW)
        logged = [event(attempt, seq, run_id=run_id) for seq, attempt in enumerate(attempts, start=2)]
        await store.commit(Commit(run_id=run_id, attempt=4, events=logged))

        log = [event(0, 1, run_id=run_id, status="queued"), *logged]
        if after.attempt == UNKNOWN_ATTEMPT:
            expected = [stored for stored in log if stored.cursor.seq > after.seq]
        else:
            expected = [stored for stored in log if stored.cursor > after]
        assert list(await store.read_events(run_id, after, limit=limit)) == expected[:limit]


async def test_a_ping_returns_while_the_database_answers(store: RunStore) -> None:
    """A database that is there answers."""
    await store.ping()
