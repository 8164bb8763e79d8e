"""Which tests hold which rows of the reliability matrix, and the page that says so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

HOME = Path(__file__).parents[2]
PAGE = HOME / "docs/reliability.md"
COMMAND = "scripts/reliability-table"
HELD = pytest.StashKey[dict[str, list[str]] | None]()

HEAD = """\
# Reliability

Written by `scripts/reliability-table` from the marks on tests and from `tests/reliability.yaml`; do not edit.

Every row is a case that the project is measured by: bad and odd input, faults of machine and user, hostile files,
numbers. A row is held by the tests named in it, which pass before a change lands; paths are those below `tests`.
{kept} of {all} rows are held by tests; {reasons} have a reason instead.
"""


def untested() -> dict[str, str]:
    """Row: why it has no test."""
    return {row: reason for reason, rows in _file()["untested"].items() for row in rows}


def groups() -> dict[str, dict[str, str]]:
    """Title of a group: row: subject."""
    return {title: rows for title, rows in _file().items() if title != "untested"}


def subjects() -> dict[str, str]:
    return {row: subject for rows in groups().values() for row, subject in rows.items()}


def _file() -> dict[str, Any]:
    return yaml.safe_load((HOME / "tests/reliability.yaml").read_text(encoding="utf-8"))


def held(items: Iterable[pytest.Item]) -> dict[str, list[str]]:
    """Row: names of tests. Where only some parameters of a test hold a row, each is named with its own."""
    sizes: dict[str, int] = defaultdict(int)
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        test = name.split("[")[0]
        sizes[test] += 1
        for row in {row for mark in item.iter_markers("row") for row in mark.args}:
            found[row][test].append(name)
    return {
        row: [name for test, names in tests.items() for name in ([test] if len(names) == sizes[test] else names)]
        for row, tests in found.items()
    }


def page(tests: dict[str, list[str]]) -> str:
    """The whole page, in Markdown."""
    reasons = untested()
    kept = [row for row in subjects() if row in tests]
    head = HEAD.format(kept=len(kept), all=len(subjects()), reasons=len(reasons))
    return head + "".join(_table(title, rows, tests, reasons) for title, rows in groups().items())


def _table(title: str, rows: dict[str, str], tests: dict[str, list[str]], reasons: dict[str, str]) -> str:
    lines = [f"\n## {title}\n", "| row | what | held by |", "|---|---|---|"]
    for row, subject in rows.items():
        names = "<br>".join(f"`{name}`" for name in sorted(tests.get(row, [])))
        lines.append(f"| {row} | {subject} | {names or '— ' + reasons.get(row, 'no test yet')} |")
    return "\n".join(lines) + "\n"
