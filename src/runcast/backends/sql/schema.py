"""The tables, and how values stand in them. Both databases have the same ones; `migrations/` builds them.

runs 1──n steps, events, run_tags; workers stand alone: a run names its worker, a worker's row says until when it lives.
Never: a column that only one of the databases has, or SQL types that the two compare differently.
"""

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    text,
)

from runcast.errors import InvalidInputError

REVISION: Final = "0002"
"""The newest migration: what this code reads and writes. Revisions are numbers, so that older and newer can be told."""


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC. SQLite has no time zones: there the text is UTC by this agreement."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone can't be stored")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class JsonText(TypeDecorator[Any]):
    """A JSON value as text; JSON's null is SQL's. Text and not a JSON type, because PostgreSQL's refuse NUL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        try:
            return _encoder.encode(value).decode()
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"a value isn't JSON: {error}") from None

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - as above
        return None if value is None else msgspec.json.decode(value)


class PlainText(TypeDecorator[str]):
    """Text that somebody typed. PostgreSQL's text holds neither NUL nor half a surrogate pair: U+FFFD stands for them.

    Nothing is lost by that: a run's input and its events are JSON, and have the characters as they came.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - as above
        if value is None or (value.isprintable() and value.isascii()):
            return value
        whole = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.replace("\0", "\ufffd")


_encoder: Final = msgspec.json.Encoder(decimal_format="string")

metadata: Final = MetaData()

runs: Final = Table(
    "runs",
    metadata,
    Column("id", PlainText, primary_key=True),
    Column("runner", PlainText, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("last_attempt", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("input", JsonText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("prompt", PlainText),
    Column("tags", JsonText, nullable=False),  # for reading a run in one row; run_tags is for finding it
    Column("output", JsonText),
    Column("error", JsonText),
    Column("worker_id", PlainText),
    Column("cancel_requested_at", UtcTime),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("idempotency_key", PlainText),
    Column("changed_at", UtcTime, nullable=False),  # when the status was set: since when a waiting run waits
    Column("search_text", PlainText, nullable=False),  # folded here: the databases fold letters differently
    Column("due_at", UtcTime),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("parent_id", PlainText),
    Column("losses", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("concurrency_key", PlainText),
    Column("concurrency_limit", Integer),
    Index("ix_runs_newest", "created_at", "id"),
    Index("ix_runs_status", "status", "created_at", "id"),
    Index("ix_runs_worker", "worker_id", "status"),
    Index("ux_runs_idempotency_key", "idempotency_key", unique=True),
    # Only of the runs that have one: the others, most of them, pay nothing for it.
    *(
        Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))
        for name, columns, condition in (
            ("ix_runs_due", ("due_at",), "due_at IS NOT NULL"),
            ("ix_runs_parent", ("parent_id", "created_at"), "parent_id IS NOT NULL"),
            ("ix_runs_limit", ("concurrency_key", "status"), "concurrency_key IS NOT NULL"),
        )
    ),
)

run_tags: Final = Table(
    "run_tags",
    metadata,
    Column("tag", PlainText, primary_key=True),
    Column("run_id", PlainText, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_run_tags_run", "run_id"),
    sqlite_with_rowid=False,
)

steps: Final = Table(
    "steps",
    metadata,
    Column("run_id", PlainText, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("id", PlainText, primary_key=True),
    Column("name", PlainText, nullable=False),
    Column("index", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("input", JsonText),
    Column("output", JsonText),
    Column("error", JsonText),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("parent_id", PlainText),
    Column("undo", JsonText),
)

memos: Final = Table(
    "memos",
    metadata,
    Column("run_id", PlainText, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", PlainText, primary_key=True),
    Column("value", JsonText, nullable=False),
)

requests: Final = Table(
    "requests",
    metadata,
    Column("run_id", PlainText, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("id", PlainText, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("prompt", PlainText, nullable=False),
    Column("schema", JsonText, nullable=False),
    Column("preview", JsonText),
    Column("asked_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("answer", JsonText),  # null is an answer, too: answered_at says whether there is one
    Column("answered_at", UtcTime),
    Column("answered_by", PlainText),
    Column("resolution", Text),  # `answered` or `expired`, once it has been told
)

events: Final = Table(
    "events",
    metadata,
    Column("run_id", PlainText, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("attempt", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the very bytes that watchers get
    # A run's events lie side by side, and an insert touches one tree instead of two.
    sqlite_with_rowid=False,
)

workers: Final = Table(
    "workers",
    metadata,
    Column("id", PlainText, primary_key=True),
    Column("lease_until", UtcTime, nullable=False),
)
