"""A sweep as one figure: Dice against what was varied, with the spread over seeds and folds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketseg.reporting.figures import figure_of, looks, printable, write_figure
from pocketseg.reporting.overlay import PALETTE
from pocketseg.text import counted

MARKERS = "osD^vP*X"
LINE_STYLES = ("-", "--", ":", "-.")
# Many lines read better in a legend beside the axes, and only so many read at all.
MAX_LINES = 24
# From this ratio on, values that all lie above 0 are shown on a logarithmic axis.
WIDE = 4
# So many letters stand side by side under the axis.
ROOM = 50


@dataclass(frozen=True)
class SweepPoint:
    """One run: the value of each varied parameter by name, and the Dice of each fold."""

    values: Mapping[str, Any]
    scores: Sequence[float]


def save_sweep(points: Sequence[SweepPoint], parameters: Sequence[str], path: Path) -> None:
    """Write a PNG: a dot for every score, a line through their means.

    Args:
        points: all runs; those without a score are left out.
        parameters: what makes points and lines; what else is varied is spread. The first with numbers is the axis.
        path: of the PNG.
    """
    axis = next((name for name in parameters if all(_is_number(one.values[name]) for one in points)), parameters[0])
    others = [name for name in parameters if name != axis]
    values = _distinct([one.values[axis] for one in points])
    positions, logarithmic = _places(values)
    numeric = all(map(_is_number, values))
    ticks = [f"{value:g}" if numeric else printable(str(value)) for value in values]
    lines = _lines(points, axis, others)
    with looks():
        figure = figure_of(6.4 if len(lines) < 2 else 8.0, 4.0)
        axes = figure.add_subplot()
        if logarithmic:
            axes.set_xscale("log", base=2)
        for number, (label, scores) in enumerate(list(lines.items())[:MAX_LINES]):
            known = {positions[_key(value)]: found for value, found in scores.values() if found}
            _draw_line(axes, number, label, known, joined=numeric)
        slant = {} if sum(map(len, ticks)) <= ROOM else {"rotation": 20, "ha": "right"}
        axes.set_xticks([positions[_key(value)] for value in values], ticks, **slant)
        axes.minorticks_off()
        axes.set_xlabel(printable(axis))
        axes.set_ylabel("Dice")
        axes.set_title(_said(points, lines), loc="left")
        if others:
            figure.legend(loc="outside right center", title=printable(", ".join(others)), fontsize=8)
        if not any(math.isfinite(score) for one in points for score in one.scores):
            figure.text(0.5, 0.5, "no score so far", ha="center")
            axes.set_ylim(0, 1)
        write_figure(figure, path)


def _lines(
    points: Sequence[SweepPoint], axis: str, others: Sequence[str]
) -> dict[str, dict[str, tuple[Any, list[float]]]]:
    """Label of a line -> its values on the axis, each with all its scores."""
    lines: dict[str, dict[str, tuple[Any, list[float]]]] = {}
    for point in points:
        label = ", ".join(f"{point.values[name]}" for name in others)
        value = point.values[axis]
        found = lines.setdefault(label, {}).setdefault(_key(value), (value, []))[1]
        found += [score for score in point.scores if math.isfinite(score)]
    return lines


def _places(values: Sequence[Any]) -> tuple[dict[str, float], bool]:
    """Where each value stands on the axis, and whether the axis is logarithmic."""
    if not all(map(_is_number, values)):
        return {_key(value): float(at) for at, value in enumerate(values)}, False
    logarithmic = min(values) > 0 and max(values) >= WIDE * min(values)
    return {_key(value): float(value) for value in values}, logarithmic


def _draw_line(axes: Any, number: int, label: str, scores: Mapping[float, Sequence[float]], *, joined: bool) -> None:
    """Dots, means with standard deviations, and a line where there is something between two values."""
    color, style = PALETTE[-1 - number % len(PALETTE)], LINE_STYLES[number // len(PALETTE) % len(LINE_STYLES)]
    places = sorted(scores)
    for x in places:
        axes.plot([x] * len(scores[x]), scores[x], ".", color=color, alpha=0.45, markersize=5)
    axes.errorbar(
        places,
        [statistics.fmean(scores[x]) for x in places],
        [statistics.stdev(scores[x]) if len(scores[x]) > 1 else 0.0 for x in places],
        color=color, linestyle=style if joined else "none", linewidth=1.6, marker=MARKERS[number % len(MARKERS)],
        markersize=5, capsize=3, label=printable(label),
    )  # fmt: skip


def _said(points: Sequence[SweepPoint], lines: Mapping[str, Mapping[str, tuple[Any, list[float]]]]) -> str:
    repeated = any(len(found) > 1 for line in lines.values() for _, found in line.values())
    spread = ", mean and standard deviation over repetitions" if repeated else ""
    hidden = f"; {counted(len(lines) - MAX_LINES, 'line')} not shown" if len(lines) > MAX_LINES else ""
    return f"Dice of {counted(len(points), 'run')}{spread}{hidden}"


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({_key(value): value for value in values}.values())


def _key(value: Any) -> str:
    """Values of a recipe may be lists and mappings, which are not keys."""
    return repr(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
