"""Opening a database: its URL, its migrations, and what is said when it can't be had."""

import asyncio
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from runcast.backends import sql
from runcast.backends.sql import migrate, open_store
from runcast.backends.sql.address import read_url
from runcast.backends.sql.schema import REVISION, metadata
from runcast.backends.sql.sqlite import open_engine
from runcast.errors import ConfigurationError, UnavailableError
from runcast.records import RunFilter
from tests.support.postgres import create_database, end_sessions

MIGRATE_ON_COMMAND = """
import asyncio, sys
from alembic import command
from runcast.backends.sql import migrate

print("ready", flush=True)
sys.stdin.readline()
asyncio.run(migrate(sys.argv[1]))
"""


def differences(connection: Connection) -> object:
    return compare_metadata(MigrationContext.configure(connection), metadata)


async def set_revision(url: str, revision: str) -> None:
    address = read_url(url)
    statement = text("UPDATE alembic_version SET version_num = :revision")
    if isinstance(address, Path):
        engine = open_engine(address, busy_seconds=5, connections=1)
        with engine.begin() as connection:
            connection.execute(statement, {"revision": revision})
        engine.dispose()
        return
    async_engine = create_async_engine(address)
    async with async_engine.begin() as async_connection:
        await async_connection.execute(statement, {"revision": revision})
    await async_engine.dispose()


OLD_RUNS = """INSERT INTO runs (id, runner, status, attempt, last_attempt, last_seq, input, created_at, tags, worker_id,
 changed_at, search_text) VALUES ('lost', 'p', 'running', 3, 3, 9, '{}', '2026-01-01 00:00:00', '[]', 'w1',
 '2026-01-01 00:00:00', ''), ('waiting', 'p', 'retrying', 2, 2, 9, '{}', '2026-01-01 00:00:00', '[]', 'w1',
 '2026-01-01 00:00:00', '')"""
OLD_STEP = """INSERT INTO steps (run_id, id, name, "index", status, attempt)
 VALUES ('lost', 's', 'n', 1, 'succeeded', 1)"""


