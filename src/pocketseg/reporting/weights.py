"""Pages with the weights of a net and what enters its layers: a list, a panel a layer; equal input, equal bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np

from pocketseg.png import png_bytes
from pocketseg.reporting.document import Cell, Table
from pocketseg.reporting.figures import QUIET, looks, printable
from pocketseg.reporting.overlay import PALETTE
from pocketseg.text import counted

BEFORE, AFTER = PALETTE[5], PALETTE[6]
# Inches: A4 on its side.
WIDTH, HEIGHT, MARGIN, TOP, LINE = 11.69, 8.27, 0.35, 0.95, 0.165
COLUMNS, ROWS, LIST_ROWS = 4, 3, 34
DPI = 110
# Beyond, single levels are narrower than a printed line.
MAX_STEMS, MAX_DOTS = 260, 20
# Of the values, in percent: the lower end of a logarithmic axis.
LEAST = 1e-3


@dataclass(frozen=True)
class Distribution:
    """The numbers of one layer, before quantization and after it.

    Attributes:
        name: of the layer.
        facts: what stands under the name.
        label: of the axis of values.
        edges: borders of the bins, one more than there are counts.
        counts: numbers in each bin, before quantization.
        levels: (value, count) of the values after quantization, by value; empty where nothing is quantized.
    """

    name: str
    facts: str
    label: str
    edges: Sequence[float]
    counts: Sequence[int]
    levels: Sequence[tuple[float, int]] = ()


@dataclass(frozen=True)
class WeightPages:
    """What is drawn.

    Attributes:
        list: a row a layer; its note says what the net is.
        weights: a panel each.
        activations: what enters the layers, a panel each; may be empty.
        images: how many the activations come from.
    """

    list: Table
    weights: Sequence[Distribution]
    activations: Sequence[Distribution] = ()
    images: int = 0


def draw_weights(content: WeightPages, kind: Literal["pdf", "png"]) -> bytes:
    """The pages as PDF, or one below the other as one PNG."""
    with looks():
        from matplotlib.backends.backend_pdf import PdfPages

        if kind == "pdf":
            buffer = BytesIO()
            with PdfPages(buffer, metadata={"Creator": None, "Producer": None, "CreationDate": None}) as pdf:
                for figure in _pages(content):
                    pdf.savefig(figure)
            return buffer.getvalue()
        return png_bytes(np.concatenate([_pixels(figure) for figure in _pages(content)]))


def _pixels(figure: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[:, :, :3]  # type: ignore[no-untyped-call]


def _pages(content: WeightPages) -> Iterator[Any]:
    """Every page as a figure, in order."""
    rows = content.list.rows
    for start in range(0, max(1, len(rows)), LIST_ROWS):
        yield _list_page(content, rows[start : start + LIST_ROWS], start)
    yield from _panel_pages("Weights", "weights of", content.weights, log=False)
    images = counted(content.images, "image")
    heading = f"Activations: what enters each layer, on {images}"
    yield from _panel_pages(heading, "values that enter", content.activations, log=True)


def _page(title: str, subtitle: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white", dpi=DPI)
    _text(figure, MARGIN, HEIGHT - 0.4, title, fontsize=13, fontweight="bold")
    _text(figure, MARGIN, HEIGHT - 0.63, subtitle, fontsize=9, color=QUIET)
    return figure


def _text(figure: Any, x: float, y: float, text: str, **style: Any) -> None:
    """Text at a place in inches from the lower left corner."""
    figure.text(x / WIDTH, y / HEIGHT, printable(text), **style)


def _list_page(content: WeightPages, rows: Sequence[Sequence[Cell]], start: int) -> Any:
    table = content.list
    figure = _page(table.title + (", continued" if start else ""), table.note)
    names = [column.name for column in table.columns]
    lengths = [max(len(str(row[index])) for row in [names, *table.rows]) for index in range(len(names))]
    x = MARGIN
    for index, (column, length) in enumerate(zip(names, lengths, strict=True)):
        # Words stand left, numbers right.
        words = index < 2
        at, x = (x if words else x + length * 0.075), x + length * 0.075 + 0.3
        align = "left" if words else "right"
        _text(figure, at, HEIGHT - TOP - LINE, column, fontsize=8.5, fontweight="bold", ha=align)
        for number, row in enumerate(rows, start=2):
            _text(figure, at, HEIGHT - TOP - number * LINE, str(row[index]), fontsize=8.5, ha=align)
    if not start:
        _explain(figure, HEIGHT - TOP - (len(rows) + 3) * LINE, any(one.levels for one in content.weights))
    return figure


def _explain(figure: Any, y: float, quantized: bool) -> None:
    """How to read what follows, under the list."""
    lines = [("bars", QUIET, "the values in bins, as shares of all values of the layer")]
    if quantized:
        lines = [
            ("levels", QUIET, "different values of a weight that are really used, at most in one output channel"),
            ("bytes", QUIET, "of the stored layer: packed codes, and factors, offsets and scales in f32"),
            ("before", BEFORE, "quantization: the values that are trained, in bins"),
            ("after", AFTER, "quantization: a line a level, as high as the share of values that fall on it"),
        ]
    for number, (word, color, text) in enumerate(lines):
        _text(figure, MARGIN, y - number * LINE, word, fontsize=8.5, color=color, fontweight="bold")
        _text(figure, MARGIN + 0.6, y - number * LINE, text, fontsize=8.5)


def _panel_pages(title: str, what: str, panels: Sequence[Distribution], log: bool) -> Iterator[Any]:
    each = COLUMNS * ROWS
    for start in range(0, len(panels), each):
        some = panels[start : start + each]
        which = f"layers {start + 1} to {start + len(some)} of {len(panels)}"
        axis = f"vertical: share of the {what} the layer{', logarithmic' if log else ''}"
        figure = _page(title, f"{which} · {axis}")
        for number, panel in enumerate(some):
            _draw_panel(figure, panel, number % COLUMNS, number // COLUMNS, log)
        yield figure


def _draw_panel(figure: Any, panel: Distribution, column: int, row: int, log: bool) -> None:
    """Name and facts, the histogram before quantization, and below on the same axis the levels after it."""
    width, height = (WIDTH - 2 * MARGIN) / COLUMNS, (HEIGHT - TOP - 0.2) / ROWS
    left, top = MARGIN + column * width, HEIGHT - TOP - row * height
    _text(figure, left, top - 0.1, _short(panel.name, 34), fontsize=9, fontweight="bold")
    _text(figure, left, top - 0.26, _short(panel.facts, 50), fontsize=7, color=QUIET)
    tall = height - 0.86
    each = (tall - 0.1) / 2 if panel.levels else tall
    first = _axes(figure, left + 0.45, top - 0.34 - each, width - 0.7, each)
    total = sum(panel.counts)
    _bars(first, panel.edges, [100 * count / total for count in panel.counts], BEFORE)
    last = first
    if panel.levels:
        last = _axes(figure, left + 0.45, top - 0.34 - tall, width - 0.7, each, sharex=first)
        first.tick_params(labelbottom=False)
        first.set_ylabel("before", color=BEFORE, fontsize=7.5, fontweight="bold")
        last.set_ylabel("after", color=AFTER, fontsize=7.5, fontweight="bold")
        _levels(last, panel)
    for axes in dict.fromkeys((first, last)):
        _scale(axes, log)
    last.set_xlabel(printable(panel.label), fontsize=7, labelpad=1)


def _axes(figure: Any, x: float, y: float, width: float, height: float, sharex: Any = None) -> Any:
    axes = figure.add_axes((x / WIDTH, y / HEIGHT, width / WIDTH, height / HEIGHT), sharex=sharex)
    axes.tick_params(labelsize=6.5, length=2, pad=1.5)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=5)
    # In one line, however wide the numbers on the axis are.
    axes.yaxis.set_label_coords(-0.4 / width, 0.5)
    return axes


def _bars(axes: Any, edges: Sequence[float], shares: Sequence[float], color: str) -> None:
    axes.stairs(shares, edges, fill=True, color=color, baseline=0)


def _levels(axes: Any, panel: Distribution) -> None:
    """A line a level, with a dot on it where they are few; bins where they are too many for lines."""
    values = np.array([value for value, _ in panel.levels])
    shares = np.array([count for _, count in panel.levels]) * 100.0
    shares /= shares.sum() / 100
    if len(values) > MAX_STEMS:
        binned, _ = np.histogram(values, panel.edges, weights=shares)
        _bars(axes, panel.edges, binned.tolist(), AFTER)
        return
    few = len(values) <= MAX_DOTS
    axes.vlines(values, 0, shares, color=AFTER, linewidth=1.4 if few else 0.8)
    if few:
        axes.plot(values, shares, "o", color=AFTER, markersize=2.8)


def _scale(axes: Any, log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if log:
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(LEAST, 300)
        axes.yaxis.set_major_locator(LogLocator(100, numticks=4))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}%"))


def _short(text: str, most: int) -> str:
    text = printable(text)
    return text if len(text) <= most else f"{text[: most - 1]}…"
