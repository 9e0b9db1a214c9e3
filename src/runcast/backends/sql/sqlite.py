"""SQLite: one writer thread that commits what waits in groups, and a few threads that read.

A commit costs SQLite the same for one write as for a hundred, so the writer takes all that wait, gives each a savepoint
of its own (one that fails leaves no trace and harms no other), commits once, and only then are the callers answered.
What reads needs no transaction: as on PostgreSQL, no operation relies on two statements' seeing the same.

Several processes share the file. `BEGIN IMMEDIATE` takes the write lock before anything is read, so nothing decided on
can change under the decision; whoever has the lock lets go of it after a group.

Durability: with WAL and `synchronous=NORMAL` a write that was answered survives the death of any process; a power cut
may take the last commits, always whole ones. Who can't accept that uses PostgreSQL.

Limits: `max_waiting` writes and as many reads wait at most, more are refused with `UnavailableError`; a lock that stays
taken for `busy_seconds` is reported as `UnavailableError` too.
"""

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine

from runcast.backends.sql.faults import database_errors
from runcast.errors import UnavailableError

T = TypeVar("T")

MAX_GROUP: Final = 500  # writes in one commit: bounds how long other processes wait for the lock
READERS: Final = 4
_BUSY_STEP_SECONDS: Final = 0.001  # SQLite's own waiting sleeps up to 0.1 s at a time, a hundred groups' worth


@dataclass(slots=True)
class _Write:
    operation: Callable[[Connection], Any]
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class _Failure:
    error: Exception


