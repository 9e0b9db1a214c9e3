"""Runs that wait, ask, start others and are under a limit: the store's promises, on every database."""

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runcast.core.lifecycle import PARKABLE
from runcast.errors import (
    IllegalCommitError,
    LimitReachedError,
    RequestClosedError,
    RequestNotFoundError,
    RunNotFoundError,
    StaleAttemptError,
)
from runcast.events import LoggedEvent, RequestKind, RunStatus, StepStatus
from runcast.ports import RunStore
from runcast.records import (
    Answer,
    Attention,
    Commit,
    Memo,
    NewRun,
    Request,
    Run,
    RunFilter,
    RunLimit,
    StatusChange,
    Step,
    Undo,
)
from tests.backends.test_store import (
    LATER,
    NOW,
    NUMBERS,
    ON_A_DATABASE,
    RUN,
    SOON,
    archive,
    change,
    claim,
    commit,
    create,
    event,
    unattended,
)

YES = Answer({"approved": True}, SOON, "Ada")
WAITING = RunStatus.AWAITING_APPROVAL


def request(request_id: str = "request-1", **more: Any) -> Request:
    given = {"kind": RequestKind.APPROVAL, "prompt": "Send?", "schema": {"type": "object"}, "asked_at": NOW}
    return Request(**{"run_id": RUN, "id": request_id, **given, **more})


async def ask(store: RunStore, *requests: Request) -> Run:
    """A held run that waits for answers."""
    await claim(store)
    await store.commit(commit(event(1, 2, status=WAITING), change=change(WAITING), requests=requests or [request()]))
    return await found(store)


async def park(store: RunStore, status: RunStatus = WAITING, **more: Any) -> Run:
    await store.commit(commit(change=change(status, is_parked=True, **more)))
    return await found(store)


async def found(store: RunStore, run_id: str = RUN) -> Run:
    run = await store.get_run(run_id)
    assert run is not None
    return run


def keep_waiting(due_at: Any = None) -> Any:
    def decide(run: Run) -> tuple[StatusChange, LoggedEvent | None]:
        return change(run.status, is_parked=True, due_at=due_at), None

    return decide


class TestDelayed:
    async def test_a_run_that_is_due_later_is_delayed_until_then(self, store: RunStore) -> None:
        """Nobody gets it before; then it starts as any other, and tells so in the same transaction."""
        assert (await create(store, due_at=SOON)).status is RunStatus.DELAYED
        assert await store.claim_run(RUN, "w1", now=SOON - timedelta(microseconds=1)) is None
        claimed = await store.claim_run(
            RUN, "w1", now=SOON, tell=lambda run: event(run.attempt, run.last.seq, status="running")
        )
        assert claimed is not None
        assert (claimed.previous, claimed.told) == (RunStatus.DELAYED, event(1, 2, status="running"))
        assert (claimed.run.attempt, claimed.run.due_at, claimed.run.losses) == (1, None, 0)

    async def test_one_that_is_due_already_is_queued(self, store: RunStore) -> None:
        """A time that is past is now."""
        run = await create(store, due_at=NOW)
        assert (run.status, run.due_at) == (RunStatus.QUEUED, None)

    async def test_it_is_found_once_it_is_due(self, store: RunStore) -> None:
        """The queue may have lost it, and should know of it when it has been due for a while."""
        await create(store, due_at=SOON)
        assert await unattended(store, now=LATER, queued_before=SOON, limit=9) == []
        assert await unattended(store, now=LATER, queued_before=LATER, limit=9) == [RUN]

    async def test_a_retry_may_have_to_wait(self, store: RunStore) -> None:
        """`retrying` takes the run from its worker, counts the failure, and says when it goes on."""
        await claim(store)
        later = LATER + timedelta(seconds=5)
        await store.commit(commit(event(1, 2), change=change(RunStatus.RETRYING, due_at=later, is_failure=True)))
        run = await found(store)
        assert (run.worker_id, run.due_at, run.failures, run.losses, run.attempt) == (None, later, 1, 0, 2)
        assert await store.claim_run(RUN, "w2", now=LATER) is None
        assert await unattended(store, now=later, queued_before=later, limit=9) == []
        claimed = await store.claim_run(RUN, "w2", now=later)
        assert claimed is not None
        assert (claimed.run.attempt, claimed.run.due_at) == (2, None)

    async def test_a_cancel_that_was_requested_doesnt_wait_for_the_retry(self, store: RunStore) -> None:
        """Whoever claims the run ends it."""
        await claim(store)
        await store.request_cancel(RUN, now=NOW)
        await store.commit(commit(event(1, 2), change=change(RunStatus.RETRYING, due_at=LATER + timedelta(days=1))))
        assert (await found(store)).due_at == LATER


