"""Settings that are none."""

import pytest

from runcast.config import Settings
from tests.cli.processes import runcast


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("RUNCAST_CONCURENCY", "RUNCAST_CONCURRENCY"),
        ("RUNCAST_WORKER", "RUNCAST_WORKERS"),
        ("runcast_prot", "RUNCAST_PORT"),
        ("RUNCAST_REDIS_URL", "REDIS_URL"),
    ],
)
def test_a_mistyped_variable_is_named_with_the_setting_that_is_nearest(name: str, nearest: str) -> None:
    """One sentence each, without the value, which may be a secret."""
    names = [name, "RUNCAST_PORT", "runcast_host", "PATH", "REDIS_URL"]
    assert list(Settings.find_mistyped(names)) == [
        f"{name} is not a setting and is ignored; the nearest one is {nearest}"
    ]


def test_the_command_warns_of_it_in_one_line() -> None:
    """And goes on."""
    result = runcast("worker", env={"RUNCAST_CONCURENCY": "7"})
    warned = [line for line in result.stderr.splitlines() if "RUNCAST_CONCURENCY" in line]
    assert len(warned) == 1
    assert "RUNCAST_CONCURRENCY" in warned[0]
    assert runcast("worker", env={"RUNCAST_CONCURRENCY": "7"}).stderr.count("not a setting") == 0
