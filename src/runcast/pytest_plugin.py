"""What pytest finds by itself where Runcast is installed: the fixture `run_harness`.

    async def test_research(run_harness):
        async with run_harness(app) as harness:
            ...

Nothing of Runcast is loaded before a test asks for it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from runcast.testing import RunHarness


@pytest.fixture
def run_harness(tmp_path: Path) -> "Callable[..., RunHarness]":
    """Makes a `RunHarness` for an application, with its data in the test's folder."""
    from functools import partial  # noqa: PLC0415  # as the next

    from runcast.testing import RunHarness  # noqa: PLC0415  # many sessions never ask for it

    return partial(RunHarness, data_dir=tmp_path)