class TestParking:
    @pytest.mark.parametrize("status", sorted(PARKABLE))
    async def test_a_parked_run_is_nobodys_and_waits(self, store: RunStore, status: RunStatus) -> None:
        """It keeps its status, and without a time nobody may take it, not even when its worker dies."""
        await claim(store)
        await store.commit(commit(event(1, 2), change=change(status)))
        run = await park(store, status)
        assert (run.status, run.worker_id, run.attempt, run.due_at) == (status, None, 1, None)
        await store.end_lease("w1")
        far = LATER + timedelta(days=9)
        assert await store.claim_run(RUN, "w2", now=far) is None
        assert await store.take_from_dead(RUN, keep_waiting(), now=far) is None
        assert await unattended(store, now=far, queued_before=far, limit=9) == []

    async def test_it_goes_on_as_the_next_attempt_when_it_is_due(self, store: RunStore) -> None:
        """A worker claims it; nothing was lost."""
        await ask(store)
        await park(store, due_at=LATER)
        assert await store.claim_run(RUN, "w2", now=SOON) is None
        claimed = await store.claim_run(RUN, "w2", now=LATER)
        assert claimed is not None
        run = claimed.run
        assert (claimed.previous, run.attempt, run.losses, run.due_at) == (WAITING, 2, 0, None)

    async def test_nobody_writes_for_it(self, store: RunStore) -> None:
        """Whoever held it has let go: the attempt is over, and may be told so."""
        await ask(store)
        await park(store)
        with pytest.raises(StaleAttemptError):
            await store.commit(commit(event(1, 3)))
        with pytest.raises(StaleAttemptError):
            await store.commit(commit(event(1, 3), change=change(RunStatus.RUNNING)))
        with pytest.raises(StaleAttemptError):
            await store.check_attempt(RUN, 1)

    async def test_parking_may_be_repeated(self, store: RunStore) -> None:
        """A worker that didn't hear whether it has parked asks again."""
        await ask(store)
        parked = await park(store, due_at=LATER)
        assert await park(store, due_at=LATER) == parked

    async def test_only_what_waits_is_parked(self, store: RunStore) -> None:
        """A run that works has a worker."""
        await claim(store)
        with pytest.raises(IllegalCommitError):
            await store.commit(commit(change=change(RunStatus.RUNNING, is_parked=True)))

    async def test_a_waiting_run_is_parked_for_its_dead_worker(self, store: RunStore) -> None:
        """Nothing is told and no loss is counted; the dead worker may write no more."""
        before = await ask(store)
        taken = await store.take_from_dead(RUN, keep_waiting(), now=LATER)
        assert taken is not None
        assert (taken.status, taken.attempt, taken.losses) == (WAITING, 1, 0)
        assert (taken.worker_id, taken.due_at, taken.last) == (None, None, before.last)
        with pytest.raises(StaleAttemptError):
            await store.check_attempt(RUN, 1)

    async def test_it_is_due_when_the_first_of_its_waits_ends(self, store: RunStore) -> None:
        """A sleep that the change knows of, or a request that expires."""
        moments = [LATER + timedelta(minutes=minutes) for minutes in (3, 1, 2)]
        await ask(store, request("request-1", expires_at=moments[0]), request("request-2", expires_at=moments[2]))
        taken = await store.take_from_dead(RUN, keep_waiting(moments[1]), now=LATER)
        assert taken is not None
        assert taken.due_at == moments[1]

    async def test_a_sleep_without_a_time_is_looked_after(self, store: RunStore) -> None:
        """Only the runner knows when it ends: it is asked."""
        await claim(store)
        await store.commit(commit(event(1, 2), change=change(RunStatus.DELAYED)))
        taken = await store.take_from_dead(RUN, keep_waiting(), now=LATER)
        assert taken is not None
        assert taken.due_at == LATER

    async def test_a_loss_is_counted(self, store: RunStore) -> None:
        """By whoever takes a working run from a dead worker: another worker, or a sweeper."""
        await claim(store)
        claimed = await store.claim_run(RUN, "w2", now=SOON)
        assert claimed is not None
        assert claimed.run.losses == 1

        def retry(run: Run) -> tuple[StatusChange, LoggedEvent | None]:
            return change(RunStatus.RETRYING), event(run.attempt + 1, run.last.seq + 1, status="retrying")

        taken = await store.take_from_dead(RUN, retry, now=LATER)
        assert taken is not None
        assert (taken.losses, taken.attempt) == (2, 3)

    async def test_a_waiting_one_that_a_worker_takes_has_lost_nothing(self, store: RunStore) -> None:
        """As if the sweeper had come first."""
        await ask(store)
        claimed = await store.claim_run(RUN, "w2", now=LATER)
        assert claimed is not None
        assert (claimed.run.losses, claimed.run.attempt) == (0, 2)

    async def test_a_parked_run_is_canceled_at_once(self, store: RunStore) -> None:
        """With its open steps; a waiting run that somebody holds is asked of its holder."""
        step = Step(run_id=RUN, id="step-1", name="n", index=1, status=StepStatus.RUNNING, attempt=1)
        await ask(store)
        await store.commit(commit(event(1, 3), steps=[step]))

        def end(run: Run) -> LoggedEvent:
            return event(run.attempt, run.last.seq + 1, status="canceled")

        assert await store.cancel_unheld(RUN, end, now=LATER) is None
        await park(store, due_at=LATER)
        assert await store.request_cancel(RUN, now=LATER) is None
        run = await store.cancel_unheld(RUN, end, now=LATER)
        assert run is not None
        assert (run.status, run.due_at) == (RunStatus.CANCELED, None)
        assert [kept.status for kept in await store.list_steps(RUN)] == [StepStatus.CANCELED]

    async def test_a_cancel_that_was_requested_just_before_is_not_forgotten(self, store: RunStore) -> None:
        """The parked run is due at once, and whoever takes it ends it."""
        await ask(store)
        await store.request_cancel(RUN, now=NOW)
        assert (await park(store)).due_at == LATER


