"""What a run's context asks of whoever holds the run: the `Journal`, as a promise in prose. The worker provides it.

*Order*: events are numbered in the order of the calls, kept and published in that order. *Durability*: what a later
attempt must not do again (a step's result, a text, an answer, the end of a sleep, a child) is committed under a name
that the same code finds again. *Ends*: once another attempt has the run every method raises `StaleAttemptError`.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from runcast.events import EventType, RequestKind
from runcast.records import Answer, Artifact, Run, RunError, Undo


class StepFailure(NamedTuple):
    """How a step has failed for good: the error, and the class of what it raised, as `module:name`, if that has one."""

    error: RunError
    raised: str | None = None


class BegunStep(NamedTuple):
    """A step that is to be executed; or what an earlier attempt has committed: if it `is_done` its result, else its
    failure.
    """

    id: str
    is_done: bool = False
    output: Any = None
    failure: StepFailure | None = None


class BegunMessage(NamedTuple):
    """A message that is to be said; or the `text` that an earlier attempt has said to its end."""

    id: str
    text: str | None = None


class Journal(Protocol):
    """See the module."""

    def write(self, event_type: EventType, payload: Mapping[str, Any], *, step_id: str | None = None) -> None:
        """Add an event and return at once."""
        ...

    def start_step(self, name: str, input: Any, *, parent_id: str | None, is_block: bool) -> BegunStep:  # noqa: A002
        """Begin a step, unless it is done or, but for a block, has failed for good."""
        ...

    def restart_step(self, step_id: str, number: int) -> None:
        """Begin a step that failed once more: the try with this number, from 2 on."""
        ...

    async def succeed_step(self, step_id: str, output: Any, *, undo: Undo | None) -> None:
        """End a step; on return its output is committed."""
        ...

    async def fail_step(self, step_id: str, failure: StepFailure, *, retry_in_seconds: float | None) -> None:
        """End a step that raised, for good or until its next try; on return that is committed."""
        ...

    def cancel_step(self, step_id: str) -> None:
        """End a step that was cut short; never waits, and does nothing if nothing can be written any more."""
        ...

    def start_message(self, name: str | None, *, step_id: str | None) -> BegunMessage:
        """Begin a message, unless it has been said; without a name it is known by its turn."""
        ...

    def complete_message(self, message_id: str, text: str, *, step_id: str | None) -> None:
        """End a message; its text is committed a moment later."""
        ...

    async def ask(
        self,
        kind: RequestKind,
        prompt: str,
        schema: Mapping[str, Any],
        *,
        preview: Any,
        timeout_seconds: float | None,
        step_id: str | None,
    ) -> Answer:
        """Ask people, and return once somebody has answered.

        Raises:
            TimeoutError: nobody has, in time.

        """
        ...

    async def sleep_until(self, moment: datetime | None, *, seconds: float, step_id: str | None) -> None:
        """Return at the moment; or, without one, after so many seconds from the first time that it was asked for."""
        ...

    async def start_child(self, runner: str, value: Mapping[str, Any], *, step_id: str | None) -> str:
        """Start another run, once, and return its id."""
        ...

    async def wait_child(self, run_id: str, *, step_id: str | None) -> Run:
        """Return a run of `start_child` once it has ended."""
        ...

    async def add_artifact(
        self,
        name: str,
        *,
        data: bytes | None,
        path: Path | None,
        url: str | None,
        content_type: str | None,
        step_id: str | None,
    ) -> Artifact:
        """Keep something that the run has made, once; on return it can be fetched."""
        ...

    async def mark(self, name: str, *, step_id: str | None) -> int:
        """The attempt that has first got here; on return that is committed."""
        ...

    async def list_undoable(self, run_id: str) -> list[tuple[str, Undo]]:
        """Names and undos of a run's committed steps, the last first."""
        ...
