"""How a part tells who started it that it is ready: one newline into a pipe.

Asking over the network proves nothing of a part that shares its port with others: any of them may answer.
"""

import contextlib
import os
from typing import Final


class ReadySignal:
    """The reading end. The part inherits `fd` and writes to it, in whichever of its lives it gets ready first."""

    def __init__(self) -> None:
        self._reader, self.fd = os.pipe()
        os.set_blocking(self._reader, False)
        self._is_given = False

    async def is_given(self) -> bool:
        """Whether the part has said that it is ready."""
        with contextlib.suppress(BlockingIOError):
            self._is_given = self._is_given or os.read(self._reader, 1) != b""
        return self._is_given

    def close(self) -> None:
        """Let the pipe go."""
        os.close(self._reader)
        os.close(self.fd)


class ReadyDescriptor:
    """The writing end, by the number of its descriptor."""

    def __init__(self, number: int) -> None:
        os.fstat(number)  # raises OSError now, rather than when all is up
        self._number: Final = number

    def give(self) -> None:
        """Say that this part is ready; once."""
        with contextlib.suppress(OSError):  # nobody reads any more, so nobody needs to know
            os.write(self._number, b"\n")
            os.close(self._number)
