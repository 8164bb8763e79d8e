"""Charts as SVG text: geometry, colors by class, a title and a description for those who do not see it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from pocketseg.reporting.document import Axis, Chart, Series

WIDTH, HEIGHT = 360, 216
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 40
# Letters of labels are about so wide and high, in units of the view box.
LETTER, LINE = 6.2, 13.0
LOOKS = 8
MARGIN = 0.06


@dataclass(frozen=True)
class Scale:
    """From numbers to places along one axis of the view box."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log10(self.low), math.log10(self.high), math.log10(value) if value > 0 else math.nan)
            if self.log
            else (self.low, self.high, value)
        )
        return round(self.start + (self.end - self.start) * (at - low) / (high - low), 1)

    def ticks(self, most: int, *, whole: bool) -> list[float]:
        """Round numbers along it."""
        return decades(self.low, self.high) if self.log else ticks(self.low, self.high, most, whole=whole)


def draw(chart: Chart, key: str) -> str:
    """The chart as an `svg` element; `key` makes its ids unique in a page."""
    x, y = scales(chart)
    name = escape(chart.title)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{key}-t {key}-d">',
        f'<title id="{key}-t">{name}</title><desc id="{key}-d">{escape(chart.said)}</desc>',
        *_axes(chart, x, y),
        *_mark(chart, x),
        *(piece for number, one in reversed(list(enumerate(chart.series))) for piece in _series(one, number, x, y)),
        *_labels(chart, x, y),
        "</svg>",
    ]
    return "\n".join(parts)


def key_line(number: int, series: Series) -> str:
    """How a series looks, for the legend."""
    if series.look == "dots":
        return f'<svg class="chartkey" viewBox="0 0 28 12" aria-hidden="true">{_dot(number, 14, 6, 3.5)}</svg>'
    return f'<svg class="chartkey" viewBox="0 0 28 12" aria-hidden="true"><path class="{_look(series, number)}" d="M2 6H26"/></svg>'  # noqa: E501


def legend(chart: Chart) -> list[tuple[str, str]]:
    """(SVG, name) of every series where a reader must tell some apart."""
    lines = [(number, one) for number, one in enumerate(chart.series) if one.look != "bars" and not one.labels]
    return [(key_line(number, one), one.name) for number, one in lines] if len(chart.series) > 1 else []


def scales(chart: Chart) -> tuple[Scale, Scale]:
    """Where the numbers of a chart lie."""
    points = [point for one in chart.series for point in one.points if math.isfinite(point[1])]
    bounds = [
        bound for one in chart.series for each in one.intervals for bound in (each.low, each.high) if bound == bound
    ]
    low, high = _ends(chart.x, [x for x, _ in points])
    bottom, top = _ends(chart.y, [y for _, y in points] + bounds)
    if any(one.labels for one in chart.series) and not chart.x.log:
        low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    return Scale(low, high, LEFT, WIDTH - RIGHT, chart.x.log), Scale(bottom, top, HEIGHT - BOTTOM, TOP, chart.y.log)


