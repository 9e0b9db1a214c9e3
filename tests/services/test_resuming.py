"""What a later attempt finds: each call its own result, each failure its own error, each text once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from runcast import Runcast, RunContext
from runcast.events import EventType, RunStatus
from runcast.testing import RunHarness

app = Runcast()
calls: list[str] = []


class Page(BaseModel):
    number: int


@dataclass
class Sheet:
    number: int


class DeclinedError(ValueError):
    """Of a bank."""


class OddError(Exception):
    """Wants more than a message."""

    def __init__(self, bank: str, amount: int) -> None:
        super().__init__(bank, amount)
        self.bank = bank

    def __str__(self) -> str:
        return f"{self.bank} says no"


PARTS: dict[str, Callable[[int], Any]] = {
    "model": lambda number: Page(number=number),
    "dataclass": Sheet,
    "long": lambda number: f"{number}".zfill(20_000),
    "bytes": lambda number: bytes([number]) * 20_000,
    "set": lambda number: {f"{number}", "of", "many", "words"},
}


@app.runner
async def compare(run: RunContext, kind: str) -> list[str]:
    """Gets three parts side by side, the last first, and asks whether they are right."""

    async def handle(number: int) -> str:
        for _ in range(3 - number):
            await run.step(f"wait {number}", asyncio.sleep, 0)
        calls.append(f"{run.attempt}: {number}")
        return await run.step("tell", tell, run, PARTS[kind](number))

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(handle(number)) for number in range(3)]
    told = [task.result() for task in tasks]
    await run.approve("Right?", preview=told)
    return told


def tell(run: RunContext, part: Any) -> str:
    assert run.id
    return repr(part)[-40:] if not isinstance(part, set) else repr(sorted(part))


@app.step(retries=1, wait_seconds=0)
async def charge(error: str) -> None:
    calls.append("charge")
    raise OddError("bank", 3) if error == "odd" else DeclinedError("card declined")


@app.runner
async def pay(run: RunContext, error: str) -> str:
    """Sends an invoice if the card is declined, and if that is right."""
    try:
        await run.step("charge", charge, error)
    except Exception as raised:  # noqa: BLE001 - whatever it is, the customer gets an invoice
        how = f"invoice, for {type(raised).__name__}: {raised}"
    else:
        how = "card"
    await run.approve(f"Go on with {how}?")
    return how


@app.runner(retries=1)
async def stubborn(run: RunContext) -> str:
    """Fails with its step; the second time the step does it."""
    return await run.step("do", do)


def do() -> str:
    calls.append("do")
    if len(calls) == 1:
        raise DeclinedError("not now")
    return "done"


@app.runner
async def say_twice(run: RunContext) -> None:
    """Says two things by one name."""
    for text in ("one", "two"):
        async with run.message("answer") as message:
            message.write(text)


@app.runner
async def say_again(run: RunContext) -> str:
    """Says something in a step that has to be tried again."""
    return await run.step("say", say, run)


@app.step(retries=1, wait_seconds=0)
async def say(run: RunContext) -> str:
    calls.append("say")
    async with run.message("answer") as message:
        message.write(f"try {len(calls)}")
    if len(calls) == 1:
        raise ConnectionError
    return message.text


@pytest.fixture
async def harness(redis_url: str, tmp_path: Path) -> AsyncIterator[RunHarness]:
    calls.clear()
    async with RunHarness(app, redis_url=redis_url, data_dir=tmp_path) as harness:
        yield harness


@pytest.mark.parametrize("kind", PARTS)
async def test_steps_of_one_name_get_their_own_results(harness: RunHarness, kind: str) -> None:
    """By their arguments, whatever these are, and whichever begins first in the later attempt."""
    asked = await harness.run(compare, kind=kind)
    (request,) = asked.open_requests
    done = await harness.answer(asked.id, True)
    assert (done.status, done.run.attempt) == (RunStatus.DONE, 2)
    assert done.output == request.preview
    orders = [[call for call in calls if call.startswith(attempt)] for attempt in ("1:", "2:")]
    assert len(set(done.output)) == 3
    assert orders[0] != [call.replace("2:", "1:") for call in orders[1]], "they begin in another order"


@pytest.mark.parametrize(
    ("error", "told"),
    [("plain", "DeclinedError: card declined"), ("odd", "OddError: bank says no")],
)
async def test_a_step_that_failed_for_good_stays_failed(harness: RunHarness, error: str, told: str) -> None:
    """What people agreed to is what is done: a later attempt has the same error raised, and executes nothing."""
    asked = await harness.run(pay, error=error)
    assert asked.open_requests[0].prompt == f"Go on with invoice, for {told}?"
    done = await harness.answer(asked.id, True)
    again = told if error == "plain" else f"StepFailedError: {told}"
    assert (done.run.attempt, done.output) == (2, f"invoice, for {again}")
    assert calls == ["charge"] * 2  # its own retries


async def test_a_run_that_is_tried_again_tries_its_failed_step_again(harness: RunHarness) -> None:
    """It would fail for the same reason otherwise."""
    done = await harness.run(stubborn)
    assert (done.output, calls, done.run.failures) == ("done", ["do", "do"], 1)
    assert [event.type for event in done.events_of(EventType.STEP_RESET)] == [EventType.STEP_RESET]


async def test_a_name_is_used_once(harness: RunHarness) -> None:
    """A second message by the name of a first would be lost."""
    failed = await harness.run(say_twice)
    assert failed.error is not None
    assert failed.error.message == "message 'answer' was said before: a name is used once in a run"


async def test_what_a_failed_try_has_said_is_said_anew(harness: RunHarness) -> None:
    """By the same name, for it is the same step."""
    assert (await harness.run(say_again)).output == "try 2"
