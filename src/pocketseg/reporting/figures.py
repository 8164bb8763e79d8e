"""Pictures of a run as PNG files, drawn by matplotlib; equal input gives equal bytes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import missing_package
from pocketseg.files import write_atomically
from pocketseg.layers import layer
from pocketseg.reporting.charts import StageCurves, training_charts
from pocketseg.reporting.document import Chart, Panel, class_name
from pocketseg.reporting.outlines import trace
from pocketseg.reporting.overlay import (
    PALETTE,
    REFERENCE_COLOR,
    check_shapes,
    class_color,
    count_classes,
    reference_look,
    stretch,
)

INK, QUIET = "#1f2933", "#7b8794"
# Color and dashes both tell lines apart.
LOOKS = (
    (PALETTE[6], "-"), (PALETTE[5], "-"), (PALETTE[4], "--"), (PALETTE[3], ":"), (PALETTE[0], "-."),
    (PALETTE[1], (0, (5, 1))), ("#7a5c00", (0, (1, 2))), (QUIET, (0, (7, 2, 1, 2))),
)  # fmt: skip
STYLE = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e7eb",
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "figure.dpi": 120,
    "figure.constrained_layout.h_pad": 0.08,
    "text.parse_math": False,
}
COLUMNS = 4
CELL_INCHES = 2.6


def save_curves(curves: StageCurves, path: Path) -> None:
    """Write a PNG of a stage's loss, validation scores and learning rate over the epochs."""
    drawn = training_charts(curves.history, curves.ignored)
    with looks():
        figure = figure_of(3.6 * max(1, len(drawn)), 3.4)
        for axes, chart in zip(_row(figure, len(drawn)), drawn, strict=True):
            _draw_chart(axes, chart)
        if not drawn:
            figure.text(0.5, 0.45, "no finished epoch", ha="center", color=QUIET)
        figure.suptitle(printable(curves.title), x=0.01, ha="left", fontsize=11, fontweight="bold")
        write_figure(figure, path)


def save_examples(panels: Sequence[Panel], path: Path, class_names: Sequence[str] = ()) -> None:
    """Write a PNG with a grid of cases: image, contour of the reference, contour of the prediction, and a legend.

    One class: the reference is blue, the prediction orange. Several: a color a class, and the reference is dashed.
    """
    classes = max(
        count_classes(*(mask for one in panels for mask in (one.reference, one.prediction))), len(class_names), 1
    )
    columns = min(COLUMNS, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    with looks():
        figure = figure_of(max(2, columns) * CELL_INCHES, rows * (CELL_INCHES + 0.25) + 0.45)
        if not panels:
            figure.text(0.5, 0.5, "no examples", ha="center", color=QUIET)
        for number, panel in enumerate(panels, start=1):
            _draw_panel(figure.add_subplot(rows, columns, number), panel, classes)
        _draw_legend(figure, classes, class_names)
        write_figure(figure, path)


def printable(text: str) -> str:
    """Text that every writer can encode, on one line: file names may hold anything.

    Example:
        >>> printable("a" + chr(10) + "b" + chr(0xDC80))
        'a b?'
    """
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


@contextmanager
def looks() -> Iterator[None]:
    """Our looks whatever the user's matplotlibrc says; letters that the font lacks are boxes and no warnings."""
    try:
        import matplotlib.style
    except ImportError as error:
        raise missing_package("matplotlib", "report", error) from error
    with matplotlib.style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def figure_of(width: float, height: float) -> Any:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _row(figure: Any, count: int) -> list[Any]:
    return [figure.add_subplot(1, count, number) for number in range(1, count + 1)]


def write_figure(figure: Any, path: Path) -> None:
    """PNG without a date or a version of the software in it."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())


def _draw_chart(axes: Any, chart: Chart) -> None:
    from matplotlib.ticker import MaxNLocator

    for number, one in enumerate(chart.series):
        color, dashes = LOOKS[number % len(LOOKS)]
        points = [point for point in one.points if math.isfinite(point[1])]
        marker = "o" if len(points) == 1 else ""
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, label=printable(one.name), marker=marker, linestyle=dashes, color=color, linewidth=1.5)
    if chart.mark is not None:
        axes.axvline(chart.mark[0], color=QUIET, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    axes.set_title(chart.title, loc="left")
    axes.set_xlabel(chart.x.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.set_ylim(bottom=None if chart.y.low else 0.0, top=chart.y.high)
    if len(chart.series) > 1:
        # Below the axes, where it covers no line.
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _draw_panel(axes: Any, panel: Panel, classes: int) -> None:
    check_shapes(panel.image, panel.prediction, panel.reference)
    axes.imshow(stretch(panel.image), cmap="gray", vmin=0, vmax=255, extent=_extent(panel.image))
    for index in range(1, classes + 1):
        if panel.reference is not None:
            color, dashes = reference_look(index, classes)
            _draw_outline(axes, layer(panel.reference, index), color, 2.4, dashes)
        if panel.prediction is not None:
            _draw_outline(axes, layer(panel.prediction, index), class_color(index), 1.2, None)
    axes.set_axis_off()
    axes.set_title(f"{_short(panel.title)}\n{_short(panel.caption)}", fontsize=8.5)


def _extent(image: NDArray[Any]) -> tuple[float, float, float, float]:
    """Put pixel (0, 0) on the square from 0 to 1, as the outlines have it."""
    return 0, image.shape[1], image.shape[0], 0


def _draw_outline(
    axes: Any, region: NDArray[np.bool_], color: str, width: float, dashes: tuple[float, float] | None
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline

    for corners in trace(region):
        points = [(column, row) for row, column in [*corners, corners[0]]]
        line = PathPatch(
            Outline(points, closed=True),
            fill=False,
            edgecolor=color,
            linewidth=width,
            linestyle="-" if dashes is None else (0, dashes),
            joinstyle="round",
        )
        axes.add_patch(line)


def _draw_legend(figure: Any, classes: int, class_names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    lines: list[tuple[str, str, Any, float]]
    if classes == 1:
        lines = [("reference", REFERENCE_COLOR, "-", 2.4), ("prediction", class_color(1), "-", 1.2)]
    else:
        # matplotlib hides what begins with an underscore.
        names = [printable(class_name(index, class_names)).lstrip("_") for index in range(1, classes + 1)]
        lines = [(name, class_color(index), "-", 1.2) for index, name in enumerate(names, start=1)]
        lines += [("reference: dashed", QUIET, "--", 2.4), ("prediction: solid", QUIET, "-", 1.2)]
    handles = [Line2D([], [], color=c, linestyle=style, linewidth=width, label=name) for name, c, style, width in lines]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(lines), 4))


def _short(text: str, most: int = 38) -> str:
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
