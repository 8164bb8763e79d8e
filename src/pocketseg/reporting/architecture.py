"""A net as a drawing: its parts as boxes, one row a resolution, down on the left and up on the right."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pocketseg.reporting.figures import INK, QUIET, looks, printable

Row = Mapping[str, Any]

# Inches.
GAP, ROOM, MIDDLE, MARGIN, TITLE = 0.4, 0.48, 2.2, 0.25, 0.62
LINE, PADDING, CHARACTER, BOLD = 0.145, 0.1, 0.066, 0.085
WRAP, MAX_LINES = 26, 3
DPI = 110
COLORS = {"down": "#e3eef6", "bottom": "#e9e6f2", "up": "#fbead9", "end": "#ffffff"}
SKIP = "#0b6b80"
# What is worth a word on an arrow; joining, norms and ReLU are not.
TELLING = ("pool", "×")


@dataclass(frozen=True)
class Box:
    """A part of the net.

    Attributes:
        name: of the part.
        lines: what stands under the name.
        height: rows of its output, in pixels.
    """

    name: str
    lines: tuple[str, ...]
    height: int


@dataclass(frozen=True)
class Arrow:
    """A tensor that goes from one part to another, and what happens to it on the way."""

    source: str
    target: str
    label: str
    channels: int


@dataclass(frozen=True)
class Place:
    """Where a box stands: left and lower corner and size in inches, and on which side of the U."""

    x: float
    y: float
    width: float
    height: float
    side: str
    level: int

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


def draw_architecture(title: str, subtitle: str, layers: Sequence[Row]) -> tuple[bytes, bytes]:
    """A net as SVG and as PNG; equal input gives equal bytes.

    Args:
        title: what the net is called.
        subtitle: one line under it.
        layers: in the order in which they run: name, kind, stage ("" between stages), shape (c, h, w), inputs (names),
            parameters, macs. The first is the image.
    """
    boxes, arrows = parts(layers)
    places, width, height = layout(boxes)
    with looks():
        import matplotlib
        from matplotlib.figure import Figure

        figure = Figure(figsize=(width, height), facecolor="white", dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(0, height)
        axes.text(MARGIN, height - 0.3, printable(title), fontsize=13, fontweight="bold")
        axes.text(MARGIN, height - 0.52, printable(subtitle), fontsize=9, color=QUIET)
        for box in boxes:
            _draw_box(axes, box, places[box.name])
        for arrow in arrows:
            _draw_arrow(axes, arrow, places[arrow.source], places[arrow.target])
        with matplotlib.rc_context({"svg.hashsalt": "pocketseg", "svg.fonttype": "none"}):
            svg = _saved(figure, "svg", {"Date": None, "Creator": None})
        return svg, _saved(figure, "png", {"Software": None})


def _saved(figure: Any, kind: str, metadata: Mapping[str, None]) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def parts(layers: Sequence[Row]) -> tuple[list[Box], list[Arrow]]:
    """The boxes of a net, and the arrows between them.

    A stage that only doubles the size, such as an up-convolution, is a word on an arrow and no box.
    """
    rows = {row["name"]: row for row in layers}
    stages: dict[str, list[Row]] = {}
    for row in layers:
        stages.setdefault(row["stage"], []).append(row)
    image, *_ = layers
    boxed = {name: some for name, some in stages.items() if name and not _is_link(some, rows)}
    owner = {row["name"]: stage for stage, some in boxed.items() for row in some} | {image["name"]: image["name"]}
    arrows: dict[tuple[str, str], Arrow] = {}
    for row in layers[1:]:
        if (target := owner.get(row["name"])) is None:
            continue
        for source, label, channels in _sources(row, rows, owner):
            known = arrows.get((source, target))
            if source != target and (known is None or len(label) > len(known.label)):
                arrows[source, target] = Arrow(source, target, label, channels)
    boxes = [Box(image["name"], (_shape(image),), image["shape"][-2])]
    boxes += [Box(name, tuple(_lines(some)), some[-1]["shape"][-2]) for name, some in boxed.items()]
    return boxes, list(arrows.values())


def _is_link(some: Sequence[Row], rows: Mapping[str, Row]) -> bool:
    first, *_ = some
    inside = {row["name"] for row in some}
    outside = {name for row in some for name in row["inputs"]} - inside
    grows = first["shape"][-2] > rows[first["inputs"][0]]["shape"][-2] if first["inputs"] else False
    return grows and len(outside) == 1 and sum(row["macs"] > 0 for row in some) <= 2


def _sources(row: Row, rows: Mapping[str, Row], owner: Mapping[str, str]) -> Iterable[tuple[str, str, int]]:
    """(box, what happens on the way, channels at the box) of everything that reaches a row."""
    stride = row["kind"].partition(" /")[2]
    last = (f"stride {stride}",) if stride and row["macs"] else ()
    waiting: list[tuple[str, tuple[str, ...]]] = [(name, last) for name in row["inputs"]]
    # A row between boxes may take several tensors, such as a concatenation: one way back for each.
    while waiting:
        name, words = waiting.pop(0)
        if name in owner:
            yield owner[name], ", ".join(words), rows[name]["shape"][0]
            continue
        between = rows[name]
        telling = [between["kind"]] if any(word in between["kind"] for word in TELLING) else []
        waiting += [(before, (*telling, *words)) for before in between["inputs"]]


def _lines(some: Sequence[Row]) -> list[str]:
    """What a box does, its shape, its parameters."""
    does = ", ".join(_summary([row["kind"].partition(" /")[0] for row in some if row["macs"] > 0]))
    # Words that belong together stay on one line.
    lines = [line.replace("\xa0", " ") for line in textwrap.wrap(does, WRAP)]
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], "…"]
    parameters = sum(row["parameters"] for row in some)
    return [*lines, _shape(some[-1]), f"{parameters:,} parameters"]


def _summary(kinds: Sequence[str]) -> Iterable[str]:
    """Layers counted; many kernels of one kind in one entry: `3 depthwise 1×1 … 5×5`."""
    by_name: dict[str, list[str]] = {}
    for kind in kinds:
        name, kernel = re.fullmatch(r"([^\d]*)(.*)", kind).groups()  # type: ignore[union-attr]
        by_name.setdefault(name, []).append(kernel)
    for name, kernels in by_name.items():
        counts = Counter(kernels)
        if len(counts) > 2:
            entries = [(len(kernels), f"{min(counts)} … {max(counts)}")]
        else:
            entries = [(count, kernel) for kernel, count in counts.items()]
        for count, kernel in entries:
            yield f"{count} {name}{kernel}".strip().replace(" ", "\xa0")


def _shape(row: Row) -> str:
    channels, *sides = row["shape"]
    return f"{channels} × " + "×".join(map(str, sides))


def layout(boxes: Sequence[Box]) -> tuple[dict[str, Place], float, float]:
    """Where the boxes stand, and width and height of the figure."""
    grid = _grid(boxes)
    bottom = max(level for _, level in grid)
    width, tall = max(map(_width, boxes)), max(map(_height, boxes))
    step, pitch = width + GAP, tall + ROOM
    # The image has a column of its own where another box shares its row.
    lead = step if len(grid.get(("down", 0), ())) > 1 else 0.0
    columns = max(
        (len(some) * step - lead * (level == 0) for (side, level), some in grid.items() if side == "down"), default=0
    )
    center = len(grid["bottom", bottom]) * step - GAP
    inner = MARGIN + lead + columns - GAP
    right = inner + max(MIDDLE, center + 1.0)
    starts = {"down": MARGIN + lead, "bottom": (inner + right - center) / 2, "up": right}
    height = TITLE + bottom * pitch + tall + 2 * MARGIN
    places = {}
    for (side, level), some in grid.items():
        start = MARGIN if (side, level) == ("down", 0) else starts[side]
        for index, box in enumerate(some):
            y = height - TITLE - MARGIN - level * pitch - (tall + _height(box)) / 2
            places[box.name] = Place(start + index * step, y, width, _height(box), side, level)
    return places, max(place.x + place.width for place in places.values()) + MARGIN, height


def _grid(boxes: Sequence[Box]) -> dict[tuple[str, int], list[Box]]:
    """Boxes by side and level, which counts resolutions from the largest; the sides meet at the smallest."""
    heights = sorted({box.height for box in boxes}, reverse=True)
    turn = next(index for index, box in enumerate(boxes) if box.height == heights[-1])
    grid: dict[tuple[str, int], list[Box]] = {}
    for index, box in enumerate(boxes):
        side = "bottom" if box.height == heights[-1] else "down" if index < turn else "up"
        grid.setdefault((side, heights.index(box.height)), []).append(box)
    return grid


def _width(box: Box) -> float:
    return max(1.5, len(box.name) * BOLD, max(map(len, box.lines)) * CHARACTER) + 2 * PADDING


def _height(box: Box) -> float:
    return (len(box.lines) + 1) * LINE + 2 * PADDING


def _draw_box(axes: Any, box: Box, place: Place) -> None:
    from matplotlib.patches import Rectangle

    color = COLORS["end"] if box.name == "image" else COLORS[place.side]
    axes.add_patch(Rectangle((place.x, place.y), place.width, place.height, facecolor=color, edgecolor=QUIET, lw=0.9))
    x = place.middle[0]
    top = place.y + place.height - PADDING - LINE / 2
    axes.text(x, top, printable(box.name), ha="center", va="center", fontsize=9, fontweight="bold")
    for index, line in enumerate(box.lines, start=1):
        axes.text(x, top - index * LINE, printable(line), ha="center", va="center", fontsize=8)


def _draw_arrow(axes: Any, arrow: Arrow, source: Place, target: Place) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Way

    skip = source.side == "down" and target.side == "up"
    points, at, align = _way(source, target)
    color = SKIP if skip else INK
    axes.add_patch(
        FancyArrowPatch(
            path=Way(points),
            arrowstyle="-|>",
            mutation_scale=10,
            color=color,
            lw=1.1,
            joinstyle="miter",
            linestyle=(0, (4, 2)) if skip else "-",
        )
    )
    label = f"skip, {arrow.channels} channels" if skip else arrow.label
    if skip and arrow.label:
        label += f", {arrow.label}"
    axes.text(*at, label, ha=align, va="center", fontsize=8, color=color)


def _way(source: Place, target: Place) -> tuple[list[tuple[float, float]], tuple[float, float], str]:
    """Corners of an arrow, and where its label stands."""
    (sx, sy), (tx, ty) = source.middle, target.middle
    if source.level == target.level:
        start, end = (source.x + source.width, sy), (target.x, ty)
        return [start, end], ((start[0] + end[0]) / 2, sy + 0.09), "center"
    if target.side == "bottom" and sx < target.x:
        return [(sx, source.y), (sx, ty), (target.x, ty)], (sx + 0.07, source.y - 0.2), "left"
    if source.side == "bottom" and tx > source.x + source.width:
        return [(source.x + source.width, sy), (tx, sy), (tx, target.y)], (tx + 0.07, target.y - 0.2), "left"
    if sy > ty:
        start, end, bend = (sx, source.y), (tx, target.y + target.height), target.y + target.height + 0.3
    else:
        start, end, bend = (sx, source.y + source.height), (tx, target.y), target.y - 0.3
    corners = [start, end] if sx == tx else [start, (sx, bend), (tx, bend), end]
    return corners, (tx + 0.07, (corners[-2][1] + end[1]) / 2), "left"
