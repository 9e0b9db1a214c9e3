"""What a stand-in for a model says, turn by turn, whichever maker's API it speaks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Turn:
    """One answer: bits of text, then calls as (tool, arguments), each of the arguments' JSON in two pieces.

    A `hold` is waited for after the text, when `is_there` has been set. `breaks_off`: the connection ends there.
    """

    text: Sequence[str] = ()
    calls: Sequence[tuple[str, Any]] = ()
    hold: asyncio.Event | None = None
    is_there: asyncio.Event = field(default_factory=asyncio.Event)
    breaks_off: bool = False
    is_cut: bool = False  # whether it ended because it got too long

    async def pause(self) -> None:
        """Wait there, if that is wanted."""
        self.is_there.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.breaks_off:
            raise ConnectionResetError("the script says so")


@dataclass
class ModelServer:
    """A running stand-in: where it is, and the requests that it got, as JSON, in order."""

    base_url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
