"""Tables of runs: a row each, with a name; columns that only some runs have stand where they first come."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketseg.errors import RunError
from pocketseg.files import locked, write_atomically
from pocketseg.tables import csv_rows, csv_text


def add_result(path: Path, row: Mapping[str, Any]) -> None:
    """Add a run's row to the table beside the runs; a row of the same name is replaced, new columns are added.

    Runs that end at the same moment wait for one another.

    Raises:
        RunError: there is a file of that name which is not a table of runs.
        EnvironmentProblem: it cannot be written.
    """
    with locked(path.with_name(f".{path.name}.lock")):
        rows = [old for old in read_rows(path) if old["name"] != row["name"]]
        write_table(path, [*rows, row])


def read_rows(path: Path) -> list[dict[str, str]]:
    """Cells of the table beside the runs by column; none where there is no such file.

    Raises:
        RunError: it is not a table of runs, which have a name.
    """
    if not path.exists():
        return []
    columns, rows = read_table(path)
    if "name" not in columns:
        raise RunError(str(path), "is not a table of runs", "rename it, and a new one is begun")
    return [dict(zip(columns, row, strict=True)) for row in rows]


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV; a column that only some of them have stands where it first comes, after its left neighbor."""
    columns: list[str] = []
    for row in rows:
        at = 0
        for key in row:
            if key not in columns:
                columns.insert(at, key)
            at = columns.index(key) + 1
    write_atomically(path, csv_text([columns, *([row.get(column, "") for column in columns] for row in rows)]))


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of what `write_table` wrote.

    Raises:
        RunError: it cannot be read, its rows are not of one length, or two columns have one name.
    """
    try:
        # A spreadsheet may have saved it in another encoding: what it wrote keeps its bytes.
        columns, *rows = csv_rows(path.read_bytes().decode("utf-8-sig", "surrogateescape")) or [[]]
    except (OSError, csv.Error) as error:
        raise RunError(str(path), f"cannot be read ({error})", "rename it, and a new one is begun") from error
    if any(len(row) != len(columns) for row in rows) or len(set(columns)) < len(columns):
        raise RunError(str(path), "is not a table of runs", "rename it, and a new one is begun")
    return columns, rows
