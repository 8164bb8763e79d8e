"""The report as one HTML file that needs nothing else: no network, no fonts, no script, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketseg.errors import missing_package
from pocketseg.layers import covered, layer
from pocketseg.reporting import document, svg
from pocketseg.reporting.document import Chart, Gallery, Panel, Report, Table, class_name, numbers, numeric, shown
from pocketseg.reporting.outlines import svg_path
from pocketseg.reporting.overlay import check_shapes, class_color, count_classes, reference_look, stretch

# Larger images are shrunk by a whole factor: the page shows them at about half of this, and smaller where many stand
# in a row.
LONGEST_SIDE, LONGEST_IN_ROW = 640, 400


@dataclass(frozen=True)
class Outline:
    """A contour as an SVG path; `role` is reference, prediction, or mask: that of a data set, which is tinted."""

    path: str
    color: str
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


def render(report: Report) -> str:
    """The page as text. Whatever stands in names and notes is shown as text."""
    classes = max((_classes(item) for section in report.sections for item in section.items), default=1)
    keys = (f"c{number}" for number in count())
    page: str = _template().render(
        report=report,
        kind=lambda item: type(item).__name__,
        cells=cells,
        numeric=numeric,
        numbers=numbers,
        picture=lambda panel, small: picture(panel, classes, LONGEST_IN_ROW if small else LONGEST_SIDE),
        legend=lambda gallery: [
            (
                class_name(index, gallery.class_names),
                reference_look(index, classes)[0] if gallery.of_data else class_color(index),
            )
            for index in range(1, classes + 1)
        ],
        reference_color=reference_look(1, 1)[0],
        draw=lambda chart: _markup(svg.draw(chart, next(keys))),
        chart_legend=lambda chart: [(_markup(line), name) for line, name in svg.legend(chart)],
        png_uri=png_uri,
        rows_of_charts=rows_of_charts,
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


def _markup(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


def digest(text: str) -> str:
    """How a content security policy names the one inline style that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def cells(table: Table) -> list[list[str]]:
    """The rows as they read."""
    return [[shown(cell, column) for cell, column in zip(row, table.columns, strict=True)] for row in table.rows]


def rows_of_charts(items: Sequence[document.Item]) -> Iterator[list[document.Item]]:
    """Items one by one, but charts that follow each other together: they stand side by side."""
    together: list[document.Item] = []
    for item in items:
        if together and not (isinstance(item, Chart) and isinstance(together[-1], Chart)):
            yield together
            together = []
        together.append(item)
    if together:
        yield together


def _classes(item: document.Item) -> int:
    if not isinstance(item, Gallery):
        return 1
    masks = (mask for panel in item.panels for mask in (panel.reference, panel.prediction))
    return max(count_classes(*masks), len(item.class_names), 1)


def picture(panel: Panel, classes: int, longest: int = LONGEST_SIDE) -> Picture:
    """The image as a data URI, its contours as paths over it, and a text for those who do not see it."""
    check_shapes(panel.image, panel.prediction, panel.reference)
    stride = max(1, -(-max(panel.image.shape[:2]) // longest))
    outlines = []
    # The reference first: it is the broader line, and the prediction is drawn over it.
    first = "mask" if panel.prediction is None else "reference"
    for role, mask in ((first, panel.reference), ("prediction", panel.prediction)):
        if mask is not None:
            outlines += _outlines(role, mask[..., ::stride, ::stride], classes)
    height, width = panel.image[::stride, ::stride].shape[:2]
    source = data_uri(stretch(panel.image), stride)
    return Picture(panel.title, panel.caption, describe(panel), source, width, height, outlines)


def _outlines(role: str, mask: NDArray[np.uint8], classes: int) -> list[Outline]:
    found = []
    for index in range(1, classes + 1):
        color, dashes = (class_color(index), None) if role == "prediction" else reference_look(index, classes)
        dashes = None if role == "mask" else dashes
        if path := svg_path(layer(mask, index)):
            found.append(Outline(path, color, role, dashes is not None))
    return found


def describe(panel: Panel) -> str:
    """A picture in words."""
    masks = {"prediction": panel.prediction, "mask" if panel.prediction is None else "reference": panel.reference}
    covered = [f"{name} {_percent(mask)}" for name, mask in masks.items() if mask is not None]
    if covered:
        covered[0] = f"{covered[0].replace(' ', ' covers ', 1)} of the picture"
    return f"{panel.title} ({panel.caption}): {', '.join(covered)}."


def _percent(mask: NDArray[np.uint8]) -> str:
    inside = covered(mask)
    return f"{100 * np.count_nonzero(inside) / max(1, inside.size):.1f} %"


def data_uri(pixels: NDArray[np.uint8], stride: int = 1) -> str:
    """A PNG inside a URL; `stride` shrinks it by averaging squares of that many pixels."""
    buffer = BytesIO()
    image = Image.fromarray(pixels)
    (image.reduce(stride) if stride > 1 else image).save(buffer, "PNG", optimize=True)
    return png_uri(buffer.getvalue())


def png_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
