"""A report as HTML, Markdown, JSON or CSV, all from the same structure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pocketseg.files import write_atomically
from pocketseg.reporting.document import (
    Cell,
    Chart,
    Code,
    Column,
    Drawing,
    Gallery,
    Highlights,
    Interval,
    Item,
    Notes,
    Properties,
    Report,
    Section,
    Table,
    numbers,
    numeric,
)
from pocketseg.reporting.page import cells, describe, render
from pocketseg.tables import csv_text

Format = Literal["html", "markdown", "json", "csv"]
SUFFIXES: dict[Format, str] = {"html": ".html", "markdown": ".md", "json": ".json", "csv": ""}
# Characters that Markdown might read as its own.
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")


def write_report(report: Report, path: Path, form: Format = "html") -> None:
    """Write a report, each file whole or not at all.

    The same report gives the same bytes. Characters that UTF-8 cannot hold (parts of undecodable file names) become
    "?".

    Args:
        report: what is written.
        path: the file; of CSV the folder, which gets a file for each table and each chart.
        form: `html`, `markdown`, `json` or `csv`.
    """
    texts = {"html": render, "markdown": markdown, "json": as_json}
    if form in texts:
        _write(path, texts[form](report))
        return
    for name, table in tables(report):
        _write(path / f"{name}.csv", as_csv(table))


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode("utf-8", "replace"))


def markdown(report: Report) -> str:
    """The report as Markdown: charts as their numbers, pictures as what is said about them."""
    blocks = [f"# {_plain(report.title)}", _plain(report.subtitle)]
    for section in report.filled:
        blocks += [f"## {_plain(section.title)}", _plain(section.lead)]
        for item in section.items:
            blocks += _blocks(item)
    return "\n\n".join(block for block in blocks if block) + "\n"


def _blocks(item: Item) -> Iterator[str]:
    if title := getattr(item, "title", ""):
        yield f"### {_plain(title)}"
    match item:
        case Properties(entries=entries):
            yield _grid(["", ""], entries, [False, False])
        case Highlights(entries=highlights):
            yield "\n".join(
                f"- **{_plain(what)}: {_plain(number)}** ({_plain(more)})" for what, number, more in highlights
            )
        case Table():
            yield _table(item)
            yield _plain(item.note)
        case Notes(lines=lines):
            yield "\n".join(f"- {_plain(line)}" for line in lines)
        case Code(text=text):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            yield f"{fence}\n{text.rstrip()}\n{fence}"
        case Chart():
            yield _plain(item.said)
            yield _table(numbers(item))
            yield _plain(item.note)
        case Gallery(panels=panels):
            yield "\n".join(f"- {_plain(describe(panel))}" for panel in panels)
        case Drawing():
            yield "(a drawing, in the HTML page)"


def _table(table: Table) -> str:
    return _grid([column.name for column in table.columns], cells(table), numeric(table))


def _grid(names: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    lines = [names, ["--:" if number else ":--" for number in right], *rows]
    ruler = 1
    return "\n".join(
        "| " + " | ".join(cell if number == ruler else _plain(cell) for cell in line) + " |"
        for number, line in enumerate(lines)
    )


def _plain(text: str) -> str:
    """Text on one line that stays text."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def as_json(report: Report) -> str:
    """The report as JSON: numbers with all their digits, nan as null, intervals as [low, high]."""
    sections = [
        {
            "key": section.key,
            "title": section.title,
            "lead": section.lead,
            "items": [_item(one) for one in section.items],
        }
        for section in report.filled
    ]
    content = {"title": report.title, "subtitle": report.subtitle, "sections": sections}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _item(item: Item) -> dict[str, Any]:
    kind = {"kind": type(item).__name__.lower()}
    match item:
        case Table():
            columns = [column.name for column in item.columns]
            rows = [[_cell(cell) for cell in row] for row in item.rows]
            return kind | {"title": item.title, "columns": columns, "rows": rows, "note": item.note}
        case Gallery():
            pictures = [{"title": one.title, "caption": one.caption, "said": describe(one)} for one in item.panels]
            return kind | {"title": item.title, "pictures": pictures}
        case Drawing():
            return kind | {"title": item.title}
        case Chart():
            plain: dict[str, Any] = _finite(asdict(item))
            return kind | plain
        case _:
            return kind | asdict(item)


def _cell(cell: Cell) -> Any:
    return _finite([cell.low, cell.high] if isinstance(cell, Interval) else cell)


def _finite(value: Any) -> Any:
    """JSON has no nan and no infinity."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("∞" if value > 0 else "−∞")
    return value


def tables(report: Report) -> Iterator[tuple[str, Table]]:
    """Every table and the numbers of every chart, under names that no two share."""
    used: set[str] = set()
    for section in report.filled:
        for item in section.items:
            if isinstance(item, Table | Chart):
                yield _name(section, item.title, used), numbers(item) if isinstance(item, Chart) else item
            elif isinstance(item, Properties):
                rows = [list(entry) for entry in item.entries]
                yield _name(section, item.title, used), Table(item.title, [Column("what"), Column("value")], rows)


def _name(section: Section, title: str, used: set[str]) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60]
    stem = f"{section.key}-{words}" if words else section.key
    name = next(name for name in (stem, *(f"{stem}-{number}" for number in range(2, 1000))) if name not in used)
    used.add(name)
    return name


def as_csv(table: Table) -> str:
    """A table as CSV: an empty field where there is no value, two columns for an interval."""
    wide = [any(isinstance(row[index], Interval) for row in table.rows) for index in range(len(table.columns))]
    names = [column.name for column in table.columns]
    head = [part for name, pair in zip(names, wide, strict=True) for part in _pair(name, pair)]
    rows = ([part for cell, pair in zip(row, wide, strict=True) for part in _fields(cell, pair)] for row in table.rows)
    return csv_text([head, *rows])


def _pair(name: str, pair: bool) -> list[str]:
    return [f"{name} low", f"{name} high"] if pair else [name]


def _fields(cell: Cell, pair: bool) -> list[Any]:
    if pair:
        return [_field(cell.low), _field(cell.high)] if isinstance(cell, Interval) else ["", ""]
    return [cell if isinstance(cell, str) else _field(cell)] if not isinstance(cell, Interval) else []


def _field(value: str | float | None) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