class TestAsking:
    async def test_a_request_comes_back_as_it_was_asked(self, store: RunStore) -> None:
        """In the order of asking, with everything that was given."""
        asked = [
            request(f"request-{number}", preview={"a": [1, None]}, expires_at=LATER, kind=RequestKind.INPUT)
            for number in range(1, 12)
        ]
        await ask(store, *reversed(asked))
        assert await store.list_requests(RUN) == asked
        assert await store.list_requests("nobody") == []

    @pytest.mark.parametrize("value", [{"approved": False}, None, "text\0", 0])
    async def test_an_answer_is_kept_once(self, store: RunStore, value: Any) -> None:
        """Whatever the value; the second one is told that it is late."""
        await ask(store)
        answer = Answer(value, SOON, None)
        await store.answer_request(RUN, "request-1", answer)
        with pytest.raises(RequestClosedError, match="answered"):
            await store.answer_request(RUN, "request-1", YES)
        assert [asked.answer for asked in await store.list_requests(RUN)] == [answer]

    async def test_of_many_who_answer_at_once_one_does(self, store: RunStore, other_store: RunStore) -> None:
        """In two processes."""
        await ask(store)
        stores = itertools.cycle([store, other_store])
        answers = [Answer(number, SOON, None) for number in range(10)]
        given = await asyncio.gather(
            *(next(stores).answer_request(RUN, "request-1", answer) for answer in answers), return_exceptions=True
        )
        assert sorted(type(each).__name__ for each in given) == ["RequestClosedError"] * 9 + ["Run"]

    async def test_a_closed_request_takes_no_answer(self, store: RunStore) -> None:
        """It has expired, was told as expired, or the run has ended."""
        await ask(store, request("request-1", expires_at=SOON), request("request-2"), request("request-3"))
        await store.commit(commit(event(1, 3), requests=[request("request-2", is_resolved=True)]))
        for request_id in ("request-1", "request-2"):
            with pytest.raises(RequestClosedError, match="expired"):
                await store.answer_request(RUN, request_id, YES)
        await store.commit(commit(event(1, 4), change=change(RunStatus.DONE)))
        with pytest.raises(RequestClosedError, match="ended as done"):
            await store.answer_request(RUN, "request-3", YES)

    async def test_what_was_not_asked_is_not_answered(self, store: RunStore) -> None:
        """An unknown request, or run."""
        await claim(store)
        with pytest.raises(RequestNotFoundError):
            await store.answer_request(RUN, "request-1", YES)
        with pytest.raises(RunNotFoundError):
            await store.answer_request("nobody", "request-1", YES)

    async def test_the_holder_is_told_until_it_has_said_so(self, store: RunStore) -> None:
        """At its heartbeats, and nobody else."""
        await ask(store)
        assert await store.renew_lease("w1", until=LATER) == Attention([], [])
        run = await store.answer_request(RUN, "request-1", YES)
        assert (run.due_at, run.worker_id) == (None, "w1")
        assert await store.renew_lease("w1", until=LATER) == Attention([], [RUN])
        assert await store.renew_lease("w2", until=LATER) == Attention([], [])
        await store.commit(commit(event(1, 3), requests=[request(is_resolved=True, answer=YES)]))
        assert await store.renew_lease("w1", until=LATER) == Attention([], [])
        assert [(asked.answer, asked.is_resolved) for asked in await store.list_requests(RUN)] == [(YES, True)]

    async def test_an_answer_that_comes_as_its_request_expires_is_none(self, store: RunStore) -> None:
        """The holder has said that nobody had answered: no later attempt may find something else."""
        await ask(store)
        await store.answer_request(RUN, "request-1", YES)
        await store.commit(commit(event(1, 3), requests=[request(is_resolved=True)]))
        assert await store.renew_lease("w1", until=LATER) == Attention([], [])
        assert [(asked.answer, asked.is_resolved) for asked in await store.list_requests(RUN)] == [(None, True)]

    async def test_an_answer_makes_a_parked_run_due(self, store: RunStore) -> None:
        """From then on a worker may take it."""
        await ask(store)
        await park(store, due_at=LATER)
        assert (await store.answer_request(RUN, "request-1", YES)).due_at == SOON
        assert await store.claim_run(RUN, "w2", now=SOON) is not None

    async def test_an_answer_that_comes_before_the_park_is_not_forgotten(self, store: RunStore) -> None:
        """Neither when the worker parks, nor when it is done for a dead one."""
        await ask(store)
        await store.answer_request(RUN, "request-1", YES)
        assert (await park(store)).due_at == LATER
        await store.claim_run(RUN, "w2", now=LATER)
        await store.commit(commit(event(2, 3), attempt=2, change=change(WAITING)))
        taken = await store.take_from_dead(RUN, keep_waiting(), now=LATER)
        assert taken is not None
        assert taken.due_at == LATER

    async def test_answer_and_park_at_once_always_wake_the_run(self, store: RunStore, other_store: RunStore) -> None:
        """Whichever comes first: a run that has been answered is due."""
        for number in range(10):
            run_id = f"r{number}"
            await claim(store, run_id)
            asked = Request(run_id=run_id, id="request-1", kind=RequestKind.INPUT, prompt="?", schema={}, asked_at=NOW)
            logged = [event(1, 2, run_id=run_id)]
            await store.commit(
                Commit(run_id=run_id, attempt=1, events=logged, change=change(WAITING), requests=[asked])
            )
            parking = Commit(run_id=run_id, attempt=1, events=[], change=change(WAITING, is_parked=True))
            await asyncio.gather(store.commit(parking), other_store.answer_request(run_id, "request-1", YES))
            assert (await found(store, run_id)).due_at is not None


