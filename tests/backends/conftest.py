"""Databases and kinds of Redis for the suites of this folder: each test gets an empty one, with the schema in it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runcast.backends.sql import SqlRunStore, migrate, open_store
from tests.support.postgres import create_database, start_postgres


@pytest.fixture(params=["single", "cluster"])
def any_redis_url(request: pytest.FixtureRequest) -> str:
    """An empty Redis of each kind."""
    url: str = request.getfixturevalue("redis_url" if request.param == "single" else "cluster_url")
    return url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with start_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    asyncio.run(migrate(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    with asyncio.Runner() as runner:
        template = create_database(postgres_server)
        url = runner.run(template.__aenter__())
        runner.run(migrate(url))
        yield url
        runner.run(template.__aexit__(None, None, None))


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A SQLite database with the schema in it."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'runcast.db')}"


@pytest.fixture
async def postgres_url(postgres_server: str, postgres_template: str) -> AsyncIterator[str]:
    """A PostgreSQL database with the schema in it."""
    async with create_database(postgres_server, template=postgres_template) as url:
        yield url


@pytest.fixture
async def empty_postgres_url(postgres_server: str) -> AsyncIterator[str]:
    """A PostgreSQL database with nothing in it."""
    async with create_database(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database with the schema in it, of each kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlRunStore]:
    store = await open_store(database_url)
    yield store
    await store.close()


@pytest.fixture
async def other_store(database_url: str) -> AsyncIterator[SqlRunStore]:
    """A second process's view of the same database."""
    store = await open_store(database_url)
    yield store
    await store.close()
