"""A statement that is built once, where its module says what it is, and run many times.

Fast path: SQLAlchemy spends 50 to 100 µs on an execution, though it has the statement compiled already; SQLite itself
needs 5 to 15, and each run takes nine of them (`bench.runs noop`). So on SQLite the compiled text goes straight to the
driver, with the columns' own types on its way in and out. On PostgreSQL SQLAlchemy executes it.

Never: decides anything by the database, but for that. What a statement is called with are values by the names of its
`bindparam`s; a row is a tuple in the order of its columns.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Dialect, Executable, literal_column
from sqlalchemy.dialects import sqlite
from sqlalchemy.types import TypeEngine

from runcast.events import RunStatus

Values = Mapping[str, Any]
_Convert = Callable[[Any], Any]

_SQLITE: Final = sqlite.dialect()


class Statement:
    """Say both, if the databases need it said differently."""

    def __init__(self, statement: Executable, *, on_postgres: Executable | None = None) -> None:
        self._statement: Final = statement
        self._on_postgres: Final = statement if on_postgres is None else on_postgres

    def all(self, connection: Connection, values: Values) -> Sequence[Any]:
        """The rows."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self._on_postgres, values).all()
        return self._on_sqlite.rows_of(_cursor(connection).execute(*self._on_sqlite.call(values)).fetchall())

    def first(self, connection: Connection, values: Values) -> Any:
        """The first row, or None."""
        rows = self.all(connection, values)
        return rows[0] if rows else None

    def run(self, connection: Connection, values: Values) -> int:
        """How many rows were written."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self._on_postgres, values).rowcount
        count: int = _cursor(connection).execute(*self._on_sqlite.call(values)).rowcount
        return count

    def run_each(self, connection: Connection, many: Sequence[Values]) -> None:
        """Once with each."""
        if connection.dialect.name != "sqlite":
            connection.execute(self._on_postgres, many)
        else:
            for values in many:
                _cursor(connection).execute(*self._on_sqlite.call(values))

    @cached_property
    def _on_sqlite(self) -> "_Compiled":
        return _Compiled(self._statement, _SQLITE)


class _Compiled:
    """The text for a driver, and what has to be done to values and rows."""

    def __init__(self, statement: Executable, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        self._text: Final[str] = compiled.string
        binds = [compiled.binds[name] for name in compiled.positiontup]
        self._fixed: Final = {bind.key: bind.value for bind in binds if not bind.required}
        self._binds: Final = [(bind.key, bind.type.dialect_impl(dialect).bind_processor(dialect)) for bind in binds]
        columns = getattr(statement, "selected_columns", ())
        self._converts: Final = [_result_converter(column.type, dialect) for column in columns]

    def call(self, values: Values) -> tuple[str, list[Any]]:
        """What the driver's `execute` takes."""
        given = {**self._fixed, **values}
        return self._text, [given[key] if convert is None else convert(given[key]) for key, convert in self._binds]

    def rows_of(self, raw: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """The driver's rows with their columns as their types have them."""
        return [
            [value if convert is None else convert(value) for value, convert in zip(row, self._converts, strict=True)]
            for row in raw
        ]


def any_of(column: ColumnElement[str], statuses: Collection[RunStatus]) -> ColumnElement[bool]:
    """Whether a status is one of these. They stand in the text: a list of values would make another at each call."""
    return column.in_([literal_column(f"'{status.value}'") for status in sorted(statuses)])


def _result_converter(kind: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def _cursor(connection: Connection) -> Any:
    return connection.connection.driver_connection
