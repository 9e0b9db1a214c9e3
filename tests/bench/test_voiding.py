"""The load against servers that are wrong: no figure counts with an event lost, repeated or out of place."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress

import pytest
from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench.errors import VoidError
from bench.load import Endpoint, connect_load
from bench.machine import Cores

GREETING = '{"type":"run_status","payload":{"status":"connected"},"ts":"","runId":"r"}'
SNAPSHOT = GREETING.replace('"run_status"', '"snapshot"')

Fault = Callable[[list[str]], list[str]]


@asynccontextmanager
async def start_server(fault: Fault) -> AsyncIterator[Endpoint]:
    """Broker and WebSocket server in one: what is published reaches every client, but for the fault."""
    clients: set[ServerConnection] = set()

    async def receive_client(connection: ServerConnection) -> None:
        clients.add(connection)
        await connection.send(GREETING)
        await connection.wait_closed()
        clients.discard(connection)

    async def receive_publisher(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            while chunk := await reader.read(1 << 20):
                events = [line.decode() for line in chunk.split(b"\r\n") if line.startswith(b"{")]
                for text in fault(events):
                    broadcast(clients, text)

    async with serve(receive_client, "127.0.0.1", 0, compression=None) as server:
        broker = await asyncio.start_server(receive_publisher, "127.0.0.1", 0, limit=1 << 20)
        async with broker:
            ports = [one.sockets[0].getsockname()[1] for one in (server, broker)]
            yield Endpoint(port=ports[0], publish_port=ports[1])


def publish(endpoint: Endpoint, events: int) -> int:
    with connect_load(endpoint, ["r"], core=Cores.choose().load, watchers=3) as load:
        deliveries: int = load.close_loop(events, warm_seconds=0, seconds=0)["deliveries"]
        return deliveries


async def test_what_comes_once_and_in_order_counts() -> None:
    """The server of these tests is right when it isn't told to be wrong."""
    async with start_server(lambda events: events) as endpoint:
        assert await asyncio.to_thread(publish, endpoint, 5) == 3 * 5


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda events: events[:2] + events[3:], "expected seq 3, got 4"),
        (lambda events: events[:3] + events[2:], "expected seq 4, got 3"),
        (lambda events: events[:1] + events[2:1:-1] + events[1:2] + events[3:], "expected seq 2, got 3"),
        (lambda events: [*events[:2], SNAPSHOT], "told to jump"),
    ],
    ids=["lost", "repeated", "misplaced", "skipped"],
)
async def test_a_fault_in_the_stream_voids_the_figure(fault: Fault, reason: str) -> None:
    """The first event that isn't the next ends the load with its reason."""
    async with start_server(fault) as endpoint:
        with pytest.raises(VoidError, match=reason):
            await asyncio.to_thread(publish, endpoint, 5)


async def test_a_server_that_refuses_voids_the_figure() -> None:
    """An answer that isn't an upgrade is the reason."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    refusing = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with refusing:
        port = refusing.sockets[0].getsockname()[1]
        with pytest.raises(VoidError, match="503"):
            await asyncio.to_thread(publish, Endpoint(port=port, publish_port=port), 1)