def _ends(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    """Both ends of an axis, never one number."""
    if axis.log:
        low, high = min(values), max(values)
        room = max(1.25, (high / low) ** (2 * MARGIN))
        return low / room, high * room
    low = axis.low if axis.low is not None else min(values)
    high = axis.high if axis.high is not None else max(values)
    if axis.low is None and axis.high is None and not axis.whole:
        room = MARGIN * (high - low)
        low, high = low - room, high + room
    return (low, high) if high > low else (low - (axis.low is None), low + 1)


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


def decades(low: float, high: float) -> list[float]:
    """Round numbers on a logarithmic axis: 1, 2 and 5 times powers of ten, only powers where there are many.

    Where hardly one of them lies inside, round numbers of any kind.

    Example:
        >>> decades(3, 60), decades(0.5, 20_000)
        ([5.0, 10.0, 20.0, 50.0], [1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    times = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    found = [float(f"{many * 10.0**power:.6g}") for power in powers for many in times]
    inside = [value for value in found if low <= value <= high]
    return inside if len(inside) > 1 else ticks(low, high, 4)


def _axes(chart: Chart, x: Scale, y: Scale) -> Iterator[str]:
    for tick in y.ticks(5 if not chart.y.whole else 4, whole=chart.y.whole):
        at = y(tick)
        yield f'<path class="grid" d="M{LEFT} {at:g}H{WIDTH - RIGHT}"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:g}" text-anchor="end">{tick:g}</text>'
    yield f'<path class="base" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
    for tick in x.ticks(5, whole=chart.x.whole):
        at = x(tick)
        yield f'<path class="base" d="M{at:g} {HEIGHT - BOTTOM}v4"/>'
        yield f'<text x="{at:g}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick:,g}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle:g}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x.label)}</text>'
    if chart.y.label:
        turn = f"translate(11 {(TOP + HEIGHT - BOTTOM) / 2:g}) rotate(-90)"
        yield f'<text transform="{turn}" text-anchor="middle">{escape(chart.y.label)}</text>'


def _mark(chart: Chart, x: Scale) -> Iterator[str]:
    if chart.mark is None:
        return
    at, label = x(chart.mark[0]), escape(chart.mark[1])
    yield f'<path class="mark" d="M{at:g} {TOP}V{HEIGHT - BOTTOM}"><title>{label}</title></path>'
    # Over lines the label would be hard to read; the description says it.
    if any(one.look == "bars" for one in chart.series):
        left = at > WIDTH / 2
        place = f'x="{at + (-6 if left else 6):g}" y="{TOP + 2}" text-anchor="{"end" if left else "start"}"'
        yield f'<text class="strong" {place}>{label}</text>'


def _look(series: Series, number: int) -> str:
    kind = series.look if series.look in ("front", "guide") else f"s{number % LOOKS}"
    return f"line {kind}"


def _series(series: Series, number: int, x: Scale, y: Scale) -> Iterator[str]:
    if series.look == "bars":
        yield from _bars(series, x, y)
        return
    for (at, _), interval in zip(series.points, series.intervals, strict=False):
        if interval.low == interval.low:
            yield f'<path class="whisker" d="M{x(at):g} {y(interval.low):g}V{y(interval.high):g}"/>'
    places = [(x(at), y(value)) if math.isfinite(value) else (math.nan, math.nan) for at, value in series.points]
    runs = _runs(places) if series.look != "dots" else [[place] for place in places if math.isfinite(place[1])]
    radius = 4.0 if series.labels else 2.6
    for run in runs:
        if len(run) > 1:
            yield f'<polyline class="{_look(series, number)}" points="{" ".join(f"{a:g},{b:g}" for a, b in run)}"/>'
        else:
            yield _dot(number, *run[0], radius)


def _dot(number: int, x: float, y: float, r: float) -> str:
    """A circle, square, diamond or triangle: shapes tell series apart where colors do not."""
    paths = (
        f"M{x - r:g} {y:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0z",
        f"M{x - r:g} {y - r:g}h{2 * r:g}v{2 * r:g}h{-2 * r:g}z",
        f"M{x:g} {y - 1.3 * r:g}l{1.3 * r:g} {1.3 * r:g}l{-1.3 * r:g} {1.3 * r:g}l{-1.3 * r:g} {-1.3 * r:g}z",
        f"M{x:g} {y - 1.2 * r:g}l{1.2 * r:g} {2.2 * r:g}h{-2.4 * r:g}z",
    )
    return f'<path class="dot s{number % LOOKS}" d="{paths[number % len(paths)]}"/>'


def _runs(places: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Places up to the next gap; one that stands alone is a dot."""
    runs: list[list[tuple[float, float]]] = [[]]
    for place in places:
        if math.isfinite(place[1]):
            runs[-1].append(place)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _bars(series: Series, x: Scale, y: Scale) -> Iterator[str]:
    edges = [at for at, _ in series.points] + [x.high]
    for (at, value), end in zip(series.points, edges[1:], strict=True):
        if value:
            left, top = x(at) + 0.5, y(value)
            size = f'width="{x(end) - left - 0.5:g}" height="{HEIGHT - BOTTOM - top:g}"'
            tip = f"{at:g} to {end:g}: {value:g}"
            yield f'<rect class="bar" x="{left:g}" y="{top:g}" {size}><title>{tip}</title></rect>'


def _labels(chart: Chart, x: Scale, y: Scale) -> Iterator[str]:
    """Names beside their points, pushed apart where they would cover each other."""
    taken: list[tuple[float, float, float]] = []
    for one in chart.series:
        named = sorted(zip(one.labels, one.points, strict=False), key=lambda pair: -pair[1][1])
        for label, (at, value) in named:
            wide = LETTER * len(label)
            left = x(at) + 8 + wide > WIDTH
            start = x(at) - 8 - wide if left else x(at) + 8
            place = y(value) + 4
            while any(abs(place - other) < LINE and start < b and a < start + wide for a, b, other in taken):
                place += 1
            taken.append((start, start + wide, place))
            anchor = f'x="{x(at) + (-8 if left else 8):g}" y="{place:g}" text-anchor="{"end" if left else "start"}"'
            yield f'<text class="strong halo" {anchor}>{escape(label)}</text>'
