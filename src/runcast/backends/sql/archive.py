"""Events into the archive: the store's most frequent write, so each database gets the statement that it does fastest.

Many events go in with one statement. The driver of SQLite gives up the interpreter's lock around each, and waits to get
it back: that, not the database, would be the cost of a row. PostgreSQL takes an array. An event that is there stays as
it is.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from sqlalchemy import BigInteger, Connection, LargeBinary, Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from runcast.events import LoggedEvent

_ROWS: Final = (256, 128, 64, 32)
"""Rows of the large statements; what is left goes in with one of its own size. So few stay prepared in the driver."""

_POSTGRES: Final = text(
    "INSERT INTO events (run_id, seq, attempt, body)"
    " SELECT :run, :first_seq + given.place - 1, :attempt, given.body"
    " FROM unnest(:bodies) WITH ORDINALITY AS given (body, place) ON CONFLICT DO NOTHING"
).bindparams(
    bindparam("run", type_=Text),
    bindparam("first_seq", type_=BigInteger),
    bindparam("attempt", type_=BigInteger),
    bindparam("bodies", type_=ARRAY(LargeBinary)),
)


def archive(connection: Connection, run_id: str, events: Sequence[LoggedEvent]) -> None:
    """Insert events, which follow each other by seq."""
    for attempt, stretch in itertools.groupby(events, key=lambda event: event.cursor.attempt):
        together = list(stretch)
        first_seq, bodies = together[0].cursor.seq, [event.raw for event in together]
        if connection.dialect.name == "sqlite":
            for offset, part in _parts(bodies):
                connection.exec_driver_sql(_sqlite_insert(len(part)), (run_id, first_seq + offset, attempt, *part))
        else:
            values = {"run": run_id, "first_seq": first_seq, "attempt": attempt, "bodies": bodies}
            connection.execute(_POSTGRES, values)


def _parts(bodies: Sequence[bytes]) -> Iterator[tuple[int, Sequence[bytes]]]:
    offset = 0
    while left := len(bodies) - offset:
        count = next((size for size in _ROWS if size <= left), left)
        yield offset, bodies[offset : offset + count]
        offset += count


@cache
def _sqlite_insert(count: int) -> str:
    values = ", ".join(f"(?1, ?2 + {place}, ?3, ?{place + 4})" for place in range(count))
    return f"INSERT INTO events (run_id, seq, attempt, body) VALUES {values} ON CONFLICT DO NOTHING"  # noqa: S608 - numbers
