"""What runners say and wait for inside steps: a later attempt that skips the step takes nothing for something else."""

import pytest

from runcast import Runcast, RunContext
from runcast.testing import RunHarness

app = Runcast()
said: list[str] = []


@app.runner
async def talk(run: RunContext) -> list[str]:
    """Says, keeps, asks and starts the same inside steps and after them."""
    inside = await run.step("inside", speak, run, "inside")
    return [*inside, *await speak(run, "outside")]


async def speak(run: RunContext, where: str) -> list[str]:
    async with run.message() as message:
        message.write(where)
    artifact = await run.artifact("note.txt", data=where)
    answer = await run.ask(where)
    await run.sleep(60)
    child = await run.call("echo", text=where)
    return [message.text, artifact.id, answer, child]


@app.runner
async def echo(run: RunContext, text: str) -> str:
    """Gives back what it gets."""
    said.append(f"{run.attempt} {text}")
    return text


@pytest.mark.parametrize("crash_after", [[], ["inside"]])
async def test_a_skipped_step_moves_nothing(crash_after: list[str]) -> None:
    """Messages, artifacts, questions, sleeps and children after a committed step are their own."""
    said.clear()
    async with RunHarness(app) as harness:
        result = await harness.run("talk", answers=["one", "two"], crash_after=crash_after)
        assert result.output[0::4] == ["inside", "outside"]
        assert result.output[2::4] == ["one", "two"]
        assert result.output[3::4] == ["inside", "outside"]
        assert len(set(result.output[1::4])) == 2
        assert [event.payload["text"] for event in result.events_of("message_completed")] == ["inside", "outside"]
        assert [request.prompt for request in result.requests] == ["inside", "outside"]
    assert said == ["1 inside", "1 outside"]
