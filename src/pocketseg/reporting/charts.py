"""Curves and histograms as geometry: what is drawn where. The page's template turns it into SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 40
BINS = 20
SCORES = ("val_dice", "val_iou")
NAMES = {
    "loss": "training",
    "val_loss": "validation",
    "val_hint": "validation hints",
    "val_dice": "Dice",
    "val_iou": "IoU",
    "lr": "learning rate",
}


@dataclass(frozen=True)
class Series:
    """One line of a chart: a name, a kind that decides its look, and a value an epoch (nan where there is none)."""

    name: str
    kind: str
    values: list[float]


@dataclass(frozen=True)
class Group:
    """Series that share one pair of axes; `ceiling` is a fixed upper end of the scale."""

    title: str
    epochs: list[float]
    series: list[Series]
    ceiling: float | None = None


@dataclass(frozen=True)
class Tick:
    position: float
    label: str


@dataclass(frozen=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    tip: str


@dataclass(frozen=True)
class Line:
    """A drawn series: pieces between gaps, each "x,y x,y"; pieces of one point are dots."""

    name: str
    kind: str
    pieces: list[str]
    dots: list[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A chart in units of the SVG's view box."""

    title: str
    alt: str
    x_label: str
    y_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    bars: list[Bar] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    marker: Tick | None = None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def show(value: float, digits: int = 3) -> str:
    """A number as it reads in the page.

    Example:
        >>> show(0.5), show(float("nan"))
        ('0.500', '–')
    """
    if math.isnan(value):
        return "–"
    return f"{value:.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def groups(history: Sequence[dict[str, float]]) -> list[Group]:
    """The charts of a stage: loss with its parts, scores on the validation part, learning rate."""
    epochs = [row.get("epoch", float(number)) for number, row in enumerate(history, start=1)]
    keys = list(dict.fromkeys(key for row in history for key in row))
    parts = [key for key in keys if key not in ("epoch", "lr", "loss", "time") and not key.startswith("val_")]
    columns = {
        "Loss": ["loss", "val_loss", *parts, "val_hint"],
        "Validation scores": [key for key in keys if key.startswith(SCORES)],
        "Learning rate": ["lr"],
    }
    found = [
        Group(
            title,
            epochs,
            [_series(key, history) for key in names if key in keys],
            1.0 if title == "Validation scores" else None,
        )
        for title, names in columns.items()
    ]
    return [group for group in found if any(math.isfinite(value) for one in group.series for value in one.values)]


def _series(key: str, history: Sequence[dict[str, float]]) -> Series:
    kind = {"loss": "first", "lr": "first", "val_loss": "second", "val_dice": "first", "val_iou": "second"}.get(
        key, "part"
    )
    name = NAMES.get(key, key.removeprefix("val_") if key.startswith("val_") else f"{key} (part)")
    return Series(name, kind, [row.get(key, math.nan) for row in history])


def best_epoch(history: Sequence[dict[str, float]]) -> tuple[float, float] | None:
    """(epoch, Dice) of the first highest validation Dice; None where there is none."""
    scored = [
        (row.get("epoch", float(number)), row["val_dice"])
        for number, row in enumerate(history, start=1)
        if math.isfinite(row.get("val_dice", math.nan))
    ]
    return max(scored, key=lambda pair: pair[1], default=None)


def ticks(low: float, high: float, most: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers within a range, 1, 2 or 5 times a power of ten apart.

    Example:
        >>> ticks(0, 1), ticks(1, 60, whole=True)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [20.0, 40.0, 60.0])
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 5, 10) if power * times >= rough * 0.999)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.6g}") for number in range(first, last + 1)]


def curve_chart(group: Group, best: tuple[float, float] | None = None) -> Chart:
    """The chart of some series over the epochs; the best epoch is marked."""
    values = [value for one in group.series for value in one.values if math.isfinite(value)]
    low, high = min(0.0, *values), group.ceiling or max(values)
    high = high if high > low else low + 1.0
    first, last = min(group.epochs), max(group.epochs)
    first, last = (first, last) if last > first else (first - 1, last + 1)

    def x(epoch: float) -> float:
        return _between(LEFT, WIDTH - RIGHT, (epoch - first) / (last - first))

    def y(value: float) -> float:
        return _between(HEIGHT - BOTTOM, TOP, (value - low) / (high - low)) if math.isfinite(value) else math.nan

    ends = ", ".join(f"{one.name} ends at {_last(one.values)}" for one in group.series)
    return Chart(
        group.title,
        f"{group.title} over {len(group.epochs)} epochs: {ends}.",
        "epoch",
        "",
        [Tick(x(tick), f"{tick:g}") for tick in ticks(first, last, whole=True)],
        [Tick(y(tick), f"{tick:g}") for tick in ticks(low, high)],
        lines=[
            _line(one, [(x(e), y(v)) for e, v in zip(group.epochs, one.values, strict=True)]) for one in group.series
        ],
        marker=None if best is None else Tick(x(best[0]), f"best epoch {best[0]:g}"),
    )


def _line(series: Series, points: list[tuple[float, float]]) -> Line:
    """Points joined up to the next gap (a nan place); a point between two gaps is a dot."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    pieces = [" ".join(f"{x:g},{y:g}" for x, y in run) for run in runs if len(run) > 1]
    return Line(series.name, series.kind, pieces, [run[0] for run in runs if len(run) == 1])


def _between(start: float, end: float, share: float) -> float:
    return round(start + (end - start) * share, 1)


def _last(values: list[float]) -> str:
    return next((f"{value:.3g}" for value in reversed(values) if math.isfinite(value)), "–")


def histogram(part: str, dice: Sequence[float]) -> Chart | None:
    """The histogram of one part's Dice with its median; None where no case has a value."""
    values = np.array([value for value in dice if math.isfinite(value)])
    if not len(values):
        return None
    counts, edges = np.histogram(values.clip(0, 1), BINS, (0, 1))
    most, floor = int(counts.max()), HEIGHT - BOTTOM
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])

    def x(value: float) -> float:
        return _between(LEFT, WIDTH - RIGHT, value)

    def y(count: float) -> float:
        return _between(floor, TOP + 14, count / most)

    bars = [
        Bar(x(a) + 0.5, y(n), x(b) - x(a) - 1, floor - y(n), f"{a:.2f} to {b:.2f}: {n}")
        for n, a, b in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        if n
    ]
    alt = (
        f"Histogram of the Dice of {len(values)} cases of the part {part}: median {show(median)}, "
        f"half of the cases lie between {show(low)} and {show(high)}, "
        f"lowest {show(values.min())}, highest {show(values.max())}."
    )
    return Chart(
        part,
        alt,
        "Dice",
        "cases",
        [Tick(x(tick), f"{tick:g}") for tick in ticks(0, 1)],
        [Tick(y(tick), f"{tick:g}") for tick in ticks(0, most, 4, whole=True)],
        bars=bars,
        marker=Tick(x(float(median)), f"median {show(median)}"),
    )
