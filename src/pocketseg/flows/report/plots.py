"""The curves of a report: how Dice is spread, what size and threshold do to it, how right probabilities are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pocketseg.flows.report.evaluated import EvaluatedModel
from pocketseg.flows.report.measurements import THRESHOLDS, Curves
from pocketseg.flows.report.tables import Measured
from pocketseg.reporting import Axis, Cell, Chart, Column, Series, Table, histogram, reliability
from pocketseg.text import counted

POSITIVE = ("scored", "miss")
Seen = Mapping[str, Sequence[Curves]]


def histograms(models: Sequence[EvaluatedModel]) -> list[Chart]:
    """How the Dice of each model is spread over cases with foreground."""
    found = [
        histogram(
            f"Spread of Dice, {model.name}", [row.dice if row.outcome in POSITIVE else math.nan for row in model.rows]
        )
        for model in models
    ]
    return [chart for chart in found if chart is not None]


def against_size(models: Sequence[EvaluatedModel]) -> Chart | None:
    """Dice of every case against the area of its reference."""
    series = [
        Series(
            model.name,
            sorted((row.reference_pixels * row.pixel_area, row.dice) for row in model.rows if row.outcome in POSITIVE),
            "dots",
        )
        for model in models
    ]
    if not any(one.points for one in series):
        return None
    unit = "mm²" if all(row.unit == "mm" for row in models[0].rows) else "px"
    said = "Dice of every case with foreground against the area of its reference; the table by size has the means."
    return Chart(
        "Dice against size of the object", said, Axis(f"area [{unit}]", log=True), Axis("Dice", 0.0, 1.0), series
    )


def calibration_chart(seen: Seen, part: str) -> Chart | None:
    """Whether a probability of 0.8 is right in eight of ten pixels."""
    bins, errors, cases = [], [], 0
    for name, curves in seen.items():
        for one in curves:
            if one.part == part:
                held = one.calibration.pixels > 0
                mean = one.calibration.probability[held] / one.calibration.pixels[held]
                share = one.calibration.positive[held] / one.calibration.pixels[held]
                bins.append((name, list(zip(mean.tolist(), share.tolist(), strict=True))))
                errors.append(f"{name} {one.calibration.expected_error:.3f}")
                cases = one.cases
    evaluated = counted(cases, f"{part} case")
    said = f"Calibration on {evaluated}. Expected calibration error: {', '.join(errors)}."
    note = f"All pixels of {evaluated} in ten bins; below the dotted line a model is too sure of itself."
    return reliability("Calibration", bins, said, note)


def calibration_table(seen: Seen) -> Table:
    columns = [
        Column("model"), Column("part"), Column("cases"), Column("expected calibration error"), Column("largest error"),
        Column("Brier score"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            name,
            one.part,
            one.cases,
            one.calibration.expected_error,
            one.calibration.largest_error,
            one.calibration.brier,
        ]
        for name, curves in seen.items()
        for one in curves
    ]
    return Table("Calibration in numbers", columns, rows, "0 is perfect; of pixels, all classes together.")


def threshold_chart(seen: Seen, chosen: Mapping[str, float]) -> Chart | None:
    """Mean Dice against the threshold, on validation where it is chosen; the evaluated part shows whether it holds."""
    series = [
        Series(name if len(seen) > 1 else one.part, list(zip(THRESHOLDS, one.dice, strict=True)))
        for name, curves in seen.items()
        for one in curves
        if one.dice and (len(seen) == 1 or one.part == "validation")
    ]
    if not series:
        return None
    best = ", ".join(f"{one.name} at {max(one.points, key=lambda point: point[1])[0]:g}" for one in series)
    used = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
    (first, *others) = set(chosen.values())
    mark = None if others else (first, f"threshold {first:g}")
    said = f"Mean Dice of cases with foreground against the threshold. Highest: {best}. In use: {used}."
    where = "On validation cases, b" if len(seen) > 1 else "B"
    note = f"{where}efore component rules. In use: {used}, chosen without the test part."
    return Chart("Dice against threshold", said, Axis("threshold", 0.0, 1.0), Axis("Dice"), series, mark, note)


def score_words(one: Measured) -> tuple[str, str, str]:
    """The Dice of a model for the top of the page."""
    dice, interval = one.dice()
    number = "–" if math.isnan(dice) else f"{dice:.3f}"
    described = (
        "mean of classes" if math.isnan(interval.low) else f"95 % interval {interval.low:.3f} to {interval.high:.3f}"
    )
    return f"Mean Dice, {one.model.part}", number, described
