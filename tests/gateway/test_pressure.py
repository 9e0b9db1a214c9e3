"""Sockets under pressure: peers that do not read, that vanish, that come in storms; a server that stops meanwhile."""

import asyncio
import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.datastructures import Headers
from websockets.frames import Frame as ParsedFrame
from websockets.http11 import Request

from runcast import Runcast
from runcast.gateway.handshakes import Handshake, ParsedHandshake
from runcast.gateway.socket import WIRE, GatewaySocket
from tests.gateway.conftest import Gates
from tests.gateway.raw_socket import (
    CONT,
    PING,
    PONG,
    TEXT,
    RawSocket,
    encode_close,
    encode_frame,
    encode_request,
    nobody_watches,
    raw_socket,
    seqs,
    texts,
)
from tests.support.stack import Stack, start_stack

every_loop = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])

TOKENS = 20_000
TURNS = 20
POINTS = 8  # at which a peer may vanish


def sockets() -> list[GatewaySocket]:
    """All that there are of this test's."""
    return [found for found in gc.get_objects() if isinstance(found, GatewaySocket) and found not in _OLDER]


_OLDER: set[GatewaySocket] = set()


@pytest.fixture(autouse=True)
def _older_sockets() -> Iterator[None]:
    """Another test's loop may have ended before the last of its connections did."""
    gc.collect()
    _OLDER.update(sockets())
    yield
    _OLDER.clear()


async def fill(connection: RawSocket, http: httpx.AsyncClient, data: bytes) -> int:
    """Send as often as the server takes it, until it hasn't for several of its turns. How often that was."""
    raw = connection.writer.get_extra_info("socket")
    descriptor, sent, offset, idle = socket.fromfd(raw.fileno(), raw.family, raw.type), 0, 0, 0
    with descriptor:
        while idle < TURNS:
            try:
                offset += descriptor.send(data[offset:])
            except BlockingIOError:
                idle += 1
                assert (await http.get("/healthz")).status_code == 200
                continue
            idle = 0
            if offset == len(data):
                sent, offset = sent + 1, 0
        connection.send(data[offset:])
    return sent + 1


@every_loop
async def test_a_peer_that_does_not_read_is_given_everything_in_the_end(stack: Stack) -> None:
    """Another one isn't held up; and the slow one's close frame comes behind its last event."""
    run_id = await stack.create("talk", tokens=TOKENS)
    async with raw_socket(stack, f"/ws/runs/{run_id}", receive_bytes=4_096) as slow:
        async with raw_socket(stack, f"/ws/runs/{run_id}") as quick:
            frames = await quick.read_frames()
        assert (frames[-1].close_code, seqs(frames)) == (1000, list(range(1, TOKENS + 6)))
        late = await slow.read_frames()
        assert (late[-1].close_code, seqs(late)) == (1000, list(range(1, TOKENS + 6)))
        slow.send(encode_close(1000))
        assert await slow.read_end() == b""


@every_loop
async def test_a_peer_that_pings_and_does_not_read_is_not_read_from(stack: Stack, gates: Gates) -> None:
    """What it makes the server keep is bounded; once it reads, each ping is answered."""
    run_id = await stack.create("hold", gate="a")
    ping = b"".join(encode_frame(PING, b"%0125d" % number) for number in range(500))
    async with raw_socket(stack, f"/ws/runs/{run_id}", receive_bytes=4_096) as pinging:
        sent = await fill(pinging, stack.http, ping)
        (served,) = sockets()
        assert served.is_full
        assert served._transport.get_write_buffer_size() < 600_000
        pinging.send(encode_close(1000))
        frames = await pinging.read_frames()
    assert [frame.payload for frame in frames if frame.opcode == PONG] == [b"%0125d" % n for n in range(500)] * sent
    gates["a"].set()


async def test_a_message_of_endless_empty_fragments_costs_no_memory(stack: Stack) -> None:
    """They add nothing to it, so nothing is kept of them."""
    async with raw_socket(stack, "/ws/runs") as connection:
        await connection.read_frame()
        connection.send(encode_frame(TEXT, fin=False) + encode_frame(CONT, fin=False) * 5_000 + encode_frame(PING))
        assert (await connection.read_frame()).opcode == PONG
        assert sum(isinstance(found, ParsedFrame) for found in gc.get_objects()) < 10
        connection.send(encode_frame(CONT, b'{"type":"subscribe","tag":"a"}'))
        assert texts([await connection.read_frame()])[0]["payload"] == {"status": "connected", "tag": "a"}


