"""A statement that is built once, where its module says what it is, and run many times.

Building one and finding what it is compiled to costs SQLAlchemy three times what executing it does. So lists of
statuses stand in the text: as parameters they would make another one at each call.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Executable, literal_column

from runcast.events import RunStatus

Values = Mapping[str, Any]
"""What a statement is called with, by the names of its `bindparam`s."""


class Statement:
    """Say both, if the databases need it said differently."""

    def __init__(self, statement: Executable, *, on_postgres: Executable | None = None) -> None:
        self._statement: Final = statement
        self._on_postgres: Final = statement if on_postgres is None else on_postgres

    def all(self, connection: Connection, values: Values) -> Sequence[Any]:
        """The rows."""
        return connection.execute(self._for(connection), values).all()

    def first(self, connection: Connection, values: Values) -> Any:
        """The first row, or None."""
        return connection.execute(self._for(connection), values).first()

    def run(self, connection: Connection, values: Values) -> int:
        """How many rows were written."""
        return connection.execute(self._for(connection), values).rowcount

    def run_each(self, connection: Connection, many: Sequence[Values]) -> None:
        """Once with each."""
        connection.execute(self._for(connection), many)

    def _for(self, connection: Connection) -> Executable:
        return self._on_postgres if connection.dialect.name == "postgresql" else self._statement


def any_of(column: ColumnElement[str], statuses: Collection[RunStatus]) -> ColumnElement[bool]:
    """Whether a status is one of these."""
    return column.in_([literal_column(f"'{status.value}'") for status in sorted(statuses)])
