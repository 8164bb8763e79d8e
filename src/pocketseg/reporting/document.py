"""What a report is made of, before anyone decides how it looks: sections of facts, tables, charts and pictures.

HTML, Markdown, JSON and CSV are written from the same structure, so that no two of them can disagree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """A lower and an upper bound; nan where there is none."""

    low: float
    high: float


# None and nan: there is no value.
Cell = str | int | float | Interval | None


@dataclass(frozen=True)
class Column:
    """How the numbers of a column read.

    Attributes:
        name: over it.
        digits: places after the point.
        signed: whether a plus stands before positive ones.
        least: what is nearer to 0 reads as below this.
    """

    name: str
    digits: int = 3
    signed: bool = False
    least: float = 0.0


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers; the first column names the row."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Properties:
    """(what, value) pairs under a heading."""

    title: str
    entries: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Highlights:
    """The few numbers to be seen first: (what, number, what stands under it)."""

    entries: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Notes:
    """Sentences under a heading."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Text to be copied as it is."""

    title: str
    text: str


@dataclass(frozen=True)
class Panel:
    """One picture of a case.

    Attributes:
        title: what the case is called; any text.
        caption: what is said about it, such as "Dice 0.93".
        image: (h, w) or (h, w, 3), any dtype; stretched to 0..255 for display.
        reference: (h, w) class indices, or None where no reference exists.
        prediction: (h, w) class indices, or None where a data set is shown and not what a net makes of it.
    """

    title: str
    caption: str
    image: NDArray[Any]
    reference: NDArray[np.uint8] | None
    prediction: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Gallery:
    """Pictures of cases; with `columns` so many stand in a row, else as many as there is room for."""

    title: str
    panels: Sequence[Panel]
    class_names: Sequence[str]
    columns: int | None = None

    @property
    def of_data(self) -> bool:
        """Whether it shows masks of a data set alone, no predictions."""
        return all(panel.prediction is None for panel in self.panels)


@dataclass(frozen=True)
class Drawing:
    """A picture that is not a case: PNG, and what it shows in words."""

    title: str
    png: bytes


@dataclass(frozen=True)
class Axis:
    """One axis of a chart; ends that are None come from the data. A logarithmic one shows positive values only."""

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Series:
    """Points of a chart under one name.

    Attributes:
        points: (x, y); a nan breaks a line.
        look: `line` joins them; `dots` do not; `front` is the line of a Pareto front; `guide` is a quiet line that the
            others are held against; `bars` stand on the axis, from x to the next x.
        labels: names of single points.
        intervals: of y, one a point.
    """

    name: str
    points: Sequence[tuple[float, float]]
    look: Literal["line", "dots", "front", "guide", "bars"] = "line"
    labels: Sequence[str] = ()
    intervals: Sequence[Interval] = ()


@dataclass(frozen=True)
class Chart:
    """Numbers to be drawn.

    Attributes:
        title: over it.
        said: one or two sentences with what is to be seen, for those who do not see it.
        x, y: the axes.
        series: what is drawn, most important first.
        mark: (x, label) of a vertical line.
        note: under it.
    """

    title: str
    said: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    mark: tuple[float, str] | None = None
    note: str = ""


Item = Properties | Highlights | Table | Notes | Code | Gallery | Drawing | Chart


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading.

    Attributes:
        key: of links, and in JSON.
        title: the heading.
        items: what it holds, in order.
        lead: a sentence under the heading.
    """

    key: str
    title: str
    items: Sequence[Item]
    lead: str = ""


@dataclass(frozen=True)
class Report:
    """The whole report; a section without items is left out by whoever writes it. `command` makes it."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    command: str = "report"

    @property
    def filled(self) -> list[Section]:
        """The sections that hold something."""
        return [section for section in self.sections if section.items]


def shown(cell: Cell, column: Column) -> str:
    """A cell as it reads.

    Example:
        >>> shown(0.5, Column("Dice")), shown(-0.5, Column("change", digits=1, signed=True)), shown(1200, Column("n"))
        ('0.500', '−0.5', '1,200')
        >>> shown(Interval(0.1, 0.25), Column("95 %", digits=2)), shown(None, Column("")), shown(math.inf, Column(""))
        ('0.10 to 0.25', '–', '∞')
    """
    if isinstance(cell, Interval):
        return "–" if math.isnan(cell.low) else f"{shown(cell.low, column)} to {shown(cell.high, column)}"
    if isinstance(cell, str):
        return cell
    if cell is None or math.isnan(cell):
        return "–"
    if math.isinf(cell):
        return "∞" if cell > 0 else "−∞"
    if abs(cell) < column.least:
        return f"< {column.least:g}"
    sign = "+" if column.signed else ""
    return f"{cell:{sign},.{0 if isinstance(cell, int) else column.digits}f}".replace("-", "−")


def numeric(table: Table) -> list[bool]:
    """Which columns hold numbers only; the first one names the row."""
    return [
        index > 0 and not any(isinstance(row[index], str) for row in table.rows) for index in range(len(table.columns))
    ]


def numbers(chart: Chart) -> Table:
    """What a chart draws as a table: a row for each x where all series share them, else a row for each point."""
    labelled = [one for one in chart.series if one.labels]
    if labelled:
        columns = ["", chart.x.label, chart.y.label, "95 % interval"]
        rows: list[list[Cell]] = [
            [label, x, y, interval]
            for one in labelled
            for label, (x, y), interval in zip_longest(one.labels, one.points, one.intervals)
        ]
        return Table(chart.title, [Column(columns[0]), Column(columns[1], 1), *map(Column, columns[2:])], rows)
    drawn = [one for one in chart.series if one.look not in ("guide", "front")]
    places = [[x for x, _ in one.points] for one in drawn]
    if all(each == places[0] for each in places) and len(set(places[0])) == len(places[0]):
        rows = [[f"{x:g}", *(one.points[at][1] for one in drawn)] for at, x in enumerate(places[0])]
        return Table(chart.title, [Column(name) for name in (chart.x.label, *(one.name for one in drawn))], rows)
    rows = [[one.name, x, y] for one in drawn for x, y in one.points]
    return Table(chart.title, [Column(""), Column(chart.x.label), Column(chart.y.label)], rows)


def class_name(index: int, class_names: Sequence[str]) -> str:
    """The name of the class 1, 2, …"""
    return class_names[index - 1] if index <= len(class_names) else f"class {index}"
