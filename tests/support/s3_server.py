"""A server that speaks S3's API over HTTP, as the artifact store's counterpart."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from moto.server import ThreadedMotoServer

BUCKET = "made-by-runs"


@dataclass(frozen=True)
class S3Server:
    """A running server: where it is, and what a client is told in its environment."""

    endpoint: str
    url: str = f"s3://{BUCKET}/of/tests"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
        }

    def list_keys(self) -> list[str]:
        return _texts(httpx.get(f"{self.endpoint}/{BUCKET}?list-type=2").text, "Key")

    def list_uploads(self) -> list[str]:
        """Uploads in parts that were neither completed nor given up."""
        return _texts(httpx.get(f"{self.endpoint}/{BUCKET}?uploads").text, "UploadId")


@contextmanager
def start_s3() -> Iterator[S3Server]:
    """Serve an empty bucket on a free port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    running = S3Server(f"http://{host}:{port}")
    try:
        httpx.put(f"{running.endpoint}/{BUCKET}").raise_for_status()
        yield running
    finally:
        server.stop()


def without_credentials() -> list[str]:
    """Names in this process's environment that would tell a client of another server."""
    return [name for name in os.environ if name.startswith("AWS_")]


def _texts(xml: str, tag: str) -> list[str]:
    return [part.partition(f"</{tag}>")[0] for part in xml.split(f"<{tag}>")[1:]]
