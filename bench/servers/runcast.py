"""Our gateway: the real `runcast api`, events appended by the product's own script, so its history is in the figures."""

import http.client
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import run
from typing import Any, ClassVar, Final

import runcast
from bench.load import Endpoint
from bench.machine import find_descendants
from bench.processes import find_free_port, start_process
from bench.servers.base import Lab, RunningServer, Server

_APPEND: Final = Path(runcast.__file__).parent / "backends" / "lua" / "append.lua"
_WATCHERS: Final = "20000"
_RETENTION_SECONDS: Final = "3600"
_MAX_EVENTS: Final = "100000"


class RunningRuncast(RunningServer):
    """A started gateway. No worker runs: the runs stay queued with their first event, and the load is their worker."""

    def create_runs(self, count: int) -> list[str]:
        """By `POST /runs`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.endpoint.port, timeout=30)
        body = json.dumps({"prompt": "wait 1 second"})
        run_ids = []
        for _ in range(count):
            connection.request("POST", "/runs", body, {"content-type": "application/json"})
            run_ids.append(json.loads(connection.getresponse().read())["runId"])
        connection.close()
        return run_ids


class Runcast(Server):
    """Watched over `/ws/runs/{id}`."""

    name = "runcast"
    title = "Runcast"
    keeps_history = True
    is_peer = False
    environ: ClassVar[Mapping[str, str]] = {}

    def install(self) -> str:
        """It is here already."""
        return runcast.__version__

    @contextmanager
    def start(self, lab: Lab) -> Iterator[RunningServer]:
        """See `Server.start`."""
        port = find_free_port()
        with tempfile.TemporaryDirectory(prefix="bench-runcast-") as folder:
            environ = {
                "REDIS_URL": lab.redis.url,
                "RUNCAST_DATA_DIR": folder,
                "RUNCAST_PORT": str(port),
                "RUNCAST_WEB_PORT": "0",
                "RUNCAST_LOG_LEVEL": "warning",
                "RUNCAST_MAX_WATCHERS": _WATCHERS,
                **self.environ,
            }
            command = [sys.executable, "-m", "runcast"]
            run([*command, "migrate"], env=environ, check=True)  # noqa: S603 - our own command
            with start_process(
                [*command, "api"], core=lab.cores.server, environ=environ, is_ready=lambda: _is_up(port)
            ) as process:
                yield RunningRuncast(lab, pid=process.pid, endpoint=self._endpoint(lab, port, process.pid))

    def _endpoint(self, lab: Lab, port: int, pid: int) -> Endpoint:
        script: Any = lab.redis.client.script_load(_APPEND.read_text())
        append = ("EVALSHA", script, "1", "{run:%r}:log", "run:%r", "runs", _RETENTION_SECONDS, _MAX_EVENTS)
        return Endpoint(
            port=port,
            publish_port=lab.redis.port,
            publish=(*append, "1", "%s", "0", "%e"),
            path="/ws/runs/%r?after=%a-%c",
            first_seq=2,  # the run's first event is its status `queued`
            server_pids=find_descendants(pid),
            redis_pids=(lab.redis.pid,),
        )


def _is_up(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
