"""What is checked before anything starts: that the ports are free and that nobody else uses the data dir.

One gateway has its ports for itself, by the kernel's word. Several on one port share it (SO_REUSEPORT), and then the
kernel lets in whatever other process of the same user asks to share. So `up`s keep each other out by a lock per port.
"""

import contextlib
import errno
import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from runcast.config import Settings
from runcast.errors import ConfigurationError

LOCK_WAIT_SECONDS: Final = 10
"""How long a new `up` waits for the children of one that was killed to end."""


@contextlib.contextmanager
def hold_data_dir(data_dir: Path) -> Iterator[int]:
    """Keep others from using the data dir; yields the lock's descriptor.

    Raises:
        ConfigurationError: another `up` uses it, or it can't be made.

    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"data dir {data_dir} can't be used: {error.strerror}; choose another") from error
    try:
        _lock(lock, data_dir)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _lock(lock: int, data_dir: Path) -> None:
    give_up_at = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 20, 0).decode(errors="replace")
            if _is_alive(owner) or time.monotonic() > give_up_at:
                raise ConfigurationError(
                    f"data dir {data_dir} is in use by another `runcast up` (process {owner or 'unknown'}):"
                    " stop it, or choose another --data-dir"
                ) from None
            time.sleep(0.05)  # the one who held it was killed; its Redis is just ending
        else:
            return


def _is_alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def require_redis_url(settings: Settings) -> None:
    """Refuse to start with a Redis URL that names nothing; nobody is asked whether Redis is there.

    Raises:
        ConfigurationError: it isn't well-formed; the message says in which way.

    """
    if settings.redis_url:
        from runcast.backends.redis_client import open_redis  # noqa: PLC0415 - only where Redis is one's own

        open_redis(settings.redis_url)


def with_free_port(settings: Settings) -> Settings:
    """The same settings, with a port that is free if the port is 0."""
    if settings.port != 0:
        return settings
    with socket.socket(_family(settings.host)) as probe:
        probe.bind((settings.host, 0))
        return settings.model_copy(update={"port": probe.getsockname()[1]})


@contextlib.contextmanager
def hold_ports(settings: Settings, *, is_shared: bool) -> Iterator[None]:
    """Keep other `up`s from the ports, though gateways are to share them.

    Raises:
        ConfigurationError: a port is taken, or can't be shared here; the message says what to change.

    """
    with contextlib.ExitStack() as held:
        if is_shared:
            require_sharing()
            for option, port in _ports_of(settings):
                held.enter_context(_port_lock(settings.host, port, option))
        require_free_ports(settings)
        yield


def require_free_ports(settings: Settings, *, is_shared: bool = False) -> None:
    """Refuse to start on ports that are taken; shared ones only by who doesn't share them.

    Raises:
        ConfigurationError: a port can't be bound; the message names it and its option.

    """
    if settings.port == settings.web_port:
        raise ConfigurationError(f"--port and --web-port are both {settings.port}: give two, or --web-port 0 for one")
    if is_shared:
        require_sharing()
    for option, port in _ports_of(settings):
        try:
            _try_to_bind(settings.host, port, is_shared=is_shared)
        except OSError as error:
            raise _cannot_listen(error, settings.host, port, option) from None


def require_sharing() -> None:
    """Refuse to go on where processes can't share a port.

    Raises:
        ConfigurationError: they can't.

    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigurationError(
            "several gateways share a port by SO_REUSEPORT, which this system doesn't have: use --gateways 1"
        )


def _ports_of(settings: Settings) -> list[tuple[str, int]]:
    ports = (("--port", settings.port), ("--web-port", settings.web_port))
    return [(option, port) for option, port in ports if port != 0]


@contextlib.contextmanager
def _port_lock(host: str, port: int, option: str) -> Iterator[None]:
    path = Path(tempfile.gettempdir()) / f"runcast-{os.getuid()}-{quote(host, safe='')}-{port}.lock"
    try:
        # It stays there: whoever removed it could remove the lock that another has just taken.
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path} can't be used: {error.strerror}; set TMPDIR to a folder of yours") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(host, port, option) from None
        yield
    finally:
        os.close(lock)


def _taken(host: str, port: int, option: str) -> ConfigurationError:
    return ConfigurationError(f"port {port} on {host} is taken: stop what uses it, or choose another with {option}")


def _cannot_listen(error: OSError, host: str, port: int, option: str) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return _taken(host, port, option)
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigurationError(f"{host} is not an address of this machine: choose another with --host")
    return ConfigurationError(f"can't listen on {host}, port {port}: {error.strerror}: choose another with {option}")


def _try_to_bind(host: str, port: int, *, is_shared: bool) -> None:
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: TIME_WAIT is no obstacle
        if is_shared:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind((host, port))
        if not is_shared:  # on a shared port it would be given connections of the others
            probe.listen(1)  # two sockets may be bound where one may listen


def _family(host: str) -> socket.AddressFamily:
    try:
        return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except OSError:
        raise ConfigurationError(f"{host} is not an address of this machine: choose another with --host") from None
