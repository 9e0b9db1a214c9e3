"""Steps and messages as a runner writes them, against a journal that only remembers."""

import asyncio
import gc
import math
import warnings
from dataclasses import dataclass
from typing import Any

import pytest

from runcast import FatalError, Runcast
from runcast.errors import ConfigurationError, InvalidInputError, RunCanceledError, StepTimedOutError
from runcast.steps import find_function
from tests.support.journal import RecordingJournal, recorded_run

app = Runcast()


@dataclass
class Receipt:
    number: int


def recall(output: Any) -> None:
    """Undoes `send`."""


@app.step(undo=recall)
async def send(text: str) -> Receipt:
    return Receipt(len(text))


async def test_a_committed_step_is_not_called_again() -> None:
    """Its result comes out as the function gave it, of its own type, and watchers are told nothing."""
    run, journal = recorded_run(journal=RecordingJournal(done={"send": {"number": 7}}))
    assert await run.step("send", send, "hello") == Receipt(7)
    assert journal.events == []


async def test_a_step_that_fails_is_tried_again_in_front_of_the_watchers() -> None:
    """Each failure says that it will be; each try begins anew."""
    tries = 0

    @app.step(retries=2, wait_seconds=0)
    def flaky() -> int:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ValueError("not yet")
        return tries

    run, journal = recorded_run()
    assert await run.step("flaky", flaky) == 3
    assert journal.types == ["step_started", "step_failed"] * 2 + ["step_started", "step_succeeded"]
    assert [payload["willRetry"] for payload in journal.payloads("step_failed")] == [True, True]


@pytest.mark.parametrize(("error", "count"), [(ValueError("no"), 2), (FatalError("never"), 1)])
async def test_the_last_failure_comes_out(error: Exception, count: int) -> None:
    """After the last try; at once if it is fatal."""

    @app.step(retries=1, wait_seconds=0)
    async def broken() -> None:
        raise error

    run, journal = recorded_run()
    with pytest.raises(type(error)):
        await run.step("broken", broken)
    assert len(journal.payloads("step_failed")) == count
    assert journal.payloads("step_failed")[-1]["willRetry"] is False


async def test_a_step_that_takes_too_long_is_ended() -> None:
    """It fails with a code of its own, and may be tried again."""

    @app.step(timeout_seconds=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    run, journal = recorded_run()
    with pytest.raises(StepTimedOutError):
        await run.step("slow", slow)
    assert journal.payloads("step_failed")[0]["error"]["code"] == "step_timed_out"


async def test_a_step_registers_its_undo_with_what_it_gave() -> None:
    """By a name under which another process finds the function."""
    run, journal = recorded_run()
    await run.step("send", send, "hello")
    undo = journal.undos["step-1"]
    assert (find_function(undo.function), undo.args) == (recall, [{"number": 5}])


def test_an_undo_that_no_other_process_could_find_is_refused() -> None:
    """At once, not when it is needed."""

    def inner() -> None: ...

    with pytest.raises(ConfigurationError, match="top of a module"):
        app.step(undo=inner)(send)


async def test_a_block_is_a_step() -> None:
    """It commits what it is told to; a later attempt enters it again and sees that it is done."""
    run, journal = recorded_run()
    async with run.step("load") as step:
        assert not step.is_done
        step.set_output([1, 2])
        step.set_undo(recall, 1)
    assert journal.payloads("step_succeeded") == [{"stepId": "step-1", "output": [1, 2]}]
    assert journal.undos["step-1"].args == [1]
    later, journal = recorded_run(journal=RecordingJournal(done={"load": [1, 2]}))
    async with later.step("load") as step:
        assert (step.is_done, step.output) == (True, [1, 2])
    assert journal.events == []


async def test_steps_nest_and_run_side_by_side() -> None:
    """A step inside another is part of it; tasks of a group have their own."""
    run, journal = recorded_run()

    async def outer(number: int) -> int:
        return await run.step("inner", lambda: number)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run.step("outer", outer, number)) for number in range(3)]
    assert [task.result() for task in tasks] == [0, 1, 2]
    assert len(journal.payloads("step_started")) == 6