class SqliteExecutor:
    """Runs operations on a SQLite file. To be made and used in one event loop; `close` ends its threads."""

    def __init__(self, path: Path, *, busy_seconds: float, max_waiting: int) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._busy_seconds: Final = busy_seconds
        self._max_waiting: Final = max_waiting
        self._waiting_writes = 0
        self._waiting_reads = 0
        self._is_closed = False
        self._writes: Final[SimpleQueue[_Write | None]] = SimpleQueue()  # None ends the writer
        self._write_engine: Final = open_engine(path, busy_seconds=0, connections=1)
        self._read_engine: Final = open_engine(path, busy_seconds=busy_seconds, connections=READERS, read_only=True)
        # Fast path: taken from its pool and given back, a connection costs as much as what it is asked (`bench.runs`).
        self._writing: Connection | None = None  # the writer's, from its first group on
        self._idle_reading: Final[list[Connection]] = []
        self._readers: Final = ThreadPoolExecutor(READERS, thread_name_prefix="runcast-sqlite-reader")
        self._writer: Final = threading.Thread(target=self._write_groups, name="runcast-sqlite-writer", daemon=True)
        self._writer.start()

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """Run an operation in a transaction and return once it is committed."""
        self._refuse_if(self._waiting_writes >= self._max_waiting)
        answer: asyncio.Future[T] = self._loop.create_future()
        self._waiting_writes += 1
        self._writes.put(_Write(operation, answer))
        return await answer

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Run an operation that only reads. Each of its statements sees one state of the database."""
        self._refuse_if(self._waiting_reads >= self._max_waiting)
        self._waiting_reads += 1
        try:
            return await self._loop.run_in_executor(self._readers, self._read, operation)
        finally:
            self._waiting_reads -= 1

    async def close(self) -> None:
        """Answer what waits, then end the threads and let the file go."""
        if self._is_closed:
            return
        self._is_closed = True
        self._writes.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in (*self._idle_reading, *filter(None, [self._writing])):
            connection.close()
        self._read_engine.dispose()
        self._write_engine.dispose()

    def _refuse_if(self, is_full: bool) -> None:  # noqa: FBT001 - the name says what it means
        if self._is_closed:
            raise UnavailableError("the database was closed")
        if is_full:
            raise UnavailableError(f"the database is overloaded: {self._max_waiting} requests wait for it already")

    def _read(self, operation: Callable[[Connection], T]) -> T:
        with database_errors():
            try:
                connection = self._idle_reading.pop()
            except IndexError:
                connection = _open(self._read_engine)
            try:
                return operation(connection)
            finally:
                self._idle_reading.append(connection)

    def _write_groups(self) -> None:
        while (first := self._writes.get()) is not None:
            group = self._gather(first)
            answers = self._commit_group(group)
            try:
                self._loop.call_soon_threadsafe(self._answer, group, answers)
            except RuntimeError:
                return  # the loop has gone without `close`: nobody waits for an answer

    def _gather(self, first: _Write) -> Sequence[_Write]:
        group = [first]
        while len(group) < MAX_GROUP:
            try:
                write = self._writes.get_nowait()
            except Empty:
                break
            if write is None:
                self._writes.put(None)  # nothing comes after it: `write` refuses
                break
            group.append(write)
        return group

    def _commit_group(self, group: Sequence[_Write]) -> Sequence[Any]:
        try:
            with database_errors():
                if self._writing is None:
                    self._writing = _open(self._write_engine)
                raw: sqlite3.Connection = self._writing.connection.driver_connection  # type: ignore[assignment]
                self._begin(raw)
                try:
                    answers = _run_group(group, self._writing, raw)
                    raw.commit()
                except BaseException:
                    raw.rollback()
                    raise
                return answers
        except Exception as error:  # noqa: BLE001 - each caller gets it; the thread must go on
            return [_Failure(error)] * len(group)

    def _begin(self, raw: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_BUSY_STEP_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - only to get out of step
            else:
                return

    def _answer(self, group: Sequence[_Write], answers: Sequence[Any]) -> None:
        self._waiting_writes -= len(group)
        for write, answer in zip(group, answers, strict=True):
            if write.answer.done():
                continue  # its caller was cancelled
            if isinstance(answer, _Failure):
                write.answer.set_exception(_copy_of(answer.error))
            else:
                write.answer.set_result(answer)


def open_engine(path: Path, *, busy_seconds: float, connections: int, read_only: bool = False) -> Engine:
    """An engine on an existing file. Transactions are begun by hand: the driver would begin them too late."""

    def connect() -> sqlite3.Connection:
        return _connect(path, busy_seconds=busy_seconds, read_only=read_only)

    pool = {"poolclass": QueuePool, "pool_size": connections, "max_overflow": 0}
    return create_engine("sqlite://", creator=connect, **pool)


def _open(engine: Engine) -> Connection:
    """A connection to keep. Told of a transaction, SQLAlchemy begins, ends and undoes none: that is done by hand."""
    connection = engine.connect()
    connection.begin()
    return connection


def _connect(path: Path, *, busy_seconds: float, read_only: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw",  # rw: a file that isn't there is not made by looking
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,  # the pool hands a connection to one thread at a time
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _run_group(group: Sequence[_Write], connection: Connection, raw: sqlite3.Connection) -> Sequence[Any]:
    if len(group) > 1:
        return [_run_alone(write, connection, raw) for write in group]
    # Fast path: of a single write the transaction itself is undone.
    return [None if group[0].answer.cancelled() else group[0].operation(connection)]


def _run_alone(write: _Write, connection: Connection, raw: sqlite3.Connection) -> Any:
    """Run one write of a group in its savepoint. What it raises is its answer, unless the whole group is lost."""
    if write.answer.cancelled():
        return None
    raw.execute("SAVEPOINT write")
    try:
        with database_errors():
            answer = write.operation(connection)
    except Exception as error:
        if not raw.in_transaction:
            raise  # a full disk, for one: SQLite has rolled back everything
        raw.execute("ROLLBACK TO write")
        answer = _Failure(error)
    raw.execute("RELEASE write")
    return answer


def _copy_of(error: Exception) -> Exception:
    """An error of its own for each caller: an exception gathers the traceback of everyone who raises it."""
    if type(error) is UnavailableError:
        copy = UnavailableError(str(error))
        copy.__cause__ = error.__cause__
        return copy
    return error
