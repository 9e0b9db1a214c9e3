"""Nchan: nginx with a Pub/Sub module that keeps each channel's messages in memory; it is published to over HTTP."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.errors import UnavailableError
from bench.load import Endpoint
from bench.peers_folder import PEERS, SOURCES, install_debian_packages
from bench.processes import find_free_port, start_process
from bench.servers.base import Lab, RunningServer, Server, ready_when_answering

_POST = r"POST /publish/%r HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %l\r\n\r\n%e"
_STATE = Path("/var/lib/nginx")
_ROOT = PEERS / "nchan" / "root"


class Nchan(Server):
    """One worker, its storage in memory."""

    name = "nchan"
    title = "Nchan, memory buffer"
    keeps_history = True

    def install(self) -> str:
        """From Debian, unpacked and not installed."""
        versions = install_debian_packages("nchan", ("nginx", "libnginx-mod-nchan"))
        try:
            # As the package does. Nchan makes a folder below it, whatever the configuration says.
            _STATE.mkdir(exist_ok=True)
        except OSError as error:
            raise UnavailableError(f"it needs the folder {_STATE}: install nginx, or be root") from error
        return versions

    @contextmanager
    def start(self, lab: Lab) -> Iterator[RunningServer]:
        """See `Server.start`."""
        port = find_free_port()
        with tempfile.TemporaryDirectory(prefix="bench-nchan-") as folder:
            configuration = Path(folder) / "nginx.conf"
            configuration.write_text(_fill_in(folder=folder, port=port))
            argv = [_ROOT / "usr" / "sbin" / "nginx", "-c", configuration, "-p", folder, "-e", f"{folder}/error.log"]
            with start_process(argv, core=lab.cores.server, is_ready=ready_when_answering(port)) as process:
                yield RunningServer(lab, pid=process.pid, endpoint=self.endpoint(lab, port))

    def endpoint(self, lab: Lab, port: int) -> Endpoint:  # noqa: ARG002 - it needs no Redis
        """See `Server.endpoint`."""
        return Endpoint(port=port, publish_port=port, publish_raw=_POST, greeting=None)

    def recovering(self, endpoint: Endpoint) -> Endpoint:
        """See `Server.recovering`: ids are in messages only for those who ask for the subprotocol that has them."""
        path = f"{endpoint.path}?last_event_id=%o"
        return replace(endpoint, path=path, protocol="ws+meta.nchan", wire="nchan")


def _fill_in(*, folder: str, port: int) -> str:
    text = (SOURCES / "nchan" / "nginx.conf").read_text()
    module = _ROOT / "usr" / "lib" / "nginx" / "modules" / "ngx_nchan_module.so"
    for name, value in {"MODULE": str(module), "FOLDER": folder, "PORT": str(port)}.items():
        text = text.replace(f"%{name}%", value)
    return text
