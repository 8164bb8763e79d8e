"""The charts of a report as numbers: what is drawn, not how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pocketseg.reporting.document import Axis, Chart, Column, Interval, Series, shown
from pocketseg.text import counted

BINS = 20
# A curve of several trainings in one picture is smoothed over this share of its epochs.
SMOOTHED = 20
SCORES = ("val_dice", "val_iou")
NAMES = {
    "loss": "training",
    "val_loss": "validation",
    "val_hint": "validation hints",
    "val_dice": "Dice",
    "val_iou": "IoU",
    "lr": "learning rate",
}
DICE = Column("Dice")


@dataclass(frozen=True)
class StageCurves:
    """The rows of `history.csv`: epoch, lr, loss, the parts of the loss, val_loss, val_dice, val_iou.

    Attributes:
        title: what was trained.
        history: the rows.
        ignored: epochs at the beginning that are not the best one, whatever they score.
    """

    title: str
    history: list[dict[str, float]]
    ignored: int = 0


def training_charts(history: Sequence[dict[str, float]], ignored: int = 0) -> list[Chart]:
    """Loss with its parts, scores on the validation part, learning rate; the best epoch behind `ignored` is marked."""
    keys = list(dict.fromkeys(key for row in history for key in row))
    parts = [key for key in keys if key not in ("epoch", "lr", "loss", "time") and not key.startswith("val_")]
    wanted = {
        "Loss": (["loss", "val_loss", *parts, "val_hint"], None),
        "Validation scores": ([key for key in keys if key.startswith(SCORES)], 1.0),
        "Learning rate": (["lr"], None),
    }
    best = best_epoch(history[ignored:])
    mark = None if best is None else (best[0], f"best epoch {best[0]:g}")
    charts = []
    for title, (names, ceiling) in wanted.items():
        series = [_column(key, history) for key in names if key in keys]
        values = [y for one in series for _, y in one.points if math.isfinite(y)]
        if values:
            ends = ", ".join(f"{one.name} ends at {_last(one)}" for one in series)
            said = f"{title} over {counted(len(history), 'epoch')}: {ends}."
            low = min(0.0, *values)
            charts.append(Chart(title, said, Axis("epoch", whole=True), Axis("", low, ceiling), series, mark))
    return charts


def curves_together(histories: Mapping[str, Sequence[dict[str, float]]]) -> list[Chart]:
    """Validation Dice and training loss of several trainings over one another, smoothed; none of a single one.

    A point is the mean over as many epochs as a `SMOOTHED`-th of the longest training, half before and half behind.
    """
    if len(histories) < 2:
        return []
    width = 1 + 2 * (max(map(len, histories.values())) // (2 * SMOOTHED))
    charts = []
    for key, title, ceiling in (
        ("val_dice", "Validation Dice, all trainings", 1.0),
        ("loss", "Loss, all trainings", None),
    ):
        series = [Series(name, _smoothed(_column(key, rows).points, width)) for name, rows in histories.items()]
        if any(one.points for one in series):
            ends = ", ".join(f"{one.name} ends at {_last(one)}" for one in series)
            note = f"Means over {counted(width, 'epoch')} around each one." if width > 1 else ""
            said = f"{title}, over the epochs: {ends}. {note}".strip()
            charts.append(Chart(title, said, Axis("epoch", whole=True), Axis("", 0.0, ceiling), series, note=note))
    return charts


def _smoothed(points: Sequence[tuple[float, float]], width: int) -> list[tuple[float, float]]:
    """Points with a value, each the mean of those that lie at most half the width of epochs away."""
    known = [(x, y) for x, y in points if math.isfinite(y)]
    return [(x, float(np.mean([v for at, v in known if abs(at - x) <= width // 2]))) for x, _ in known]


def _column(key: str, history: Sequence[dict[str, float]]) -> Series:
    name = NAMES.get(key, key.removeprefix("val_") if key.startswith("val_") else f"{key} (part)")
    rows = enumerate(history, start=1)
    return Series(name, [(row.get("epoch", float(number)), row.get(key, math.nan)) for number, row in rows])


def _last(series: Series) -> str:
    return next((f"{y:.3g}" for _, y in reversed(series.points) if math.isfinite(y)), "–")


def best_epoch(history: Sequence[dict[str, float]]) -> tuple[float, float] | None:
    """(epoch, Dice) of the first highest validation Dice; None where there is none."""
    scored = [
        (row.get("epoch", float(number)), row["val_dice"])
        for number, row in enumerate(history, start=1)
        if math.isfinite(row.get("val_dice", math.nan))
    ]
    return max(scored, key=lambda pair: pair[1], default=None)


def histogram(title: str, dice: Sequence[float]) -> Chart | None:
    """How the Dice of cases is spread, with the median marked; None where no case has a value."""
    values = np.array([value for value in dice if math.isfinite(value)])
    if not len(values):
        return None
    counts, edges = np.histogram(values.clip(0, 1), BINS, (0, 1))
    low, median, high = (shown(float(value), DICE) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    said = (
        f"Dice of {counted(len(values), 'case')}: median {median}, half of the cases lie between {low} and {high}, "
        f"lowest {shown(float(values.min()), DICE)}, highest {shown(float(values.max()), DICE)}."
    )
    bars = Series("cases", list(zip(edges[:-1].round(2).tolist(), counts.tolist(), strict=True)), "bars")
    left_out = len(dice) - len(values)
    return Chart(
        title,
        said,
        Axis("Dice", 0.0, 1.0),
        Axis("cases", 0.0, whole=True),
        [bars],
        (float(np.median(values)), f"median {median}"),
        f"{left_out} without foreground left out" if left_out else "",
    )


@dataclass(frozen=True)
class Rated:
    """A model with what it costs and what it scores."""

    name: str
    cost: float
    dice: float
    interval: Interval


def front(models: Sequence[Rated]) -> list[Rated]:
    """The Pareto front: models that no other one beats in cost and Dice at once, the cheapest first.

    Example:
        >>> some = [Rated("a", 1, 0.5, Interval(0, 1)), Rated("b", 2, 0.4, Interval(0, 1)),
        ...         Rated("c", 3, 0.9, Interval(0, 1))]
        >>> [one.name for one in front(some)]
        ['a', 'c']
    """
    found: list[Rated] = []
    for one in sorted(models, key=lambda each: (each.cost, -each.dice)):
        if not found or one.dice > found[-1].dice:
            found.append(one)
    return found


def trade_off(title: str, label: str, models: Sequence[Rated]) -> Chart | None:
    """Dice against what it costs, on a logarithmic axis, with the Pareto front; None for less than two models."""
    models = [one for one in models if math.isfinite(one.dice) and math.isfinite(one.cost) and one.cost > 0]
    if len(models) < 2:
        return None
    best = front(models)
    names = ", then ".join(f"{one.name} ({one.cost:,.1f}, Dice {shown(one.dice, DICE)})" for one in best)
    rest = [one.name for one in models if one not in best]
    beaten = f" Beaten in both by another: {', '.join(rest)}." if rest else ""
    dots = Series(
        "models",
        [(one.cost, one.dice) for one in models],
        "dots",
        [one.name for one in models],
        [one.interval for one in models],
    )
    line = Series("Pareto front", [(one.cost, one.dice) for one in best], "front")
    said = f"{title}. On the front, cheapest first: {names}.{beaten}"
    note = "Upwards and to the left is better; lines are 95 % intervals, the dashed line joins the Pareto front."
    return Chart(title, said, Axis(label, log=True), Axis("Dice"), [dots, line], note=note)


def reliability(
    title: str, bins: Sequence[tuple[str, Sequence[tuple[float, float]]]], said: str, note: str
) -> Chart | None:
    """Share of foreground against the mean probability of bins, for each model; None where there is no bin."""
    if not any(points for _, points in bins):
        return None
    series = [Series(name, points) for name, points in bins]
    ideal = Series("perfect", [(0.0, 0.0), (1.0, 1.0)], "guide")
    x, y = Axis("predicted probability", 0.0, 1.0), Axis("share of foreground", 0.0, 1.0)
    return Chart(title, said, x, y, [*series, ideal], note=note)
