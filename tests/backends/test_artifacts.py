"""What the artifact store promises, in a folder and in a bucket."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runcast.backends.artifacts import ObjectArtifactStore, open_artifacts
from runcast.config import Settings
from runcast.errors import ConfigurationError, TooLargeError, UnavailableError
from tests.support.s3_server import S3Server, start_s3, without_credentials
from tests.support.stack import free_port

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with start_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, named in the environment and nowhere else."""
    for name in without_credentials():
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return (tmp_path / "made by runs").as_uri()
    server: S3Server = request.getfixturevalue("s3")
    return server.url


@pytest.fixture
def store(url: str) -> ObjectArtifactStore:
    return open_artifacts(url)


def pieces_of(size: int) -> Iterator[bytes]:
    for number in range(size // MIB):
        yield bytes([number]) * MIB


async def test_what_was_put_is_read_by_range(store: ObjectArtifactStore) -> None:
    """Whole, in part, and nothing of what is empty."""
    await store.put("run-1/a", b"0123456789")
    await store.put("run-1/empty", b"")
    assert await store.read("run-1/a", 0, 10) == b"0123456789"
    assert await store.read("run-1/a", 3, 5) == b"34"
    assert await store.read("run-1/empty", 0, 0) == b""


async def test_what_comes_in_chunks_is_one(store: ObjectArtifactStore) -> None:
    """More than a part of an upload holds, and not a multiple of it."""
    await store.put("run-2/a", pieces_of(12 * MIB))
    assert await store.read("run-2/a", 0, 12 * MIB) == b"".join(pieces_of(12 * MIB))


async def test_putting_again_replaces(store: ObjectArtifactStore) -> None:
    """A repetition after a time-out does no harm."""
    await store.put("run-3/a", b"first")
    await store.put("run-3/a", b"2nd")
    assert await store.read("run-3/a", 0, 3) == b"2nd"


async def test_what_was_never_put_is_nothing(store: ObjectArtifactStore) -> None:
    """Not an error: the caller knows what it means."""
    assert await store.read("run-4/a", 0, 1) is None
    assert await store.read("run-4/a", 0, 0) is None


async def test_a_put_that_fails_leaves_nothing(store: ObjectArtifactStore, tmp_path: Path) -> None:
    """What the chunks raise comes out, and neither a half of them nor an upload is left."""

    def failing() -> Iterator[bytes]:
        yield from pieces_of(11 * MIB)
        raise TooLargeError("too much")

    with pytest.raises(TooLargeError, match="too much"):
        await store.put("run-5/a", failing())
    assert await store.read("run-5/a", 0, 1) is None
    assert files_in(tmp_path) == []


async def test_a_put_that_is_cancelled_leaves_nothing(store: ObjectArtifactStore, tmp_path: Path) -> None:
    """Nothing more is read, and once the cancellation comes out the writing has ended and been cleaned up."""
    begun, goes_on = threading.Event(), threading.Event()
    read_after: list[int] = []

    def held() -> Iterator[bytes]:
        yield from pieces_of(6 * MIB)
        begun.set()
        goes_on.wait(20)
        for piece in pieces_of(6 * MIB):
            read_after.append(len(piece))
            yield piece

    putting = asyncio.create_task(store.put("run-6/a", held()))
    await asyncio.to_thread(begun.wait, 20)
    putting.cancel()
    await asyncio.sleep(0)  # the cancellation gets there
    await asyncio.sleep(0)
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert len(read_after) <= 1
    assert await store.read("run-6/a", 0, 1) is None
    assert files_in(tmp_path) == []


async def test_cancelled_uploads_are_given_up(s3: S3Server) -> None:
    """A bucket's owner pays for the parts of an upload that nobody ends."""

    def failing() -> Iterator[bytes]:
        yield from pieces_of(11 * MIB)
        raise TooLargeError("too much")

    with pytest.raises(TooLargeError):
        await open_artifacts(s3.url).put("run-7/a", failing())
    assert s3.list_uploads() == []


async def test_a_run_is_let_go_of_with_all_it_has(store: ObjectArtifactStore) -> None:
    """What is another's stays, even if its id begins alike."""
    for place in ("run-8/a", "run-8/b", "run-80/a"):
        await store.put(place, b"x")
    await store.delete_run("run-8")
    await store.delete_run("run-8")
    assert await store.read("run-8/a", 0, 1) is None
    assert await store.read("run-8/b", 0, 1) is None
    assert await store.read("run-80/a", 0, 1) == b"x"


async def test_the_loop_goes_on_while_chunks_are_waited_for(store: ObjectArtifactStore) -> None:
    """A slow disk holds up nobody."""
    goes_on = threading.Event()

    def slow() -> Iterator[bytes]:
        yield b"a"
        goes_on.wait(20)
        yield b"b"

    putting = asyncio.create_task(store.put("run-9/a", slow()))
    await store.put("run-9/b", b"meanwhile")
    assert not putting.done()
    goes_on.set()
    await putting
    assert await store.read("run-9/a", 0, 2) == b"ab"


async def test_keys_are_below_the_prefix(s3: S3Server) -> None:
    """Several installations may share a bucket."""
    await open_artifacts(s3.url).put("run-10/a", b"x")
    assert "of/tests/run-10/a" in s3.list_keys()


@pytest.mark.usefixtures("s3")
async def test_a_bucket_that_is_not_there_is_unavailable() -> None:
    """The sentence names the setting; the service's own words follow."""
    with pytest.raises(UnavailableError, match="RUNCAST_ARTIFACTS_URL"):
        await open_artifacts("s3://no-such-bucket").put("run-1/a", b"x")


async def test_a_server_that_is_away_is_unavailable(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few tries, each way."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    store = open_artifacts(s3.url)
    with pytest.raises(UnavailableError):
        await store.put("run-1/a", b"x")
    with pytest.raises(UnavailableError):
        await store.put("run-1/a", iter([b"x"]))
    with pytest.raises(UnavailableError):
        await store.read("run-1/a", 0, 1)
    with pytest.raises(UnavailableError):
        await store.delete_run("run-1")


async def test_a_folder_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    """At the start, by the setting's name."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="RUNCAST_ARTIFACTS_URL"):
        open_artifacts((tmp_path / "file" / "folder").as_uri())


@pytest.mark.parametrize("url", ["s3://", "/a/path", "ftp://x/y", "file://host/path", "s3://bucket?x=1", "bucket"])
def test_other_places_are_refused(url: str) -> None:
    """Before anything starts."""
    with pytest.raises(ConfigurationError, match="RUNCAST_ARTIFACTS_URL: give s3://bucket/prefix or file:///path"):
        Settings.load(artifacts_url=url)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