@pytest.mark.parametrize("name", ["", "n" * 201])
async def test_a_step_has_a_name_of_a_sensible_length(name: str) -> None:
    """Else it isn't begun."""
    run, _ = recorded_run()
    with pytest.raises(InvalidInputError, match="name"):
        run.step(name)


async def test_what_a_step_gives_has_to_be_json() -> None:
    """It is the step that fails, with a sentence that says why."""
    run, journal = recorded_run()
    with pytest.raises(InvalidInputError, match="JSON"):
        await run.step("bad", object)
    assert journal.types == ["step_started", "step_failed"]


async def test_bits_of_a_message_are_joined_and_the_first_is_told_at_once() -> None:
    """What follows within the window leaves together, and nothing is left behind at the end."""
    run, journal = recorded_run()
    async with run.message() as answer:
        for bit in ("Hel", "lo", " ", "Ada"):
            answer.write(bit)
        assert [payload["delta"] for payload in journal.payloads("message_delta")] == ["Hel"]
    assert [payload["delta"] for payload in journal.payloads("message_delta")] == ["Hel", "lo Ada"]
    assert journal.payloads("message_completed") == [{"messageId": "message-1", "text": "Hello Ada"}]
    assert answer.text == "Hello Ada"


async def test_joined_bits_of_a_message_leave_while_it_goes_on() -> None:
    """They wait for the window, not for the next bit or the end."""
    run, journal = recorded_run()

    async def wait_told(*deltas: str) -> None:
        while [payload["delta"] for payload in journal.payloads("message_delta")] != list(deltas):
            await asyncio.sleep(0.001)

    async with run.message() as answer, asyncio.timeout(10):
        for bit in ("Hel", "lo", " Ada"):
            answer.write(bit)
        await wait_told("Hel", "lo Ada")
        answer.write("!")
        await wait_told("Hel", "lo Ada", "!")


async def test_a_message_that_is_cut_short_is_not_completed() -> None:
    """A later attempt says it anew."""
    run, journal = recorded_run()

    async def speak() -> None:
        async with run.message() as answer:
            answer.write("Hel")
            raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        await speak()
    assert journal.types == ["message_started", "message_delta"]


async def test_an_approval_is_true_or_false_and_tells_more() -> None:
    """Who decided, which of a plan's steps, and why."""
    answers = ({"approved": True, "steps": [1], "comment": "only the first"}, {"approved": False})
    run, journal = recorded_run(journal=RecordingJournal(answers=answers))
    approval = await run.approve("Do it?", preview={"text": "x"}, steps=[1, 2])
    assert (bool(approval), approval.steps, approval.comment, approval.by) == (True, (1,), "only the first", "somebody")
    assert not await run.approve("Really?")
    assert [prompt for _, prompt, _ in journal.asked] == ["Do it?", "Really?"]


@pytest.mark.parametrize("steps", [["a", "b"], "ab", [0, "b"], [True, False], [-1], [1, 1], [0.5], []])
async def test_steps_to_approve_are_indexes(steps: Any) -> None:
    """Whatever else is refused when it is asked, and not when it is answered."""
    run, journal = recorded_run()
    with pytest.raises(InvalidInputError, match=r'such as \[0, 1\].*preview=\{"steps": \["write", "send"\]\}'):
        await run.approve("Do it?", steps=steps)
    assert journal.asked == []


@pytest.mark.parametrize(
    ("value", "total"),
    [(math.nan, None), (math.inf, None), (-1, None), (5, 3), (1, math.nan), (0, -1), (True, 3), ("1", 3)],
)
async def test_progress_is_a_number_up_to_its_total(value: Any, total: Any) -> None:
    """Else nobody could show it."""
    run, journal = recorded_run()
    with pytest.raises(InvalidInputError, match="give a number from 0 to the total"):
        run.progress(value, total)
    assert journal.events == []


