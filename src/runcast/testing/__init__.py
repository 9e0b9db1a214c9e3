"""Runs in tests: against the real log and a real database, at the speed of memory.

    async with RunHarness(app) as harness:
        result = await harness.run("research", topic="redis", answers=[True])
    assert result.status == "done"
    assert result.text == "…"

Redis is one server for the whole test session, the database a file in a temporary folder. What a run would wait for
comes at once: sleeps and waits before another attempt are skipped by a clock that jumps, people answer from a list.
One harness at a time: each begins with an empty Redis.
"""

from runcast.testing.harness import RunHarness, RunResult
from runcast.testing.redis import TestRedis

__all__ = ["RunHarness", "RunResult", "TestRedis"]