def fill_the_first(connection: Connection) -> None:
    """Begin anew with the tables of the first revision, and rows as the first version wrote them."""
    tables = ("requests", "memos", "events", "steps", "run_tags", "runs", "workers", "alembic_version")
    for table in tables:
        connection.execute(text(f"DROP TABLE {table}"))
    config = Config()
    config.set_main_option("script_location", str(Path(sql.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")
    connection.execute(text(OLD_RUNS))
    connection.execute(text(OLD_STEP))


async def back_to_the_first(address: Path | URL) -> None:
    if isinstance(address, Path):
        engine = open_engine(address, busy_seconds=5, connections=1)
        with engine.begin() as connection:
            fill_the_first(connection)
        engine.dispose()
        return
    async_engine = create_async_engine(address)
    async with async_engine.begin() as async_connection:
        await async_connection.run_sync(fill_the_first)
    await async_engine.dispose()


class TestMigrations:
    def test_the_schema_knows_the_newest_revision(self) -> None:
        """What the code says it works with is what the migrations lead to, and they are one line."""
        config = Config()
        config.set_main_option("script_location", str(Path(sql.__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        assert ScriptDirectory.from_config(config).get_heads() == [REVISION]

    async def test_on_sqlite_they_build_the_tables_of_the_schema(self, sqlite_url: str) -> None:
        """A migrated SQLite database has what schema.py says, no more and no less."""
        engine = open_engine(Path(sqlite_url.removeprefix("sqlite:///")), busy_seconds=5, connections=1)
        with engine.connect() as connection:
            assert differences(connection) == []
        engine.dispose()

    async def test_on_postgresql_they_build_the_tables_of_the_schema(self, postgres_url: str) -> None:
        """A migrated PostgreSQL database has what schema.py says, no more and no less."""
        address = read_url(postgres_url)
        assert isinstance(address, URL)
        engine = create_async_engine(address)
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
        await engine.dispose()

    async def test_several_may_migrate_a_new_file_at_once(self, tmp_path: Path) -> None:
        """Three processes migrate a SQLite database that isn't there, in a folder that isn't either: all succeed."""
        await self._migrate_together(f"sqlite:///{tmp_path}/new folder/100%.db")

    async def test_several_may_migrate_a_server_at_once(self, empty_postgres_url: str) -> None:
        """Three processes migrate an empty PostgreSQL database: all succeed."""
        await self._migrate_together(empty_postgres_url)

    async def test_migrating_again_changes_nothing(self, database_url: str) -> None:
        """A database that is up to date stays as it is."""
        await migrate(database_url)
        await (await open_store(database_url)).close()

    async def test_a_newer_database_is_left_alone(self, database_url: str) -> None:
        """What a newer version has migrated is neither opened nor migrated, and the message says what to do."""
        await set_revision(database_url, "9999")
        with pytest.raises(ConfigurationError, match=r"9999.*install the newer Runcast.*runcast migrate"):
            await open_store(database_url)
        with pytest.raises(ConfigurationError, match="9999"):
            await migrate(database_url)

    async def test_what_was_there_before_goes_on(self, database_url: str) -> None:
        """A database of the first revision, with runs in it, is brought up to date: they are as they were, and the
        losses that their attempts came from are counted.
        """
        address = read_url(database_url)
        await back_to_the_first(address)
        await migrate(database_url)
        store = await open_store(database_url)
        lost, waiting = await store.get_run("lost"), await store.get_run("waiting")
        assert lost is not None
        assert waiting is not None
        assert (lost.attempt, lost.losses, lost.failures, lost.priority, lost.limit) == (3, 2, 0, 0, None)
        assert (waiting.status, waiting.worker_id, waiting.due_at) == ("retrying", None, None)
        assert [(step.name, step.parent_id, step.undo) for step in await store.list_steps("lost")] == [
            ("n", None, None)
        ]
        claim = await store.claim_run("waiting", "w2", now=datetime.now(UTC))
        assert claim is not None
        assert claim.run.attempt == 2
        await store.close()

    async def test_an_older_database_asks_for_its_migration(self, database_url: str) -> None:
        """A database that an older version has left is not opened, and the message says what to do."""
        await set_revision(database_url, "0000")
        with pytest.raises(ConfigurationError, match="run `runcast migrate`"):
            await open_store(database_url)

    async def test_an_empty_database_asks_for_its_migration(self, tmp_path: Path, empty_postgres_url: str) -> None:
        """An empty database, or none, is not opened; looking for a file doesn't make it."""
        path = tmp_path / "empty.db"
        with pytest.raises(ConfigurationError, match="runcast migrate"):
            await open_store(f"sqlite:///{path}")
        assert not path.exists()
        path.touch()
        for url in (f"sqlite:///{path}", empty_postgres_url):
            with pytest.raises(ConfigurationError, match="runcast migrate"):
                await open_store(url)

    async def _migrate_together(self, url: str) -> None:
        """Three processes that have loaded everything and wait for one word to begin."""
        pipe = asyncio.subprocess.PIPE
        processes = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", MIGRATE_ON_COMMAND, url, stdin=pipe, stdout=pipe)
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        await asyncio.gather(*(process.communicate(b"go\n") for process in processes))

        assert [process.returncode for process in processes] == [0, 0, 0]
        store = await open_store(url)
        await store.ping()
        await store.close()


class TestAddresses:
    @pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
    def test_every_name_of_postgresql_is_known(self, scheme: str) -> None:
        """The schemes that providers hand out lead to one driver, and libpq's word for TLS is understood."""
        address = read_url(f"{scheme}://me:secret@db.example:5433/runs?sslmode=require")
        assert isinstance(address, URL)
        assert address.render_as_string(hide_password=False) == (
            "postgresql+asyncpg://me:secret@db.example:5433/runs?ssl=require"
        )

    def test_a_path_is_relative_or_absolute(self) -> None:
        """Three slashes and a path, or four and an absolute one."""
        assert read_url("sqlite:///runs.db") == Path("runs.db")
        assert read_url("sqlite:////data/runs.db") == Path("/data/runs.db")

    @pytest.mark.parametrize(
        "url",
        [
            "mysql://me:hunter2@host/db",
            "hunter2",
            "",
            "sqlite://",
            "sqlite:///:memory:",
            "sqlite://me:hunter2@host/db",
            "sqlite:///runs.db?key=hunter2",
            "postgresql://me:hunter2@host:port/db",
            "postgresql://me:hunter2@host/db?unknown=hunter2",
        ],
    )
    async def test_anything_else_is_refused_without_its_secrets(self, url: str) -> None:
        """What isn't one of our databases is a wrong setting, and the message doesn't repeat it."""
        for use in (open_store, migrate):
            with pytest.raises(ConfigurationError) as raised:
                await use(url)
            assert "hunter2" not in str(raised.value)


class TestFailures:
    async def test_a_server_that_isnt_there_is_unavailable(self) -> None:
        """Nobody listens: the message says so, and not with which password we came."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"postgresql://me:hunter2@127.0.0.1:{unused.getsockname()[1]}/runs"
            for use in (open_store, migrate):
                with pytest.raises(UnavailableError, match="can't be reached") as raised:
                    await use(url)
                assert "hunter2" not in str(raised.value)

    async def test_a_database_that_isnt_there_is_a_wrong_setting(self, postgres_url: str) -> None:
        """A server without the database that the URL names can't be helped by waiting."""
        with pytest.raises(ConfigurationError, match="does not exist"):
            await open_store(postgres_url.replace("/runcast_test", "/no_such"))

    async def test_a_file_that_is_no_database_is_a_wrong_setting(self, tmp_path: Path) -> None:
        """Some other file is neither opened nor overwritten."""
        path = tmp_path / "letter.db"
        path.write_text("Dear Ada, this is a letter and not a database at all." * 50)
        before = path.read_bytes()
        for use in (open_store, migrate):
            with pytest.raises(ConfigurationError, match="not a database"):
                await use(f"sqlite:///{path}")
        assert path.read_bytes() == before

    async def test_reads_outlive_a_restart_of_the_server(self, postgres_server: str, postgres_url: str) -> None:
        """A connection that the server dropped while nobody used it is replaced without anybody noticing."""
        store = await open_store(postgres_url)
        await end_sessions(postgres_server, postgres_url)
        assert (await store.list_runs(RunFilter(), limit=1)).runs == []
        await store.close()

    async def test_a_dropped_connection_fails_a_write_as_unavailable(
        self, postgres_server: str, postgres_url: str
    ) -> None:
        """Whether a write took place isn't known then, so it is the caller's to repeat; the next one works."""
        store = await open_store(postgres_url)
        await end_sessions(postgres_server, postgres_url)
        with pytest.raises(UnavailableError):
            await store.end_lease("w1")
        await store.end_lease("w1")
        await store.close()

    async def test_a_full_pool_is_unavailable(self, postgres_server: str) -> None:
        """Who waits too long for a connection is told that the database is overloaded."""
        async with create_database(postgres_server) as url:
            await migrate(url)
            store = await open_store(url, max_connections=1, timeout_seconds=0.2)
            blocked = asyncio.create_task(store._executor.write(lambda c: c.execute(text("SELECT pg_sleep(10)"))))
            results = await asyncio.gather(blocked, store.ping(), return_exceptions=True)
            assert {type(result) for result in results} == {UnavailableError}
            await store.close()
