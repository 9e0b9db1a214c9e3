"""A message: text that a runner says bit by bit, in front of the watchers.

Bits are joined at the source: the first leaves at once, those that follow within `delta_seconds` leave together. Saying
something never waits. A message that was said to its end is not said again by a later attempt: its text stays.
"""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from runcast.errors import RuncastError, TooLargeError
from runcast.events import EventType
from runcast.journaling import Journal

MAX_TEXT_CHARS: Final = 4_000_000
"""Of one message. Beyond it the runner's next bit fails."""

_MAX_TOLD_CHARS: Final = 100_000
"""A longer text isn't repeated whole when it ends: watchers have it bit by bit, and the archive too."""

_MAX_DELTA_CHARS: Final = 16_000


class Message:
    """`async with run.message() as answer: answer.write("…")`."""

    def __init__(self, journal: Journal, name: str | None, *, step_id: str | None, delta_seconds: float) -> None:
        self._journal: Final = journal
        self._name: Final = name
        self._step_id: Final = step_id
        self._delta_seconds: Final = delta_seconds
        self._parts: list[str] = []  # joined when asked for: joining at each bit would copy the text each time
        self._chars = 0
        self._waiting: list[str] = []  # said, and not told yet
        self._told_at = float("-inf")  # by the loop's clock
        self._timer: asyncio.TimerHandle | None = None  # while something waits
        self._is_recorded = False  # whether an earlier attempt has said it to its end
        self.id = ""

    @property
    def text(self) -> str:
        """All that was said so far; of a message that an earlier attempt completed, what was said then."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    async def __aenter__(self) -> Self:
        self.id, recorded = self._journal.start_message(self._name, step_id=self._step_id)
        if recorded is not None:
            self._is_recorded, self._parts = True, [recorded]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_recorded:
            return
        try:
            self._end_wait()
        except RuncastError:
            if error is None:
                raise  # else what ended the block is what is to be told
        if error is None:
            self._journal.complete_message(self.id, self.text, step_id=self._step_id)

    def write(self, delta: str) -> None:
        """Go on with the text; returns at once.

        Raises:
            TypeError: the delta isn't text.
            TooLargeError: the message passes `MAX_TEXT_CHARS`.

        """
        # Fast path: every token passes here. `python -m bench.runs deltas` shows what it costs.
        if not isinstance(delta, str):
            raise TypeError(f"a message is text: give `write` a str, not {type(delta).__name__}")
        if self._is_recorded or not delta:
            return
        self._chars += len(delta)
        if self._chars > MAX_TEXT_CHARS:
            raise TooLargeError(f"the message passes the limit of {MAX_TEXT_CHARS:,} characters: begin another one")
        self._parts.append(delta)
        self._waiting.append(delta)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            wait = self._told_at + self._delta_seconds - loop.time()
            if wait > 0:
                self._timer = loop.call_later(wait, self._receive_time)
            else:
                self._tell()

    def _receive_time(self) -> None:
        self._timer = None
        with suppress(RuncastError):  # the run is another's, or its memory is full: the runner's next word will say so
            self._tell()

    def _end_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._tell()

    def _tell(self) -> None:
        self._told_at = asyncio.get_running_loop().time()
        text, self._waiting = "".join(self._waiting), []
        for start in range(0, len(text), _MAX_DELTA_CHARS):
            payload = {"messageId": self.id, "delta": text[start : start + _MAX_DELTA_CHARS]}
            self._journal.write(EventType.MESSAGE_DELTA, payload, step_id=self._step_id)


def told_text(text: str) -> dict[str, str]:
    """What a message's end tells of its text."""
    return {"text": text} if len(text) <= _MAX_TOLD_CHARS else {}
