"""SqlRunStore: the `RunStore` port over SQLAlchemy Core.

What to do stands in the modules beside this one, once; where it runs is the executor's business, one per database.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from sqlalchemy import Connection

from runcast.backends.sql import (
    cancels,
    claims,
    commits,
    creation,
    limits,
    queries,
    requests,
    unattended,
)
from runcast.backends.sql.address import read_url
from runcast.backends.sql.postgres import PostgresExecutor
from runcast.backends.sql.revision import check_revision
from runcast.backends.sql.sqlite import SqliteExecutor
from runcast.errors import ConfigurationError
from runcast.events import Cursor, LoggedEvent
from runcast.records import (
    Answer,
    Attention,
    Claim,
    Commit,
    Head,
    NewRun,
    Request,
    Run,
    RunFilter,
    RunPage,
    StatusChange,
    Step,
)

T = TypeVar("T")


class Executor(Protocol):
    """Where operations run. What they raise comes out; what the driver raises comes out as `UnavailableError`."""

    async def write(self, operation: Callable[[Connection], T]) -> T:
        """In a transaction of its own, committed on return."""
        ...

    async def read(self, operation: Callable[[Connection], T]) -> T:
        """Only reads; sees every write that has returned."""
        ...

    async def close(self) -> None:
        """Finish what was begun."""
        ...


class SqlRunStore:
    """See `ports.RunStore` for what each method promises."""

    def __init__(self, executor: Executor) -> None:
        self._executor: Final = executor

    async def create_run(self, run: NewRun, first: LoggedEvent) -> tuple[Run, bool]:
        """See `RunStore.create_run`."""
        return await self._executor.write(lambda c: creation.create_run(c, run, first))

    async def get_run(self, run_id: str) -> Run | None:
        """See `RunStore.get_run`."""
        return await self._executor.read(lambda c: queries.get_run(c, run_id))

    async def list_runs(self, where: RunFilter, *, limit: int, before: str | None = None) -> RunPage:
        """See `RunStore.list_runs`."""
        return await self._executor.read(lambda c: queries.list_runs(c, where, limit=limit, before=before))

    async def count_runs(self) -> Mapping[str, int]:
        """See `RunStore.count_runs`."""
        return await self._executor.read(queries.count_runs)

    async def list_steps(self, run_id: str) -> Sequence[Step]:
        """See `RunStore.list_steps`."""
        return await self._executor.read(lambda c: queries.list_steps(c, run_id))

    async def claim_run(
        self, run_id: str, worker_id: str, *, now: datetime, tell: Callable[[Run], LoggedEvent] | None = None
    ) -> Claim | None:
        """See `RunStore.claim_run`. `tell` may be called in another thread."""
        return await self._executor.write(lambda c: claims.claim_run(c, run_id, worker_id, now=now, tell=tell))

    async def commit(self, commit: Commit) -> None:
        """See `RunStore.commit`. Repeating a commit that ended its attempt, because its answer was lost, is no error.

        Raises:
            IllegalCommitError: the status can't follow the run's, or the events leave a hole; nothing was written.

        """
        await self._executor.write(lambda c: commits.commit(c, commit))

    async def cancel_unheld(self, run_id: str, event: Callable[[Run], LoggedEvent], *, now: datetime) -> Run | None:
        """See `RunStore.cancel_unheld`. `event` may be called in another thread."""
        return await self._executor.write(lambda c: cancels.cancel_unheld(c, run_id, event, now=now))

    async def take_from_dead(
        self, run_id: str, decide: Callable[[Run], tuple[StatusChange, LoggedEvent | None]], *, now: datetime
    ) -> Run | None:
        """See `RunStore.take_from_dead`. `decide` may be called in another thread."""
        return await self._executor.write(lambda c: claims.take_from_dead(c, run_id, decide, now=now))

    async def check_attempt(self, run_id: str, attempt: int) -> None:
        """See `RunStore.check_attempt`."""
        await self._executor.read(lambda c: queries.check_attempt(c, run_id, attempt))

    async def read_heads(self, run_ids: Sequence[str]) -> Mapping[str, Head]:
        """See `RunStore.read_heads`."""
        return await self._executor.read(lambda c: queries.read_heads(c, run_ids))

    async def request_cancel(self, run_id: str, *, now: datetime) -> Run | None:
        """See `RunStore.request_cancel`."""
        return await self._executor.write(lambda c: cancels.request_cancel(c, run_id, now=now))

    async def list_unattended(self, *, now: datetime, queued_before: datetime, limit: int) -> Sequence[Run]:
        """See `RunStore.list_unattended`."""
        return await self._executor.read(
            lambda c: unattended.list_unattended(c, now=now, queued_before=queued_before, limit=limit)
        )

    async def find_next(self, limit_key: str, *, now: datetime | None = None) -> Run | None:
        """See `RunStore.find_next`."""
        return await self._executor.read(lambda c: limits.find_next(c, limit_key, now=now))

    async def list_under_way(self, limit_key: str) -> Sequence[str]:
        """See `RunStore.list_under_way`."""
        return await self._executor.read(lambda c: limits.list_under_way(c, limit_key))

    async def list_children(self, run_id: str) -> Sequence[Run]:
        """See `RunStore.list_children`."""
        return await self._executor.read(lambda c: queries.list_children(c, run_id))

    async def read_memos(self, run_id: str) -> Mapping[str, Any]:
        """See `RunStore.read_memos`."""
        return await self._executor.read(lambda c: queries.read_memos(c, run_id))

    async def list_requests(self, run_id: str) -> Sequence[Request]:
        """See `RunStore.list_requests`."""
        return await self._executor.read(lambda c: requests.list_requests(c, run_id))

    async def answer_request(self, run_id: str, request_id: str, answer: Answer) -> Run:
        """See `RunStore.answer_request`."""
        return await self._executor.write(lambda c: requests.answer_request(c, run_id, request_id, answer))

    async def read_events(self, run_id: str, after: Cursor, *, limit: int) -> Sequence[LoggedEvent]:
        """See `RunStore.read_events`."""
        return await self._executor.read(lambda c: queries.read_events(c, run_id, after, limit=limit))

    async def renew_lease(self, worker_id: str, *, until: datetime) -> Attention:
        """See `RunStore.renew_lease`."""
        return await self._executor.write(lambda c: claims.renew_lease(c, worker_id, until=until))

    async def end_lease(self, worker_id: str) -> None:
        """See `RunStore.end_lease`."""
        await self._executor.write(lambda c: claims.end_lease(c, worker_id))

    async def ping(self) -> None:
        """See `RunStore.ping`."""
        await self._executor.read(queries.ping)

    async def close(self) -> None:
        """See `RunStore.close`."""
        await self._executor.close()


async def open_store(
    url: str, *, max_connections: int = 10, max_waiting: int = 10_000, timeout_seconds: float = 10
) -> SqlRunStore:
    """The store in the database that the URL names.

    `timeout_seconds` is how long a call waits for a lock (SQLite), or a connection or a statement (PostgreSQL);
    `max_waiting` bounds what may wait for SQLite, `max_connections` what runs on PostgreSQL at once.

    Raises:
        ConfigurationError: the URL can't be used, or the database needs `runcast migrate`.
        UnavailableError: the database can't be reached.

    """
    address = read_url(url)
    executor: Executor
    if isinstance(address, Path):
        if not address.is_file():
            raise ConfigurationError(f"there is no database {address}: create it with `runcast migrate`")
        executor = SqliteExecutor(address, busy_seconds=timeout_seconds, max_waiting=max_waiting)
    else:
        executor = PostgresExecutor(address, max_connections=max_connections, timeout_seconds=timeout_seconds)
    try:
        await executor.read(check_revision)
    except BaseException:
        await executor.close()
        raise
    return SqlRunStore(executor)
