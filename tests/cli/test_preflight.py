"""What is checked before anything starts."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runcast.config import Settings
from runcast.errors import ConfigurationError
from runcast.preflight import hold_data_dir, hold_ports, require_free_ports, with_free_port


@pytest.fixture(autouse=True)
def _own_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Locks of ports stay behind; not in the machine's own folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("locks")))


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


def test_ports_that_gateways_share_are_still_one_ups_alone() -> None:
    """The kernel would let both in; the second is refused all the same, before anything listens and after."""
    settings = with_free_port(Settings(port=0, web_port=0, gateways=2))
    refusal = pytest.raises(ConfigurationError, match=f"port {settings.port} on 127.0.0.1 is taken")
    with hold_ports(settings, is_shared=True), refusal, hold_ports(settings, is_shared=settings.gateways > 1):
        pass
    with _shared_listener(settings.port), refusal, hold_ports(settings, is_shared=True):
        pass
    with hold_ports(settings, is_shared=True):
        pass


def test_a_gateway_joins_only_those_that_share_the_port() -> None:
    """One that has the port for itself is never joined by another, nor joins."""
    settings = with_free_port(Settings(port=0, web_port=0))
    with _shared_listener(settings.port):
        require_free_ports(settings, is_shared=True)
        with pytest.raises(ConfigurationError, match="is taken"):
            require_free_ports(settings)
    with (
        socket.create_server(("127.0.0.1", settings.port)),
        pytest.raises(ConfigurationError, match="is taken"),
    ):
        require_free_ports(settings, is_shared=True)


def test_a_look_at_a_shared_port_takes_no_connection_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It binds and never listens: the kernel would give it connections of the others."""
    settings = with_free_port(Settings(port=0, web_port=0))
    with _shared_listener(settings.port):
        monkeypatch.setattr(socket.socket, "listen", lambda *_: pytest.fail("it listens"), raising=False)
        require_free_ports(settings, is_shared=True)


def test_where_a_port_can_not_be_shared_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SO_REUSEPORT there is one gateway, and the refusal names the option."""
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    refusal = pytest.raises(ConfigurationError, match="SO_REUSEPORT, which this system doesn't have: use --gateways 1")
    with refusal, hold_ports(Settings(port=1, web_port=0, gateways=2), is_shared=True):
        pass
    with hold_ports(with_free_port(Settings(port=0, web_port=0, gateways=1)), is_shared=False):
        pass


def _shared_listener(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port), reuse_port=True)
