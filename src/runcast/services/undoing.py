"""The built-in runner `undo`: undoes what another run has done, the last step first, each as a step of its own."""

from typing import Any

from runcast.context import RunContext
from runcast.registry import RunnerRegistry
from runcast.runners import UNDO_RUNNER
from runcast.steps import MAX_NAME_CHARS, find_function


def register_undo_runner(app: RunnerRegistry) -> None:
    """Offer the undo runner in an application."""

    @app.runner(name=UNDO_RUNNER)
    async def undo(run: RunContext, runId: str) -> dict[str, Any]:  # noqa: N803 - the wire's word
        """Undo the steps of a run that has ended."""
        undone = []
        for name, how in await run.list_undoable(runId):
            await run.step(f"undo {name}"[:MAX_NAME_CHARS], find_function(how.function), *how.args)
            undone.append(name)
        return {"runId": runId, "undone": undone}
