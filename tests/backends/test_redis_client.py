"""The ways to Redis: by Sentinel, with TLS; and the subscriber when the link dies without a word."""

import asyncio
import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from runcast import leash
from runcast.backends.embedded import find_server
from runcast.backends.redis_client import close_redis, open_redis, redis_errors
from runcast.backends.redis_log import RedisPubSubService
from runcast.backends.redis_subscriber import RedisSubscriber
from runcast.errors import ConfigurationError, UnavailableError
from tests.backends.test_redis_log import RUN, Collected, event
from tests.support.stack import free_port


@contextmanager
def server(*arguments: str) -> Iterator[None]:
    argv = leash.wrap([str(find_server(os.environ)), *arguments], parent_pid=os.getpid(), python=sys.executable)
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


async def wait_for_answer(url: str) -> None:
    client = open_redis(url)
    deadline = time.monotonic() + 15
    while True:
        try:
            with redis_errors():
                await client.ping()
            break
        except UnavailableError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
    await close_redis(client)


@asynccontextmanager
async def log_at(url: str) -> AsyncIterator[RedisPubSubService]:
    client = open_redis(url)
    service = RedisPubSubService(client, retention_seconds=60, max_events=100)
    await service.start()
    yield service
    await service.close()
    await close_redis(client)


class Proxy:
    """Passes bytes on to the server's socket, until it is told to swallow them; a new connection works again."""

    def __init__(self, path: str) -> None:
        self.port = 0
        self.is_silent = False
        self._path = path

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.is_silent = False
        upstream_reader, upstream_writer = await asyncio.open_unix_connection(self._path)
        await asyncio.gather(self._pipe(reader, upstream_writer), self._pipe(upstream_reader, writer))

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if not self.is_silent:
                    writer.write(data)
                    await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy_to(redis_url: str, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    proxy = Proxy(redis_url.removeprefix("unix://"))
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=tls)
    proxy.port = listener.sockets[0].getsockname()[1]
    yield proxy
    listener.close()


async def test_a_log_works_through_sentinel(tmp_path: Path) -> None:
    """The URL names the sentinels; the log finds the master, appends and listens."""
    master, sentinel = free_port(), free_port()
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text(
        f"port {sentinel}\nbind 127.0.0.1\ndir {tmp_path}\nsentinel monitor main 127.0.0.1 {master} 1\n"
    )
    with (
        server("--port", str(master), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)),
        server(str(configuration), "--sentinel"),
    ):
        url = f"redis+sentinel://127.0.0.1:{sentinel}/main/0"
        await wait_for_answer(url)
        async with log_at(url) as log:
            collected = Collected()
            await log.on_run_event(RUN, collected)
            await log.append(RUN, [event(1, 1)])
            assert await collected.wait_for(1) == [event(1, 1)]


def _make_certificate(key: Path, certificate: Path) -> None:
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_a_log_works_over_tls(redis_url: str, tmp_path: Path) -> None:
    """`rediss://` with the authority's certificate; a server that nobody vouches for is refused."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    _make_certificate(key, certificate)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with proxy_to(redis_url, tls=context) as proxy:
        url = f"rediss://localhost:{proxy.port}"
        async with log_at(f"{url}?ssl_ca_certs={certificate}") as log:
            collected = Collected()
            unsubscribe = await log.on_run_event(RUN, collected)
            await log.append(RUN, [event(1, 1)])
            assert await collected.wait_for(1) == [event(1, 1)]
            await unsubscribe()
        distrustful = open_redis(url)
        with pytest.raises(UnavailableError), redis_errors():
            await distrustful.ping()
        await distrustful.aclose()


@pytest.mark.parametrize("url", ["http://x", "redis+sentinel://x:1", "redis+sentinel://x/main", "nonsense"])
def test_a_url_that_is_none_of_redis_is_refused(url: str) -> None:
    """With a sentence that names the setting."""
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        open_redis(url)


async def test_a_link_that_falls_silent_is_noticed(redis_url: str) -> None:
    """A peer that vanished without closing: the probe finds it, connects anew and tells of the gap."""
    async with proxy_to(redis_url) as proxy:
        client = open_redis(f"redis://127.0.0.1:{proxy.port}")
        subscriber = RedisSubscriber(client, probe_seconds=0.1)
        await subscriber.start()
        gap = asyncio.Event()
        subscriber.on_gap(gap.set)
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        await subscriber.subscribe("run:x", heard.put_nowait)
        proxy.is_silent = True
        async with asyncio.timeout(10):
            await gap.wait()
        direct = open_redis(redis_url)
        await direct.publish("run:x", "after")
        async with asyncio.timeout(10):
            assert await heard.get() == b"after"
        await subscriber.close()
        await client.aclose()
        await direct.aclose()
