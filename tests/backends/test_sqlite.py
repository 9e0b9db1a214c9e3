"""What only SQLite's executor promises: groups, limits, several processes on one file."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import Connection, text

from runcast.backends.sql.sqlite import SqliteExecutor
from runcast.errors import UnavailableError

ADD = text("INSERT INTO workers (id, lease_until) VALUES (:id, '2026-01-01 00:00:00.000000')")
COUNT = text("SELECT count(*) FROM workers")


@pytest.fixture
def path(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@asynccontextmanager
async def opened(path: Path, **limits: Any) -> AsyncIterator[SqliteExecutor]:
    executor = SqliteExecutor(path, **{"busy_seconds": 10, "max_waiting": 1_000, **limits})
    try:
        yield executor
    finally:
        await executor.close()


@pytest.fixture
async def executor(path: Path) -> AsyncIterator[SqliteExecutor]:
    async with opened(path) as executor:
        yield executor


def add(worker_id: str) -> Callable[[Connection], None]:
    def operation(connection: Connection) -> None:
        connection.execute(ADD, {"id": worker_id})

    return operation


def add_and_fail(connection: Connection) -> NoReturn:
    connection.execute(ADD, {"id": "undone"})
    raise LookupError("on purpose")


def count(connection: Connection) -> int:
    return int(connection.execute(COUNT).scalar_one())


class Gate:
    """An operation that keeps the writer busy until it is opened."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, _: Connection) -> None:
        self._reached.set()
        assert self._opened.wait(10)

    async def wait_reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 10)

    def open(self) -> None:
        self._opened.set()


async def test_a_write_that_fails_alone_leaves_no_trace(executor: SqliteExecutor) -> None:
    """A write that is committed by itself, and raises, is undone, and what comes after it is written."""
    with pytest.raises(LookupError):
        await executor.write(add_and_fail)
    assert await executor.read(count) == 0
    await executor.write(add("w"))
    assert await executor.read(count) == 1


async def test_a_read_that_fails_harms_no_other(executor: SqliteExecutor) -> None:
    """What is read after a read that raised is read as it stands then."""

    def read_and_fail(connection: Connection) -> NoReturn:
        connection.execute(COUNT)
        raise LookupError("on purpose")

    with pytest.raises(LookupError):
        await executor.read(read_and_fail)
    await executor.write(add("w"))
    assert await executor.read(count) == 1


async def test_a_write_that_fails_harms_no_other_of_its_group(executor: SqliteExecutor) -> None:
    """Of writes that are committed together, one that raises leaves no trace and the others stand."""
    gate = Gate()
    held = asyncio.create_task(executor.write(gate))
    await gate.wait_reached()
    group = [asyncio.create_task(executor.write(operation)) for operation in (add("a"), add_and_fail, add("b"))]
    await asyncio.sleep(0)
    gate.open()

    _, first, failed, last = await asyncio.gather(held, *group, return_exceptions=True)
    assert (first, type(failed), last) == (None, LookupError, None)
    assert await executor.read(lambda c: c.execute(text("SELECT id FROM workers ORDER BY id")).scalars().all()) == [
        "a",
        "b",
    ]


async def test_waiting_writes_are_committed_as_a_group(executor: SqliteExecutor) -> None:
    """While the writer is busy writes gather, and then share one transaction: none stands before all do."""
    gate, middle = Gate(), Gate()
    held = asyncio.create_task(executor.write(gate))
    await gate.wait_reached()
    group = [asyncio.create_task(executor.write(operation)) for operation in (add("a"), middle, add("b"))]
    await asyncio.sleep(0)
    gate.open()
    await middle.wait_reached()
    seen_meanwhile = await executor.read(count)
    middle.open()

    await asyncio.gather(held, *group)
    assert (seen_meanwhile, await executor.read(count)) == (0, 2)


async def test_too_many_waiting_writes_are_refused(path: Path) -> None:
    """At the limit the next write is refused at once; those that wait are carried out."""
    async with opened(path, max_waiting=2) as executor:
        gate = Gate()
        held = asyncio.create_task(executor.write(gate))
        await gate.wait_reached()
        waiting = asyncio.create_task(executor.write(add("a")))
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="overloaded"):
            await executor.write(add("b"))
        gate.open()
        await asyncio.gather(held, waiting)
        assert await executor.read(count) == 1


async def test_closing_finishes_what_waits_and_refuses_the_rest(path: Path) -> None:
    """Writes that were given before `close` are committed; after it the executor refuses."""
    async with opened(path) as executor:
        writes = [asyncio.create_task(executor.write(add(f"w{number}"))) for number in range(20)]
        await asyncio.sleep(0)
        await executor.close()
        await asyncio.gather(*writes)
        with pytest.raises(UnavailableError, match="closed"):
            await executor.write(add("late"))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM workers").fetchone() == (20,)


async def test_a_cancelled_caller_harms_nobody(executor: SqliteExecutor) -> None:
    """A write whose caller has gone is left out, and the writer goes on."""
    gate = Gate()
    held = asyncio.create_task(executor.write(gate))
    await gate.wait_reached()
    gone = asyncio.create_task(executor.write(add("gone")))
    await asyncio.sleep(0)
    gone.cancel()
    after = asyncio.create_task(executor.write(add("after")))
    await asyncio.sleep(0)
    gate.open()
    await asyncio.gather(held, after)
    assert await executor.read(count) == 1


async def test_a_lock_that_stays_taken_is_reported_and_outlived(path: Path) -> None:
    """While another process keeps the lock, writes fail as unavailable, reads go on, and later all is well."""
    async with opened(path, busy_seconds=0.05) as executor:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(UnavailableError, match="locked"):
                await executor.write(add("a"))
            assert await executor.read(count) == 0
            other.execute("ROLLBACK")
        await executor.write(add("b"))
        assert await executor.read(count) == 1


async def test_a_full_disk_is_reported_and_outlived(executor: SqliteExecutor) -> None:
    """When the file can't grow the write fails as unavailable and leaves nothing; with room again writes succeed."""

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1")

    def unlimit(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")

    await executor.write(limit)
    with pytest.raises(UnavailableError, match="full"):
        await executor.write(add("x" * 1_000_000))
    await executor.write(unlimit)
    await executor.write(add("b"))
    assert await executor.read(count) == 1


async def test_reads_cannot_write(executor: SqliteExecutor) -> None:
    """An operation that was declared to only read is held to it."""
    with pytest.raises(UnavailableError, match="readonly"):
        await executor.read(add("a"))


async def test_what_was_answered_survives_the_death_of_the_process(path: Path) -> None:
    """A process that is killed right after its write was answered has not lost it."""
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from runcast.backends.sql.sqlite import SqliteExecutor\n"
        "from tests.backends.test_sqlite import add\n"
        "async def main():\n"
        "    executor = SqliteExecutor(Path(sys.argv[1]), busy_seconds=5, max_waiting=10)\n"
        "    await executor.write(add('a'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script, str(path)],
        check=False,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert process.returncode == -9
    async with opened(path) as executor:
        assert await executor.read(count) == 1