class TestRemembering:
    async def test_memos_are_kept_under_their_keys(self, store: RunStore) -> None:
        """A later one takes the place of an earlier one."""
        await claim(store)
        await store.commit(commit(event(1, 2), memos=[Memo("a", {"x": 1}), Memo("b", [])]))
        await store.commit(commit(memos=[Memo("a", {"x": 2})]))
        assert await store.read_memos(RUN) == {"a": {"x": 2}, "b": []}
        assert await store.read_memos("nobody") == {}

    async def test_a_refused_commit_leaves_nothing(self, store: RunStore) -> None:
        """Neither memo nor request."""
        await claim(store)
        with pytest.raises(StaleAttemptError):
            await store.commit(commit(event(0, 2), attempt=0, memos=[Memo("a", 1)], requests=[request()]))
        assert (await store.read_memos(RUN), await store.list_requests(RUN)) == ({}, [])

    async def test_steps_know_their_parent_and_their_undo(self, store: RunStore) -> None:
        """As they were given."""
        await claim(store)
        step = Step(
            run_id=RUN, id="step-2", name="n", index=2, status=StepStatus.SUCCEEDED, attempt=1, parent_id="step-1"
        )
        undoable = Step(
            run_id=RUN,
            id="step-3",
            name="n",
            index=3,
            status=StepStatus.SUCCEEDED,
            attempt=1,
            undo=Undo("app:take_back", [{"id": 7}]),
        )
        await store.commit(commit(event(1, 2), steps=[step, undoable]))
        assert await store.list_steps(RUN) == [step, undoable]

    async def test_children_are_found_oldest_first(self, store: RunStore) -> None:
        """All that a run has started, and no others."""
        await create(store)
        for number in (2, 1):
            await create(store, f"child-{number}", parent_id=RUN, created_at=NOW + timedelta(seconds=number))
        children = await store.list_children(RUN)
        assert [(child.id, child.parent_id) for child in children] == [("child-1", RUN), ("child-2", RUN)]
        assert await store.list_children("child-1") == []
        page = await store.list_runs(RunFilter(parent_id=RUN), limit=1)
        assert [run.id for run in page.runs] == ["child-2"]


