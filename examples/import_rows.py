r"""A long import: a plain function in a thread, with progress while it works and a report of what went wrong.

    runcast up examples/import_rows.py
    printf 'name,age\nAda,36\nBob,?\n' > people.csv
    runcast run --runner import_rows --input '{"file": "people.csv"}' --watch

Rows are imported in parts of 1,000, each a step. If the worker dies in part 17, the next one begins with part 17.
"""

import csv
from pathlib import Path

from runcast import FatalError, Runcast, SyncRunContext

PART = 1_000
DATABASE: dict[str, int] = {}
"""In place of yours."""

app = Runcast()


@app.runner
def import_rows(run: SyncRunContext, file: str) -> dict[str, int]:
    """Imports a CSV file with the columns name and age."""
    rows = read_rows(Path(file))
    wrong: list[str] = []
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        wrong += run.step(f"rows {start + 1} to {start + len(part)}", import_part, part)
        run.progress(start + len(part), len(rows), "rows imported")
    if wrong:
        run.artifact("wrong-rows.txt", data="\n".join(wrong) + "\n")
    return {"imported": len(rows) - len(wrong), "wrong": len(wrong)}


def read_rows(file: Path) -> list[dict[str, str]]:
    """All rows. That the file isn't there is final: no attempt would change it."""
    if not file.is_file():
        raise FatalError(f"{file} is not there")
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def import_part(rows: list[dict[str, str]]) -> list[str]:
    """Import some rows; the ones that can't be, as text. It may happen twice, so it writes what it may write twice."""
    wrong = []
    for row in rows:
        if row["age"].isdigit():
            DATABASE[row["name"]] = int(row["age"])
        else:
            wrong.append(",".join(row.values()))
    return wrong


# ruff: noqa: INP001 - an example is a file of its own, not part of a package
