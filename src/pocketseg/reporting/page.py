"""The report as one HTML file that needs nothing else: no network, no fonts, no other file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketseg.errors import missing_package
from pocketseg.files import write_atomically
from pocketseg.reporting.charts import Chart, best_epoch, curve_chart, groups, histogram, show
from pocketseg.reporting.outlines import svg_path
from pocketseg.reporting.overlay import check_shapes, class_colour, count_classes, stretch, truth_look
from pocketseg.reporting.tables import Panel, Report, StageCurves, Table, class_name

# Larger images are shrunk by a whole factor: the page shows them at about half of this.
LONGEST_SIDE = 640
NUMBER = re.compile(r"[-−+]?\d[\d.,\s]*(e[-+]?\d+)?(%|ms|s|min|h|mm|px|B|KiB|MiB|GiB)?(\s*[\[(±].*)?", re.IGNORECASE)
SPECIAL = {"nan": "–", "inf": "∞", "-inf": "−∞"}


@dataclass(frozen=True)
class Outline:
    """A contour as an SVG path; `role` is truth or prediction."""

    path: str
    colour: str
    role: str
    dashed: bool


@dataclass(frozen=True)
class Picture:
    """A panel, ready for the page."""

    title: str
    caption: str
    alt: str
    source: str
    width: int
    height: int
    outlines: list[Outline]


@dataclass(frozen=True)
class Column:
    name: str
    numeric: bool


@dataclass(frozen=True)
class Score:
    """The Dice of one part in a few numbers."""

    part: str
    median: str
    quartiles: str
    cases: int
    without: int
    chart: Chart | None


@dataclass(frozen=True)
class Stage:
    title: str
    epochs: int
    best: str
    charts: list[Chart]


def write_report(report: Report, path: Path) -> None:
    """Write the page, whole or not at all.

    The same report gives the same bytes. Whatever stands in names and notes is shown as text; characters that UTF-8
    cannot hold (parts of undecodable file names) become "?".
    """
    write_atomically(path, render(report).encode("utf-8", "replace"))


def render(report: Report) -> str:
    """The page as text."""
    panels = [*report.worst, *report.median, *report.best]
    masks = (mask for panel in panels for mask in (panel.truth, panel.prediction))
    classes = max(count_classes(*masks), len(report.class_names), 1)
    galleries = [("Worst", report.worst), ("Median", report.median), ("Best", report.best)]
    page: str = _template().render(
        report=report,
        scores=[score(part, values) for part, values in report.dice.items()],
        tables=[(table, columns(table), cells(table)) for table in report.tables],
        galleries=[(name, [picture(panel, classes) for panel in some]) for name, some in galleries if some],
        legend=[(class_name(index, report.class_names), class_colour(index)) for index in range(1, classes + 1)],
        truth_colour=truth_look(1, 1)[0],
        stages=[stage(curves) for curves in report.curves],
        nets=[(name, png_uri(png)) for name, png in report.nets],
        case_columns=columns(report.cases),
        case_rows=cells(report.cases),
    )
    return page


def _template() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise missing_package("jinja2", "report", error) from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["digest"] = digest
    return environment.from_string(files("pocketseg.reporting").joinpath("page.html.j2").read_text("utf-8"))


def digest(text: str) -> str:
    """How a content security policy names the one inline style or script that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def picture(panel: Panel, classes: int) -> Picture:
    """The image as a data URI, its contours as paths over it, and a text for those who do not see it."""
    check_shapes(panel.image, panel.prediction, panel.truth)
    stride = max(1, -(-max(panel.prediction.shape) // LONGEST_SIDE))
    outlines = []
    # The reference first: it is the broader line, and the prediction is drawn over it.
    for role, mask in (("truth", panel.truth), ("prediction", panel.prediction)):
        if mask is not None:
            outlines += _outlines(role, mask[::stride, ::stride], classes)
    height, width = panel.prediction[::stride, ::stride].shape
    source = data_uri(stretch(panel.image), stride)
    return Picture(panel.title, panel.caption, _alt(panel), source, width, height, outlines)


def _outlines(role: str, mask: NDArray[np.uint8], classes: int) -> list[Outline]:
    found = []
    for index in range(1, classes + 1):
        colour, dashes = truth_look(index, classes) if role == "truth" else (class_colour(index), None)
        if path := svg_path(mask == index):
            found.append(Outline(path, colour, role, dashes is not None))
    return found


def _alt(panel: Panel) -> str:
    covered = [f"prediction covers {_percent(panel.prediction)} of the picture"]
    if panel.truth is not None:
        covered.append(f"reference {_percent(panel.truth)}")
    return f"{panel.title} ({panel.caption}): {', '.join(covered)}."


def _percent(mask: NDArray[np.uint8]) -> str:
    return f"{100 * np.count_nonzero(mask) / max(1, mask.size):.1f} %"


def data_uri(pixels: NDArray[np.uint8], stride: int = 1) -> str:
    """A PNG inside a URL; `stride` shrinks it by averaging squares of that many pixels."""
    buffer = BytesIO()
    image = Image.fromarray(pixels)
    (image.reduce(stride) if stride > 1 else image).save(buffer, "PNG", optimize=True)
    return png_uri(buffer.getvalue())


def png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def score(part: str, dice: Sequence[float]) -> Score:
    """The Dice of a part in a few numbers, and its histogram."""
    values = np.array([value for value in dice if np.isfinite(value)])
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [float("nan")] * 3
    quartiles = f"{show(float(low))} – {show(float(high))}"
    return Score(part, show(float(median)), quartiles, len(values), len(dice) - len(values), histogram(part, dice))


def stage(curves: StageCurves) -> Stage:
    """The charts of a stage and the sentence about its best epoch."""
    best = best_epoch(curves.history)
    text = "no validation Dice" if best is None else f"best validation Dice {show(best[1])} in epoch {best[0]:g}"
    charts = [curve_chart(group, best) for group in groups(curves.history)]
    return Stage(curves.title, len(curves.history), text, charts)


def columns(table: Table) -> list[Column]:
    """Columns of which every filled cell is a number stand to the right and sort as numbers.

    The first column names the row and is text; it sorts naturally, 2 before 10.
    """
    found = []
    for index, name in enumerate(table.columns):
        filled = [row[index].strip() for row in table.rows if row[index].strip() not in ("", "–")]
        numbers = [cell for cell in filled if cell.lower() in SPECIAL or NUMBER.fullmatch(cell)]
        found.append(Column(name, index > 0 and len(numbers) == len(filled)))
    return found


def cells(table: Table) -> list[list[str]]:
    """The rows with nan as a dash and inf as ∞, in columns of numbers only: a case may be called "nan"."""
    numeric = [column.numeric for column in columns(table)]
    return [
        [SPECIAL.get(cell.strip().lower(), cell) if number else cell for cell, number in zip(row, numeric, strict=True)]
        for row in table.rows
    ]