@every_loop
async def test_an_answer_that_waits_is_not_overtaken_by_frames() -> None:
    """A connection may be taken over while its peer still reads what an earlier request was answered with."""
    waiting = b"a" * 3_000_000
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    transport.write(waiting)
    taken = GatewaySocket(transport, connections=set())
    transport.set_protocol(taken)

    def accept(socket: GatewaySocket, handshake: Handshake) -> None:
        socket.accept(handshake)

    lines = encode_request("/").decode().split("\r\n")[1:-2]
    headers = Headers((name, value) for name, _, value in (line.partition(": ") for line in lines))
    taken.open(ParsedHandshake(Request("/", headers)), accept)
    assert taken.is_full
    await asyncio.sleep(0)
    received = b""
    while taken.is_full:
        received += await loop.sock_recv(theirs, 1_000_000)
    while not received.endswith(b"\r\n\r\n"):
        received += await loop.sock_recv(theirs, 1_000_000)
    assert received.startswith(waiting + b"HTTP/1.1 101 ")
    WIRE.write_all(WIRE.gather([taken]), b"frame")
    assert await loop.sock_recv(theirs, 100) == b"frame"
    theirs.close()
    transport.abort()


@every_loop
async def test_storms_of_peers_that_vanish_leave_nothing_behind(
    app: Runcast, gates: Gates, redis_url: str, tmp_path: Path
) -> None:
    """At whatever point they vanish: no watcher, no place, no subscription, no task."""
    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path, max_watchers=30) as stack:
        run_id = await stack.create("hold", gate="a")
        async with raw_socket(stack, f"/ws/runs/{run_id}") as first:
            while seqs([await first.read_frame()]) != [3]:
                pass
        await nobody_watches(stack)
        before = task_names()
        for _ in range(8):
            await asyncio.gather(*(vanish(stack, run_id, point) for point in range(POINTS) for _ in range(3)))
            await nobody_watches(stack)
        assert task_names() == before
        gc.collect()
        assert sockets() == []
        connections = [await RawSocket.connect(stack) for _ in range(30)]
        assert [(await one.upgrade(f"/ws/runs/{run_id}")).status for one in connections] == [101] * 30
        assert [(await one.read_frame()).opcode for one in connections] == [TEXT] * 30
        for one in connections:
            one.abort()
        gates["a"].set()


@every_loop
async def test_a_connection_leaves_no_cycle_behind(stack: Stack, gates: Gates) -> None:
    """What it took is free at once: with ten thousand of them the garbage collector is expensive."""
    run_id = await stack.create("hold", gate="a")
    gc.collect()
    gc.disable()
    try:
        for goodbye in (b"", encode_close(1000)):
            async with raw_socket(stack, f"/ws/runs/{run_id}") as connection:
                await connection.read_frame()
                connection.send(goodbye)
            await nobody_watches(stack)
        assert sockets() == []
    finally:
        gc.enable()
    gates["a"].set()


def task_names() -> set[str]:
    return {name for task in asyncio.all_tasks() if not (name := task.get_name()).startswith("Task-")}


async def vanish(stack: Stack, run_id: str, point: int) -> None:
    """Connect, and be gone at one of eight points."""
    connection = await RawSocket.connect(stack)
    path = f"/ws/runs/{run_id}" + ("?snapshot=1" if point % 2 else "")
    request = encode_request("/ws/runs" if point == 7 else path)
    connection.send(request[: len(request) * point // 3])
    if point == 2:
        await asyncio.sleep(0)
    if point >= 3:
        await connection.read_answer()
    if point >= 4:
        await connection.read_frame()
    if point >= 5:
        connection.send(encode_frame(PING) + (encode_close(1000) if point == 5 else b""))
        await connection.read_control()
    connection.abort()


@every_loop
async def test_a_stopping_server_ends_connections_at_every_stage(stack: Stack, gates: Gates) -> None:
    """Those who listen are told to come back; nobody keeps it from stopping, and nothing is left of anybody."""
    run_id = await stack.create("hold", gate="a")
    half = encode_request("/ws/runs")[:40]
    silent, begun = await RawSocket.connect(stack), await RawSocket.connect(stack)
    begun.send(half)
    async with (
        raw_socket(stack, f"/ws/runs/{run_id}") as watching,
        raw_socket(stack, "/ws/runs") as listing,
        raw_socket(stack, f"/ws/runs/{run_id}", receive_bytes=4_096) as full,
    ):
        await watching.read_frame()
        await listing.read_frame()
        await fill(full, stack.http, encode_frame(PING, bytes(125)) * 500)
        stopping = asyncio.create_task(stack.stop_api())
        assert (await watching.read_control()).close_code == 1012
        assert (await listing.read_control()).close_code == 1012
        watching.send(encode_close(1012))
        assert await watching.read_end() == b""
        await stopping
    assert await silent.read_end() == await begun.read_end() == b""
    silent.abort()
    begun.abort()
    await asyncio.sleep(0)
    assert sockets() == []
    gates["a"].set()


async def test_a_peer_that_says_too_much_before_it_is_let_in_is_cut_off(stack: Stack) -> None:
    """What comes before the answer is kept, but not without a limit."""
    async with raw_socket(stack) as connection:
        connection.send(encode_request("/ws/runs") + encode_frame(PING, bytes(125)) * 40)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await connection.read_answer()
