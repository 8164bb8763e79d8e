"""Which cases belong together, so that a split keeps them together."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pocketseg.data.case import Case
from pocketseg.data.readers import stem_of
from pocketseg.errors import DataError, Problem, near
from pocketseg.files import MAX_TEXT, read_file
from pocketseg.tables import csv_rows, separator

# Tables that conversions, the doctor and `phantom` write, and their column: found where nothing else says the groups.
TABLES = {"groups.csv": "group", "patients.csv": "patient", "slides.csv": "slide"}


@dataclass(frozen=True)
class Grouping:
    """Where a case's group comes from; at most one of the three ways.

    Attributes:
        csv: table with a column of case names (the first) and one of groups, relative to the data folder.
        column: the column of groups.
        regex: searched in the case's name; its first parenthesis, or the whole match, is the group.
        folder: the name of the image file's parent folder is the group.
    """

    csv: str | None = None
    column: str | None = None
    regex: str | None = None
    folder: bool = False

    def __bool__(self) -> bool:
        return bool(self.csv or self.regex or self.folder)

    def assign(self, cases: Sequence[Case], root: Path) -> list[Case]:
        """The cases with their groups; without a rule those that the layout knows, else every case is its own."""
        if self.csv:
            groups = self._from_table(cases, root)
        elif self.regex:
            groups = self._from_names(cases)
        elif self.folder:
            groups = {case.name: case.image.path.parent.name for case in cases}
        else:
            groups = {case.name: case.group or case.name for case in cases}
        return [replace(case, group=groups[case.name]) for case in cases]

    def _from_names(self, cases: Sequence[Case]) -> dict[str, str]:
        try:
            pattern = re.compile(self.regex or "")
        except (re.error, RecursionError, OverflowError) as error:
            what = f"is not a regular expression ({error})"
            raise DataError(f"data.group_regex {self.regex!r}", what, "correct it") from None
        matches = {case.name: pattern.search(case.name) for case in cases}
        groups = {name: match and match[min(pattern.groups, 1)] for name, match in matches.items()}
        problems = [
            Problem(name, f"does not match data.group_regex {self.regex!r}", "correct the expression")
            for name, group in groups.items()
            if group is None
        ]
        if problems:
            raise DataError.of(problems)
        return {name: group for name, group in groups.items() if group is not None}

    def _from_table(self, cases: Sequence[Case], root: Path) -> dict[str, str]:
        path = root / (self.csv or "")
        names, table = _read_table(path, self.column)
        problems = [
            Problem(str(path), f"has no row for the case {case.name!r}", f"add one; first column is {names!r}")
            for case in cases
            if _row_of(case, table) is None
        ]
        if problems:
            raise DataError.of(problems)
        return {case.name: _row_of(case, table) or "" for case in cases}


def table_beside(cases: Sequence[Case], folders: Sequence[Path]) -> tuple[list[Case] | None, Path, str]:
    """The cases with the groups of the first table in the data set's folders, its path, and what is said of it.

    No cases where there is no such table, or it is not about these. What lay in one group before stays in one.
    """
    places = (folder / name for folder in folders for name in TABLES)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None, Path(), ""
    try:
        found = Grouping(csv=path.name, column=TABLES[path.name]).assign(cases, path.parent)
    except DataError as error:
        return None, path, f"is not used: {error.problems[0].what}"
    before: dict[str, list[str]] = {}
    for case in cases:
        before.setdefault(case.group or case.name, []).append(case.name)
    whole = tied(found, [names for names in before.values() if len(names) > 1])
    return whole, path, f"says the groups: {len({case.group for case in whole})} for {len(whole)} cases"


def _row_of(case: Case, table: dict[str, str]) -> str | None:
    path = case.image.path
    return next((table[key] for key in (case.name, path.name, path.stem, stem_of(path)) if key in table), None)


def _read_table(path: Path, column: str | None) -> tuple[str, dict[str, str]]:
    """The name of the first column, and groups by the entry in it."""
    try:
        text = read_file(path, MAX_TEXT).decode("utf-8-sig", "surrogateescape")
        rows = csv_rows(text, separator(text))
    except FileNotFoundError:
        raise DataError(
            str(path), "does not exist", "data.group_csv is relative to the data folder, or absolute"
        ) from None
    except (OSError, csv.Error) as error:
        raise DataError(str(path), f"cannot be read as CSV ({error})", "check data.group_csv") from error
    if len(rows) < 2:
        raise DataError(str(path), "has no rows", "it needs a header, then one row a case")
    header = rows[0]
    if column is None or column not in header:
        what = "data.group_column is not set" if column is None else f"has no column {column!r}"
        raise DataError(str(path), what, near(column or "", header))
    index = header.index(column)
    table: dict[str, str] = {}
    problems = []
    for row in (row for row in rows[1:] if len(row) > index):
        if table.setdefault(row[0], row[index]) != row[index]:
            what = f"puts {row[0]!r} into two groups, {table[row[0]]!r} and {row[index]!r}"
            problems.append(Problem(str(path), what, "keep one row a case"))
    if problems:
        raise DataError.of(problems)
    return header[0], table


def tied(cases: Sequence[Case], ties: Iterable[Sequence[str]]) -> list[Case]:
    """The cases in larger groups: what is tied by name lies in one, with all that lay beside it before.

    A group is called as that of its first case was.
    """
    place = {case.name: number for number, case in enumerate(cases)}
    pairs = [(place[names[0]], place[name]) for names in ties for name in names]
    first: dict[str, int] = {}
    pairs += [(first.setdefault(case.group or case.name, number), number) for number, case in enumerate(cases)]
    group = {
        number: cases[same[0]].group or cases[same[0]].name for same in joined(len(cases), pairs) for number in same
    }
    return [replace(case, group=group[number]) for number, case in enumerate(cases)]


def joined(count: int, pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The places 0 … count - 1 in clusters: what pairs connect lies in one.

    Example:
        >>> joined(5, [(0, 3), (3, 4)])
        [[0, 3, 4], [1], [2]]
    """
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    clusters: dict[int, list[int]] = {}
    for place in range(count):
        clusters.setdefault(root(place), []).append(place)
    return list(clusters.values())
