"""Our gateway: the real `runcast api`; events are appended by its own script, so history is in the figures."""

import asyncio
import http.client
import json
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from subprocess import run
from typing import Any, ClassVar, Final, Self

import runcast
from bench.appends import FIRST_SEQ, append_first_events, publish_words
from bench.load import Endpoint
from bench.machine import find_descendants
from bench.processes import find_free_port, start_process
from bench.servers.base import Lab, RunningServer, Server
from bench.stand_in import create_held_runs
from runcast.backends.sql.address import read_url
from runcast.config import DATABASE_FILE

_WATCHERS: Final = "20000"
_POLL_SECONDS: Final = 2.0
_BATCH: Final = 1_000


class RunningRuncast(RunningServer):
    """A started gateway. The load stands in for the worker that holds all its runs."""

    def __init__(self, lab: Lab, *, pids: Sequence[int], endpoint: Endpoint, database_url: str) -> None:
        self._gateways: Final = pids
        super().__init__(lab, pid=pids[0], endpoint=endpoint)
        self._database_url: Final = database_url

    @property
    def pids(self) -> list[int]:
        """See `RunningServer.pids`."""
        return [pid for gateway in self._gateways for pid in find_descendants(gateway)]

    def create_runs(self, count: int) -> list[str]:
        """As API and worker do, but without queue and worker: those are measured on their own."""
        first_events = asyncio.run(create_held_runs(self._database_url, count))
        append_first_events(self.lab.redis.client, first_events)
        return list(first_events)

    def add_known_runs(self, count: int) -> None:
        """Copies of a run, as ended, in the database; each with a log in Redis."""
        model = self.create_runs(1)[0]
        with closing(sqlite3.connect(str(read_url(self._database_url)))) as database, database:
            names = [row[1] for row in database.execute("PRAGMA table_info(runs)")]
            values = [{"id": f"'{model}-' || n", "status": "'done'"}.get(name, f'"{name}"') for name in names]
            database.execute(
                f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "  # noqa: S608
                f"INSERT INTO runs SELECT {', '.join(values)} FROM numbers, runs WHERE id = ?",
                (model,),
            )
        for first in range(1, count + 1, _BATCH):
            pipe = self.lab.redis.client.pipeline(transaction=False)
            for number in range(first, min(first + _BATCH, count + 1)):
                pipe.xadd(f"{{run:{model}-{number}}}:log", {"e": "{}"}, id="0-1")
            pipe.execute()


class Runcast(Server):
    """Watched over `/ws/runs/{id}`."""

    name = "runcast"
    title = "**Runcast**"
    keeps_history = True
    is_peer = False
    has_runs = True
    environ: ClassVar[Mapping[str, str]] = {}
    running: ClassVar[type[RunningRuncast]] = RunningRuncast
    gateways: ClassVar[int] = 1
    """Processes that share the port."""

    def __init__(self, *, database_url: str | None = None) -> None:
        self._database_url: Final = database_url

    def install(self) -> str:
        """It is here already."""
        return f"runcast {runcast.__version__}"

    def on_database(self, url: str) -> Self:
        """See `Server.on_database`."""
        return type(self)(database_url=url)

    @contextmanager
    def start(self, lab: Lab) -> Iterator[RunningServer]:
        """See `Server.start`."""
        port = find_free_port()
        with tempfile.TemporaryDirectory(prefix="bench-runcast-") as folder:
            database_url = self._database_url or f"sqlite:///{folder}/{DATABASE_FILE}"
            environ = {
                "REDIS_URL": lab.redis.url,
                "RUNCAST_DATA_DIR": folder,
                "RUNCAST_PORT": str(port),
                "RUNCAST_WEB_PORT": "0",
                "RUNCAST_GATEWAYS": str(self.gateways),
                "RUNCAST_LOG_LEVEL": "warning",
                "RUNCAST_MAX_WATCHERS": _WATCHERS,
                "DATABASE_URL": database_url,
                **self.environ,
            }
            command = [sys.executable, "-m", "runcast"]
            run([*command, "migrate"], env=environ, check=True)
            with ExitStack() as stack:
                pids: list[int] = []
                for core in (lab.cores.server, lab.cores.second)[: self.gateways]:
                    process = stack.enter_context(
                        start_process(
                            [*command, "api"],
                            core=core,
                            environ=environ,
                            is_ready=lambda: _count_gateways(port) > len(pids),
                        )
                    )
                    pids.append(process.pid)
                endpoint = self.endpoint(lab, port)
                yield self.running(lab, pids=pids, endpoint=endpoint, database_url=database_url)

    def endpoint(self, lab: Lab, port: int) -> Endpoint:
        """See `Server.endpoint`."""
        return Endpoint(
            port=port,
            publish_port=lab.redis.port,
            publish=publish_words(lab.redis.client),
            path="/ws/runs/%r?after=%a-%c",
            first_seq=FIRST_SEQ,
        )


class TwoGateways(Runcast):
    """As `runcast up --gateways 2` starts it."""

    name = "runcast-2"
    title = "**Runcast**, `--gateways 2`"
    gateways = 2
    only = frozenset({"gateways"})


class PollingRuncast(Runcast):
    """The way back: a gateway that reads the database instead of listening to Redis."""

    name = "polling"
    title = "Runcast, `RUNCAST_TRANSPORT=polling`"
    environ: ClassVar[Mapping[str, str]] = {"RUNCAST_TRANSPORT": "polling"}
    only = frozenset({"queries"})


class RunningPages(RunningRuncast):
    """Watched as before there was pushing: each page asks for its run every two seconds."""

    @contextmanager
    def follow(self, run_ids: Sequence[str]) -> Iterator[None]:
        """One thread asks for all of them; the pages would come as evenly spread."""
        is_over = threading.Event()
        asking = threading.Thread(target=self._ask_in_turn, args=(run_ids, is_over))
        asking.start()
        try:
            yield
        finally:
            is_over.set()
            asking.join()

    def _ask_in_turn(self, run_ids: Sequence[str], is_over: threading.Event) -> None:
        with closing(connect(self.endpoint.port)) as connection:
            due = time.monotonic()
            while not is_over.is_set():
                for run_id in run_ids:
                    due += _POLL_SECONDS / len(run_ids)
                    ask(connection, f"/runs/{run_id}")
                    if is_over.wait(max(0, due - time.monotonic())):
                        return


class PolledRuncast(Runcast):
    """What the polling page of the original costs, on today's API."""

    name = "pages"
    title = "Pages that poll `GET /runs/{id}` every 2 s"
    running = RunningPages
    only = frozenset({"queries"})


def connect(port: int) -> http.client.HTTPConnection:
    """A connection to the API, not yet made."""
    return http.client.HTTPConnection("127.0.0.1", port, timeout=30)


def ask(connection: http.client.HTTPConnection, path: str) -> Any:
    """The answer's JSON."""
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def _count_gateways(port: int) -> int:
    """How many there are that are ready, by their own word."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=1)) as connection:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            answer.read()
            return len(ask(connection, "/runs/stats")["gateways"]) if answer.status == http.HTTPStatus.OK else 0
    except OSError:
        return 0