class TestLimits:
    one = RunLimit("mail:ada", 1)

    async def test_no_more_start_than_may_be_under_way(self, store: RunStore) -> None:
        """The second waits until the first has ended; its waiting and retrying count."""
        for number in (1, 2):
            await create(store, f"r{number}", limit=self.one)
        claimed = await store.claim_run("r1", "w1", now=NOW)
        assert claimed is not None
        assert claimed.run.limit == self.one
        assert await store.claim_run("r2", "w1", now=NOW) is None
        logged = [event(1, 2, run_id="r1")]
        await store.commit(Commit(run_id="r1", attempt=1, events=logged, change=change(RunStatus.RETRYING)))
        assert await store.claim_run("r2", "w1", now=NOW) is None
        assert await store.claim_run("r1", "w1", now=LATER) is not None
        logged = [event(2, 3, run_id="r1")]
        await store.commit(Commit(run_id="r1", attempt=2, events=logged, change=change(RunStatus.DONE)))
        claimed = await store.claim_run(
            "r2", "w1", now=NOW, tell=lambda run: event(run.attempt, run.last.seq, run_id="r2", status="running")
        )
        assert claimed is not None
        assert claimed.told is not None
        assert (await found(store, "r2")).last == claimed.told.cursor

    async def test_other_keys_are_free(self, store: RunStore) -> None:
        """And so are runs without a limit."""
        for run_id, limit in {"a": self.one, "b": RunLimit("mail:bob", 1), "c": None}.items():
            await create(store, run_id, limit=limit)
            assert await store.claim_run(run_id, "w1", now=NOW) is not None

    async def test_claims_at_once_dont_pass_the_limit(self, store: RunStore, other_store: RunStore) -> None:
        """Twenty runs of one key, in two processes, at once: three start."""
        for number in range(20):
            await create(store, f"r{number}", limit=RunLimit("k", 3))
        stores = itertools.cycle([store, other_store])
        claims = await asyncio.gather(*(next(stores).claim_run(f"r{number}", "w", now=NOW) for number in range(20)))
        assert len([claimed for claimed in claims if claimed is not None]) == 3

    async def test_the_next_is_the_one_with_the_highest_priority_then_the_oldest(self, store: RunStore) -> None:
        """If there is room; those that are delayed count once they are due."""
        places = {"low": (0, 0), "young": (5, 2), "old": (5, 1)}
        for run_id, (priority, seconds) in places.items():
            moment = NOW + timedelta(seconds=seconds)
            await create(store, run_id, limit=self.one, priority=priority, created_at=moment)
        await create(store, "late", limit=self.one, priority=9, due_at=SOON)
        assert (await store.find_next("mail:ada")) == await found(store, "old")
        following = await store.find_next("mail:ada", now=SOON)
        assert following is not None
        assert following.id == "late"
        await store.claim_run("low", "w1", now=NOW)
        assert await store.find_next("mail:ada", now=SOON) is None
        assert await store.find_next("unknown") is None
        assert await store.list_under_way("mail:ada") == ["late", "low", "old", "young"]

    async def test_what_cant_start_is_not_looked_after(self, store: RunStore) -> None:
        """The queue needn't know of runs that their limit holds back."""
        for number in range(3):
            await create(store, f"r{number}", limit=self.one, created_at=NOW + timedelta(seconds=number))
        await store.renew_lease("w1", until=LATER + timedelta(days=1))
        assert await unattended(store, now=LATER, queued_before=LATER, limit=1) == ["r0"]
        await store.claim_run("r1", "w1", now=NOW)
        assert await unattended(store, now=LATER, queued_before=LATER, limit=9) == []

    async def test_one_too_many_may_be_turned_down(self, store: RunStore, other_store: RunStore) -> None:
        """Ten at once, in two processes, where two may be: eight leave no trace, and a known key gives its run."""
        limit = RunLimit("k", 2)
        news = [
            NewRun(
                id=f"r{number}",
                runner="p",
                input={},
                created_at=NOW,
                limit=limit,
                is_rejected_when_full=True,
                idempotency_key=f"key-{number}",
            )
            for number in range(10)
        ]
        stores = itertools.cycle([store, other_store])
        made = await asyncio.gather(
            *(next(stores).create_run(new, event(0, 1, run_id=new.id)) for new in news), return_exceptions=True
        )
        assert len([each for each in made if isinstance(each, LimitReachedError)]) == 8
        assert await store.count_runs() == {"queued": 2}
        kept = await store.list_under_way("k")
        again = [new for new in news if new.id in kept]
        assert [(await store.create_run(new, event(0, 1, run_id=new.id)))[1] for new in again] == [False, False]


