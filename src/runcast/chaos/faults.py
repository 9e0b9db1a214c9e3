"""How each fault is done and undone. What a fault takes away it gives back: afterwards every part runs again."""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from sqlalchemy import make_url

from runcast.backends.sql.address import read_url
from runcast.chaos.link import Link
from runcast.chaos.plan import Fault, FaultKind
from runcast.chaos.processes import Cluster, DrillProcess, wait_answers

_MAX_DELAY_SECONDS: Final = 0.25
_DROP_SHARE: Final = 0.3
_CUT_EVERY_SECONDS: Final = 0.4
_ROLL_BACK_AFTER_SECONDS: Final = 0.2  # Redis stays away so long before it comes back older

Doing = Callable[[Fault], Awaitable[str]]


def is_possible(kind: FaultKind, *, database_url: str) -> bool:
    """Whether this machine and database allow the fault."""
    if kind is FaultKind.DISK_FULL:
        # Done by a limit that only Linux lets one process set for another; PostgreSQL's files aren't our processes'.
        return sys.platform == "linux" and database_url.startswith("sqlite")
    return True


class Saboteur:
    """Does faults to a cluster, one at a time."""

    def __init__(self, cluster: Cluster, *, database_url: str) -> None:
        self._cluster: Final = cluster
        self._database_url: Final = database_url
        self._doings: Final[Mapping[FaultKind, Doing]] = {
            FaultKind.WORKER_KILLED: self._kill_worker,
            FaultKind.GATEWAY_KILLED: self._kill_gateway,
            FaultKind.REDIS_KILLED: self._kill_redis,
            FaultKind.REDIS_WIPED: self._wipe_redis,
            FaultKind.REDIS_ROLLED_BACK: self._roll_back_redis,
            FaultKind.WORKER_PAUSED: self._pause_worker,
            FaultKind.WORKER_AND_TAIL_LOST: self._lose_worker_and_tail,
            FaultKind.LINKS_CUT: self._cut_links,
            FaultKind.LINKS_DELAYED: self._delay_links,
            FaultKind.LINKS_BLACKHOLED: self._blackhole_links,
            FaultKind.LINKS_HALVED: self._halve_links,
            FaultKind.MESSAGES_DROPPED: self._drop_messages,
            FaultKind.DATABASE_LOCKED: self._lock_database,
            FaultKind.DISK_FULL: self._fill_disk,
        }

    async def do(self, fault: Fault) -> str:
        """Break something, hold it, mend it. Returns what was hit."""
        return await self._doings[fault.kind](fault)

    def _worker(self, fault: Fault) -> DrillProcess:
        return self._cluster.workers[fault.target % len(self._cluster.workers)]

    async def _kill_worker(self, fault: Fault) -> str:
        worker = self._worker(fault)
        await worker.kill()
        await asyncio.sleep(fault.hold_seconds)
        await worker.start()
        return worker.name

    async def _kill_gateway(self, fault: Fault) -> str:
        number = fault.target % len(self._cluster.gateways)
        gateway = self._cluster.gateways[number]
        await gateway.kill()
        await asyncio.sleep(fault.hold_seconds)
        await gateway.start()
        await wait_answers(self._cluster.gateway_urls[number])
        return gateway.name

    async def _kill_redis(self, fault: Fault) -> str:
        redis = self._cluster.redis
        await redis.kill()
        await asyncio.sleep(fault.hold_seconds)
        await redis.start()
        return "its append-only file kept"

    async def _wipe_redis(self, fault: Fault) -> str:
        redis = self._cluster.redis
        await redis.kill()
        await asyncio.sleep(fault.hold_seconds)
        await redis.wipe()
        await redis.start()
        return "everything lost"

    async def _roll_back_redis(self, fault: Fault) -> str:
        redis = self._cluster.redis
        await redis.keep_copy()
        await asyncio.sleep(fault.hold_seconds)
        await redis.kill()
        await redis.put_back_copy()
        await asyncio.sleep(_ROLL_BACK_AFTER_SECONDS)
        await redis.start()
        return f"the last {fault.hold_seconds:.1f} s lost"

    async def _pause_worker(self, fault: Fault) -> str:
        worker = self._worker(fault)
        worker.pause()
        await asyncio.sleep(fault.hold_seconds)
        worker.resume()
        return worker.name

    async def _lose_worker_and_tail(self, fault: Fault) -> str:
        """The archive is held up as well, so that what is lost was kept nowhere but on watchers' screens."""
        redis, worker = self._cluster.redis, self._worker(fault)
        await redis.keep_copy()
        async with self._locked_database():
            await asyncio.sleep(fault.hold_seconds)
            await asyncio.gather(worker.kill(), redis.kill())
        await redis.put_back_copy()
        await redis.start()
        await worker.start()
        return worker.name

    async def _cut_links(self, fault: Fault) -> str:
        loop = asyncio.get_running_loop()
        until = loop.time() + fault.hold_seconds
        while loop.time() < until:
            for link in self._cluster.links:
                link.cut()
            await asyncio.sleep(_CUT_EVERY_SECONDS)
        return "all links, again and again"

    async def _delay_links(self, fault: Fault) -> str:
        for link in self._cluster.links:
            link.delay_seconds = _MAX_DELAY_SECONDS
        await asyncio.sleep(fault.hold_seconds)
        for link in self._cluster.links:
            link.delay_seconds = 0
        return f"all links, by up to {_MAX_DELAY_SECONDS * 1000:.0f} ms"

    async def _blackhole_links(self, fault: Fault) -> str:
        links = self._some_links(fault)
        for link in links:
            link.hold(there=True, back=True)
        await asyncio.sleep(fault.hold_seconds)
        for link in links:
            link.release()
        return f"{len(links)} links"

    async def _halve_links(self, fault: Fault) -> str:
        links = self._some_links(fault)
        for link in links:
            link.hold(there=False, back=True)
        await asyncio.sleep(fault.hold_seconds)
        for link in links:
            link.cut()
            link.release()
        return f"the way back of {len(links)} links"

    async def _drop_messages(self, fault: Fault) -> str:
        before = sum(link.dropped for link in self._cluster.links)
        for link in self._cluster.links:
            link.drop_share = _DROP_SHARE
        await asyncio.sleep(fault.hold_seconds)
        for link in self._cluster.links:
            link.drop_share = 0
        return f"{sum(link.dropped for link in self._cluster.links) - before} messages"

    async def _lock_database(self, fault: Fault) -> str:
        async with self._locked_database():
            await asyncio.sleep(fault.hold_seconds)
        return "no writes"

    async def _fill_disk(self, fault: Fault) -> str:
        import resource  # noqa: PLC0415  # not there on every platform; `is_possible` has looked

        def limit_files(process: DrillProcess, limit_bytes: int) -> None:
            # A process that has just died and starts again has a limit of its own.
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit_bytes, hard))

        processes = self._cluster.processes
        for process in processes:
            limit_files(process, 1)
        await asyncio.sleep(fault.hold_seconds)
        for process in processes:
            limit_files(process, resource.RLIM_INFINITY)
        return "for gateways and workers"

    def _some_links(self, fault: Fault) -> list[Link]:
        """All of them, or every second."""
        links = self._cluster.links
        return links if fault.target % 2 else links[fault.target // 2 % 2 :: 2]

    @asynccontextmanager
    async def _locked_database(self) -> AsyncIterator[None]:
        locked = _locked_sqlite if self._database_url.startswith("sqlite") else _locked_postgres
        async with locked(self._database_url):
            yield


@asynccontextmanager
async def _locked_sqlite(url: str) -> AsyncIterator[None]:
    connection = await asyncio.to_thread(
        sqlite3.connect, str(read_url(url)), timeout=10, isolation_level=None, check_same_thread=False
    )
    try:
        await asyncio.to_thread(connection.execute, "BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()  # which ends the transaction


@asynccontextmanager
async def _locked_postgres(url: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE runs, run_tags, steps, events, workers IN EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()
