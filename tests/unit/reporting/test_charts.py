"""Charts: the numbers that are drawn, and that they are drawn where they belong."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from pocketseg.reporting import (
    Axis,
    Chart,
    Interval,
    Rated,
    Series,
    curves_together,
    histogram,
    trade_off,
    training_charts,
)
from pocketseg.reporting.charts import best_epoch, front
from pocketseg.reporting.document import numbers
from pocketseg.reporting.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, decades, draw, legend, ticks

NOTHING = Interval(math.nan, math.nan)


def history(epochs: int = 4) -> list[dict[str, float]]:
    return [
        {"epoch": n, "lr": 1e-3, "loss": 1 / n, "bce": 0.5 / n, "val_loss": 1.2 / n, "val_dice": 1 - 1 / n}
        for n in range(1, epochs + 1)
    ]


def elements(chart: Chart, tag: str, look: str) -> list[dict[str, str]]:
    """The attributes of what is drawn with a class."""
    tree = ElementTree.fromstring(draw(chart, "c1"))
    return [one.attrib for one in tree.iter(tag) if look in one.attrib.get("class", "").split()]


def points(chart: Chart, look: str) -> list[tuple[float, float]]:
    [line] = elements(chart, "polyline", look)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line["points"].split())]


def test_curves_go_where_the_numbers_are() -> None:
    loss, scores, rate = training_charts(history())
    assert [one.name for one in loss.series] == ["training", "validation", "bce (part)"]
    assert (scores.title, rate.title) == ("Validation scores", "Learning rate")
    drawn = points(scores, "s0")
    # val_dice is 0, 1/2, 2/3, 3/4 on a scale from 0 (bottom) to 1 (top).
    shares = [(HEIGHT - BOTTOM - y) / (HEIGHT - BOTTOM - TOP) for _, y in drawn]
    assert shares == pytest.approx([0, 1 / 2, 2 / 3, 3 / 4], abs=0.01)
    assert drawn[0][0] == LEFT and drawn[-1][0] == WIDTH - RIGHT
    assert scores.mark == (4, "best epoch 4")


def test_every_line_of_a_student_has_a_look_of_its_own() -> None:
    rows = [row | {"dice": 0.4, "soft": 0.3, "hint": 0.2, "val_hint": 0.1} for row in history()]
    loss = training_charts(rows)[0]
    looks = [re.search(r"line (s\d)", line) for line, _ in legend(loss)]
    assert len(looks) == 7 == len({look.group(1) for look in looks if look})
    assert [name for _, name in legend(loss)] == [one.name for one in loss.series]


def test_gaps_break_a_line_and_lonely_points_are_dots() -> None:
    values = [0.1, 0.2, math.nan, 0.4, math.nan, math.nan, 0.7, 0.8]
    [chart] = training_charts([{"epoch": float(n), "val_dice": value} for n, value in enumerate(values)])
    assert [len(one["points"].split()) for one in elements(chart, "polyline", "s0")] == [2, 2]
    assert len(elements(chart, "path", "dot")) == 1


@pytest.mark.parametrize(
    "rows", [[], [{"epoch": 1.0, "loss": math.nan}], history(1), [{"epoch": 1.0, "loss": -2.0}], [{"loss": 3.0}]]
)
def test_short_and_broken_histories_are_drawn_without_nan(rows: list[dict[str, float]]) -> None:
    for chart in training_charts(rows):
        assert "nan" not in re.sub(r"<(title|desc).*?</\1>", "", draw(chart, "c"))


def test_best_epoch_is_the_first_of_the_highest() -> None:
    rows = [{"epoch": 1.0, "val_dice": math.nan}, {"epoch": 2.0, "val_dice": 0.5}, {"epoch": 3.0, "val_dice": 0.5}]
    assert best_epoch(rows) == (2.0, 0.5)
    assert best_epoch([]) is None and best_epoch([{"epoch": 1.0}]) is None


def test_bars_count_the_cases() -> None:
    chart = histogram("test", [0.0, 0.51, 0.52, 1.0, math.nan])
    assert chart is not None and chart.note == "1 without foreground left out"
    bars = elements(chart, "rect", "bar")
    heights = [float(bar["height"]) for bar in bars]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2) and heights[0] == heights[2] > 10
    assert all(float(bar["y"]) + float(bar["height"]) == pytest.approx(HEIGHT - BOTTOM, abs=0.1) for bar in bars)
    [mark] = elements(chart, "path", "mark")
    at = float(re.match(r"M([\d.]+)", mark["d"]).group(1))  # type: ignore[union-attr]
    assert at == pytest.approx(LEFT + 0.515 * (WIDTH - RIGHT - LEFT), abs=0.2)
    assert "median 0.515" in draw(chart, "c1")
    assert histogram("none", [math.nan]) is None


def test_the_front_holds_what_nothing_beats() -> None:
    some = [Rated(name, cost, dice, NOTHING) for name, cost, dice in (("a", 4, 0.9), ("b", 2, 0.7), ("c", 3, 0.6))]
    assert [one.name for one in front(some)] == ["b", "a"]
    alike = [Rated("worse", 2, 0.6, NOTHING), Rated("better", 2, 0.7, NOTHING), Rated("same", 3, 0.7, NOTHING)]
    assert [one.name for one in front(alike)] == ["better"], "more bytes for the same Dice is not a gain"


def test_dice_against_size_is_on_a_logarithmic_axis_with_names_and_intervals() -> None:
    some = [
        Rated("tiny", 10, 0.5, Interval(0.4, 0.6)),
        Rated("mid", 100, 0.4, NOTHING),
        Rated("big", 1000, 0.9, NOTHING),
    ]
    chart = trade_off("Dice against size", "KiB", some)
    assert chart is not None
    places = [float(re.match(r"M([\d.]+)", one["d"]).group(1)) for one in elements(chart, "path", "dot")]  # type: ignore
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2), "decades are equally far apart"
    assert len(elements(chart, "path", "whisker")) == 1
    assert len(points(chart, "front")) == 2
    assert "tiny (10.0, Dice 0.500), then big" in chart.said and "Beaten in both by another: mid" in chart.said
    assert all(f">{name}</text>" in draw(chart, "c1") for name in ("tiny", "mid", "big"))
    assert trade_off("one", "KiB", some[:1]) is None


def test_names_beside_points_do_not_cover_each_other() -> None:
    some = [Rated(f"model {n}", 100 + n / 10, 0.7 + n / 1000, NOTHING) for n in range(4)]
    some.append(Rated("far below", 100, 0.1, NOTHING))
    chart = trade_off("Dice", "KiB", some)
    assert chart is not None
    heights = sorted(float(one["y"]) for one in elements(chart, "text", "halo"))
    assert len(heights) == 5 and min(b - a for a, b in pairwise(heights)) >= 12


def test_numbers_hold_every_point() -> None:
    lines = Chart("t", "s", Axis("x"), Axis("y"), [Series("a", [(1, 5), (2, 6)]), Series("b", [(1, 7), (2, math.nan)])])
    assert [list(row[:2]) for row in numbers(lines).rows] == [["1", 5], ["2", 6]]
    assert [column.name for column in numbers(lines).columns] == ["x", "a", "b"]
    cloud = Chart(
        "t", "s", Axis("x"), Axis("y"), [Series("a", [(1, 5), (1, 6)], "dots"), Series("b", [(3, 7)], "dots")]
    )
    assert [tuple(row) for row in numbers(cloud).rows] == [("a", 1, 5), ("a", 1, 6), ("b", 3, 7)]
    rated = trade_off("t", "KiB", [Rated("a", 1, 0.5, Interval(0.4, 0.6)), Rated("b", 2, 0.6, NOTHING)])
    assert rated is not None
    assert [row[:3] for row in numbers(rated).rows] == [["a", 1, 0.5], ["b", 2, 0.6]]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 1e-5), (-3, 0), (0, 7e6), (0.99, 1.01)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 6 and low - 1e-9 <= found[0] and found[-1] <= high * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(("low", "high"), [(8, 13), (0.3, 0.9), (3, 60), (1, 1e6)])
def test_logarithmic_ticks_lie_inside(low: float, high: float) -> None:
    found = decades(low, high)
    assert 2 <= len(found) <= 9 and all(low <= value <= high for value in found)


def test_curves_of_several_trainings_lie_in_one_picture_and_are_smoothed():
    """Of 60 epochs, each point is the mean of 3: the one before, itself, the one behind."""
    rough = [{"epoch": float(n), "val_dice": 0.5 + 0.3 * (-1) ** n, "loss": 1.0} for n in range(1, 61)]
    flat = [{"epoch": float(n), "val_dice": 0.25} for n in range(1, 31)]
    dice, loss = curves_together({"a": rough, "b": flat})
    assert [one.name for one in dice.series] == ["a", "b"] and "3 epochs" in dice.note
    inner = [y for _, y in dice.series[0].points[1:-1]]
    assert inner == pytest.approx([0.4 + 0.2 * (n % 2 == 1) for n in range(2, 60)])
    assert dice.series[1].points == [(float(n), 0.25) for n in range(1, 31)]
    assert loss.series[0].points[7] == (8.0, 1.0) and not loss.series[1].points
    assert curves_together({"a": rough}) == []


def test_an_ignored_epoch_is_not_marked_as_the_best():
    rows = [{"epoch": float(n), "val_dice": value} for n, value in enumerate([0.9, 0.2, 0.5, 0.4], start=1)]
    (chart,) = training_charts(rows, ignored=1)
    assert chart.mark == (3.0, "best epoch 3")