class Race:
    """One run that things happen to; each action does nothing where it has no place."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.run_id = f"race-{next(NUMBERS)}"
        self.worker = f"w-{self.run_id}"
        self.now = NOW
        self.asked = 0

    async def claim(self, run: Run) -> None:
        await self.store.renew_lease(self.worker, until=self.now + timedelta(hours=1))
        if run.worker_id is None:
            await self.store.claim_run(self.run_id, self.worker, now=self.now)

    async def ask(self, run: Run) -> None:
        if run.status is RunStatus.RUNNING:
            self.asked += 1
            new = request(f"request-{self.asked}", run_id=self.run_id, asked_at=self.now)
            await self._write(run, RunStatus.AWAITING_INPUT, requests=[new])

    async def answer(self, run: Run) -> None:
        for each in await self.store.list_requests(self.run_id):
            if each.answer is None and not run.status.is_final:
                await self.store.answer_request(self.run_id, each.id, Answer(1, self.now, None))

    async def park(self, run: Run) -> None:
        if self._waits_with_a_worker(run):
            parking = StatusChange(status=run.status, at=self.now, is_parked=True)
            await self.store.commit(Commit(run_id=self.run_id, attempt=run.attempt, events=[], change=parking))

    async def die(self, run: Run) -> None:
        if self._waits_with_a_worker(run):
            await self.store.end_lease(self.worker)
            await self.store.take_from_dead(self.run_id, keep_waiting(), now=self.now)

    async def resume(self, run: Run) -> None:
        if self._waits_with_a_worker(run):
            asked = await self.store.list_requests(self.run_id)
            told = [replace(each, is_resolved=True) for each in asked if each.answer is not None]
            await self._write(run, RunStatus.RUNNING, requests=told)

    async def end(self, run: Run) -> None:
        if run.worker_id is not None and not run.status.is_final:
            await self._write(run, RunStatus.DONE)

    async def check(self, before: Run) -> Run:
        after = await found(self.store, self.run_id)
        assert after.attempt >= before.attempt
        assert after.losses == 0
        is_news = any(each.answer and not each.is_resolved for each in await self.store.list_requests(self.run_id))
        if is_news and not after.status.is_final:
            assert after.worker_id is not None or after.due_at is not None
        return after

    def _waits_with_a_worker(self, run: Run) -> bool:
        return run.worker_id is not None and run.status in PARKABLE

    async def _write(self, run: Run, status: RunStatus, **more: Any) -> None:
        logged = [event(run.attempt, run.last.seq + 1, run_id=self.run_id)]
        changed = StatusChange(status=status, at=self.now)
        await self.store.commit(Commit(run_id=self.run_id, attempt=run.attempt, events=logged, change=changed, **more))


ACTIONS = (Race.claim, Race.ask, Race.answer, Race.park, Race.die, Race.resume, Race.end)


@given(actions=st.lists(st.sampled_from(ACTIONS), max_size=25))
@ON_A_DATABASE
async def test_whatever_happens_an_answered_run_goes_on(store: RunStore, actions: Sequence[Any]) -> None:
    """Claims, questions, parks, answers and deaths in any order: attempts only rise, waiting loses nothing, and a run
    whose answer isn't told yet is held, or due.
    """
    race = Race(store)
    run = await create(store, race.run_id)
    for action in actions:
        race.now += timedelta(seconds=1)
        await action(race, run)
        run = await race.check(run)
    assert [each.cursor.seq for each in await archive(store, race.run_id)] == list(range(1, run.last.seq + 1))
