"""How long to wait before trying again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """A wait that doubles with each failure up to a cap.

    It is spread, so that many who failed together don't return together.
    """

    base_seconds: float
    cap_seconds: float

    def delay_seconds(self, failures: int, *, jitter: float) -> float:
        """The wait after so many failures in a row, from half of the full wait (jitter 0) to all of it (jitter 1)."""
        # The exponent is bounded because 2.0**1024 overflows; the cap is reached long before.
        full = min(self.cap_seconds, self.base_seconds * 2.0 ** min(max(failures - 1, 0), 60))
        return full * (0.5 + jitter / 2)
