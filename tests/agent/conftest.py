"""No test of the tools may find real credentials."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away whatever this machine's environment sets for Runcast: a test must never post for real."""
    for name in [name for name in os.environ if name.upper().startswith("RUNCAST_")]:
        monkeypatch.delenv(name)