@pytest.mark.parametrize(("value", "total"), [(0, None), (1.5, 2), (3, 3), (0, 0)])
async def test_progress_may_be_at_its_ends(value: float, total: float | None) -> None:
    """Nothing of nothing, too: there may be nothing to do."""
    run, journal = recorded_run()
    run.progress(value, total)
    assert journal.types == ["progress"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, True, None, [1]])
async def test_usage_is_told_in_numbers(value: Any) -> None:
    """Readers add them up; a text says whose they are."""
    run, journal = recorded_run()
    run.usage(model="small", inputTokens=0, costs=0.5)
    with pytest.raises(InvalidInputError, match=r"usage outputTokens=.*: give a number, 0 or more"):
        run.usage(model="small", outputTokens=value)
    assert journal.types == ["usage"]


@pytest.mark.parametrize("seconds", [-1, -0.1, math.nan, math.inf, True, "1"])
async def test_a_sleep_lasts_a_number_of_seconds(seconds: Any) -> None:
    """None at all is one, less isn't."""
    run, _ = recorded_run()
    await run.sleep(0)
    with pytest.raises(InvalidInputError, match="give a number, 0 or more"):
        await run.sleep(seconds)


@pytest.mark.parametrize("delta", [5, 0, None, b"text", ["text"]])
async def test_a_message_is_text(delta: Any) -> None:
    """What isn't text is refused where it is said."""
    run, journal = recorded_run()
    async with run.message() as answer:
        with pytest.raises(TypeError, match=f"give `write` a str, not {type(delta).__name__}"):
            answer.write(delta)
    assert answer.text == ""
    assert journal.payloads("message_delta") == []


async def test_an_answer_is_of_the_type_that_was_asked_for() -> None:
    """A model, a plain type, or what a JSON Schema says."""
    run, _ = recorded_run(journal=RecordingJournal(answers=({"number": 3}, 5, ["a"])))
    assert await run.ask("Which?", schema=Receipt) == Receipt(3)
    assert await run.ask("How many?", schema=int) == 5
    assert await run.ask("Names?", schema={"type": "array"}) == ["a"]


async def test_a_step_that_is_cut_short_is_not_tried_again() -> None:
    """It isn't the step that has failed; and a plain function's way to stop is final."""
    begun = asyncio.Event()
    tries = 0

    @app.step(retries=3, wait_seconds=0)
    async def endless() -> None:
        nonlocal tries
        tries += 1
        begun.set()
        await asyncio.Event().wait()

    run, journal = recorded_run()
    task = asyncio.ensure_future(run.step("endless", endless))
    await begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert tries == 1
    assert journal.types == ["step_started", "step_failed"]

    @app.step(retries=3, wait_seconds=0)
    async def told_to_stop() -> None:
        raise RunCanceledError("run-1")

    run, journal = recorded_run()
    with pytest.raises(RunCanceledError):
        await run.step("told", told_to_stop)
    assert [payload["willRetry"] for payload in journal.payloads("step_failed")] == [False]


@pytest.mark.parametrize("function", [None, send])
def test_a_step_that_nobody_awaits_warns(function: Any) -> None:
    """As a forgotten coroutine does; one that was awaited, closed, entered or refused says nothing."""
    run, _ = recorded_run()
    with pytest.warns(RuntimeWarning, match=r"step 'send' was never (awaited|entered)"):
        run.step("send", function)


async def test_a_step_that_was_used_does_not_warn() -> None:
    """Awaited, closed, entered, or cut short before it began."""
    run, _ = recorded_run()
    with warnings.catch_warnings(record=True, action="always") as caught:
        await run.step("send", send, "hello")
        run.step("send", send, "hello").close()
        run.step("load").close()
        async with run.step("load"):
            pass
        task = asyncio.ensure_future(run.step("send", send, "hello"))
        task.cancel()
        await asyncio.wait([task])
        with pytest.raises(InvalidInputError, match="name"):
            run.step("")
        gc.collect()
    assert [str(each.message) for each in caught] == []
