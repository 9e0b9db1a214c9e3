"""What is checked before anything starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runcast.config import Settings
from runcast.errors import ConfigurationError
from runcast.preflight import hold_data_dir, require_free_ports, with_free_port


def test_a_data_dir_has_one_user_at_a_time(tmp_path: Path) -> None:
    """The second is told who the first is; when the first is done the place is free."""
    refusal = pytest.raises(ConfigurationError, match=rf"in use by another `runcast up` \(process {os.getpid()}\)")
    with hold_data_dir(tmp_path), refusal, hold_data_dir(tmp_path):
        pass
    with hold_data_dir(tmp_path):
        pass


def test_a_lock_whose_owner_was_killed_is_waited_for(tmp_path: Path) -> None:
    """Redis inherits the lock and outlives a killed supervisor by a moment: the next one waits for it."""
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    code = f"import fcntl, sys; fcntl.flock({lock}, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=(lock,), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    os.close(lock)
    assert holder.stdout is not None
    assert holder.stdin is not None
    holder.stdout.readline()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "lock").write_text(str(gone.pid))
    holder.stdin.close()
    with hold_data_dir(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())
    holder.wait()
    holder.stdout.close()


def test_a_data_dir_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    """A file in the way is one clear error."""
    (tmp_path / "file").touch()
    refusal = pytest.raises(ConfigurationError, match="file/data can't be used: Not a directory; choose another")
    with refusal, hold_data_dir(tmp_path / "file" / "data"):
        pass


def test_a_new_data_dir_is_private(tmp_path: Path) -> None:
    """Prompts and outputs stand in it."""
    with hold_data_dir(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_port_0_becomes_a_free_one() -> None:
    """The port is chosen before the parts start, so that the summary can name it."""
    settings = with_free_port(Settings(port=0, web_port=0))
    assert settings.port > 0
    require_free_ports(settings)


def test_an_address_of_another_machine_is_refused() -> None:
    """The option to change is the host, not the port."""
    with pytest.raises(ConfigurationError, match="not an address of this machine: choose another with --host"):
        require_free_ports(Settings(host="192.0.2.1", port=1, web_port=0))
