"""Masks against references: one row a case and class, and a summary that hides no miss and no false alarm.

The rule for empty masks, written once. Shares such as Dice: a case whose reference is empty counts 1 in the mean over
all cases when nothing is predicted and 0 when something is (a false alarm); it is left out of the mean over positive
cases. A missed object counts 0 in both. Distances such as HD95: a miss counts the image's diagonal; a false alarm has
no distance, its area is reported instead. Both means are always given, with the numbers of misses and false alarms.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases
from pocketseg.errors import DataError, Problem, RunError
from pocketseg.evaluation.measures import MetricConfig, Pair, metric
from pocketseg.files import write_atomically, write_json
from pocketseg.layers import grid_of, layer, overlaps
from pocketseg.metrics import (
    Description,
    Detection,
    Outcome,
    Presence,
    bootstrap_interval,
    describe,
    diagonal,
    overlap,
    presence,
    with_empty,
)
from pocketseg.pipeline import Postprocess, evidence
from pocketseg.pipeline.intensity import check_contrasts
from pocketseg.predictors import Predictor
from pocketseg.tables import csv_rows, csv_text
from pocketseg.text import brief, counted, interval, number

ALWAYS = ("dice", "iou", "precision", "recall")
MIXED = "mm and px"
RULES_OFF = Postprocess()


@dataclass(frozen=True)
class Prediction:
    """What a model says of an image: a mask (`layers`), and where it has them probabilities (h, w, k).

    `plain` is the mask of the probabilities alone, at a threshold of 0.5 and without component rules.
    """

    mask: NDArray[np.uint8]
    probability: NDArray[np.float32] | None = None
    plain: NDArray[np.uint8] | None = None


# A case and its image to the prediction that is evaluated.
Respond = Callable[[Case, NDArray[np.generic]], Prediction]


def asking(predictor: Predictor) -> Respond:
    """A predictor's answers, the image seen once."""

    def respond(case: Case, image: NDArray[np.generic]) -> Prediction:
        if case.image.contrasts:
            check_contrasts(image.shape[-1], predictor.pipeline.channels, case.image.where)
        mask, probability = predictor.both(image, case.spacing_mm)
        off = predictor.pipeline.postprocess == RULES_OFF
        plain = mask if off else RULES_OFF(probability, multilabel=predictor.pipeline.multilabel)
        return Prediction(mask, probability, plain)

    return respond


@dataclass(frozen=True, repr=False)
class CaseScore:
    """How one class of one case was segmented; nan where a metric has no value.

    Attributes:
        case, group, label, class_name: what was evaluated.
        outcome: a miss and a false alarm are counted apart.
        dice, iou, precision, recall: nan where reference and prediction are both empty.
        reference_pixels, predicted_pixels: sizes.
        unit: of distances, mm where the case's spacing is known, else px.
        pixel_area: in mm², or 1.
        dice_off, outcome_off: with the rules off: threshold 0.5, no component rules; nan and empty where not known.
        evidence: how sure the map of probabilities is that anything is there (`pipeline.evidence`); nan of masks alone.
        more: the other metrics that were chosen, by name; distances of a miss are the image's diagonal.
        objects: what was found of the class's single objects, where a lesion metric was chosen; in no file of rows.
    """

    case: str
    group: str
    label: str
    class_name: str
    outcome: Outcome
    dice: float
    iou: float
    precision: float
    recall: float
    reference_pixels: int
    predicted_pixels: int
    unit: str = "px"
    pixel_area: float = 1.0
    dice_off: float = math.nan
    outcome_off: Outcome | Literal[""] = ""
    evidence: float = math.nan
    more: dict[str, float] = field(default_factory=dict)
    objects: Detection | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        return brief(self, f"{self.class_name} of {self.case}: {self.outcome}, Dice {number(self.dice)}")

    @property
    def values(self) -> dict[str, float]:
        """Every metric of the row by name."""
        return {name: getattr(self, name) for name in ALWAYS} | self.more


TEXTS = {"case", "group", "label", "class_name", "outcome", "unit", "outcome_off"}
COLUMNS = [each.name for each in fields(CaseScore) if each.name not in ("more", "objects")]


@dataclass(frozen=True)
class MetricSummary(Description):
    """A metric over the cases it has a value for.

    Attributes:
        unit: mm or px for distances, else nothing; "mm and px" where cases differ, and then no mean is made.
        mean_found: the mean over cases in which both masks have something: without the penalty for misses.
    """

    unit: str
    mean_found: float


@dataclass(frozen=True)
class RulesOff:
    """A summary with the rules off: threshold 0.5 and no component rules."""

    dice: float
    dice_low: float
    dice_high: float
    dice_all: float
    misses: int
    false_alarms: int


@dataclass(frozen=True, repr=False)
class Summary:
    """One class over all cases of a part. Intervals are 95 % BCa bootstrap intervals over groups.

    Attributes:
        metrics: every metric by name, over positive cases, or over all where that makes sense (`measures.METRICS`).
        false_alarm_area: mean area of the false alarms, in `area_unit`.
        off: the same with the rules off; None where it is not known, as of masks of another program.
        presence: how the evidence of the maps tells cases with an object from those without, at a specificity of 90 %;
            None where it is not known, or one of the two kinds is missing.
    """

    part: str
    class_name: str
    cases: int
    groups: int
    positive: int
    misses: int
    negative: int
    false_alarms: int
    dice: float
    dice_low: float
    dice_high: float
    dice_median: float
    iou: float
    precision: float
    recall: float
    dice_all: float
    dice_all_low: float
    dice_all_high: float
    false_alarm_area: float = math.nan
    area_unit: str = "px"
    metrics: dict[str, MetricSummary] = field(default_factory=dict)
    off: RulesOff | None = None
    presence: Presence | None = None

    def __repr__(self) -> str:
        dice = f"Dice {number(self.dice)} ({interval(self.dice_low, self.dice_high)})"
        errors = f"{self.misses} of {self.positive} missed, {self.false_alarms} of {self.negative} false alarms"
        return brief(self, f"{self.class_name}, {counted(self.cases, f'{self.part} case')}: {dice}, {errors}")


def score_cases(
    cases: Cases,
    part: Sequence[Case],
    respond: Respond,
    classes: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    config: MetricConfig | None = None,
) -> list[CaseScore]:
    """Evaluate a part of the data.

    Args:
        cases: the data set the part is of.
        part: the cases to evaluate.
        respond: gives the prediction to be evaluated.
        classes: names of the foreground classes.
        progress: called with (done, of) after each case.
        config: what to measure; default: `MetricConfig()`.

    Raises:
        DataError: every case that could not be predicted or whose mask has another size, reported together.
        EnvironmentProblem: a chosen metric needs SciPy, which is not installed.
    """
    rows: list[CaseScore] = []
    problems: list[Problem] = []
    for done, case in enumerate(part, start=1):
        try:
            reference = cases.mask(case)
            prediction = respond(case, cases.image(case))
            _check_shapes(case, reference, prediction.mask)
            rows += score_case(case, reference, prediction, classes, config or MetricConfig())
        except DataError as error:
            problems += error.about(case.image.where).problems
        if progress:
            progress(done, len(part))
    if problems:
        raise DataError.of(problems)
    return rows


def _check_shapes(case: Case, reference: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    """Raises: DataError: two masks that are not on one grid, or of which one alone has classes that may overlap."""
    if grid_of(mask) != grid_of(reference):
        sizes = ["{}×{}".format(*grid_of(each)) for each in (mask, reference)]
        what = f"the predicted mask is {sizes[0]}, the reference {sizes[1]}"
        raise DataError(case.name, what, "predict at the image's own size")
    if mask.shape != reference.shape:
        kinds = [
            f"of {counted(len(each), 'class[|es]')} that may overlap" if overlaps(each) else "of classes that exclude"
            for each in (mask, reference)
        ]
        what = f"the predicted mask is {kinds[0]}, the reference {kinds[1]}"
        raise DataError(case.name, what, "set data.multilabel and data.classes as for the prediction")


def score_case(
    case: Case, reference: NDArray[np.uint8], prediction: Prediction, classes: Sequence[str], config: MetricConfig
) -> list[CaseScore]:
    """A row for each class of a case; masks are of one kind and size."""
    return [_score(case, reference, prediction, index, name, config) for index, name in enumerate(classes, start=1)]


def _score(
    case: Case, reference: NDArray[np.uint8], prediction: Prediction, index: int, name: str, config: MetricConfig
) -> CaseScore:
    probability = None if prediction.probability is None else prediction.probability[:, :, index - 1]
    own = layer(reference, index)
    pair = Pair(layer(prediction.mask, index), own, probability, case.spacing_mm, config)
    found = pair.overlap
    off = None if prediction.plain is None else overlap(layer(prediction.plain, index), own)
    return CaseScore(
        case=case.name,
        group=case.group,
        label=case.label or "",
        class_name=name,
        outcome=found.outcome,
        dice=found.dice,
        iou=found.iou,
        precision=found.precision,
        recall=found.recall,
        reference_pixels=found.true_positive + found.false_negative,
        predicted_pixels=found.true_positive + found.false_positive,
        unit="mm" if case.spacing_mm else "px",
        pixel_area=math.prod(case.spacing_mm) if case.spacing_mm else 1.0,
        dice_off=math.nan if off is None else off.dice,
        outcome_off="" if off is None else off.outcome,
        evidence=math.nan if probability is None else evidence(probability),
        more={name: _value(pair, name) for name in config.metrics if name not in ALWAYS},
        objects=pair.objects if any(name.startswith("lesion_") for name in config.metrics) else None,
    )


def _value(pair: Pair, name: str) -> float:
    """A metric by name, with the penalty where a distance has none."""
    wanted = metric(name)
    if wanted.kind == "distance" and pair.overlap.outcome != "scored":
        missed = pair.overlap.outcome == "miss"
        return diagonal(pair.reference.shape, pair.spacing) if missed else math.nan
    return wanted.value(pair)


def summarize(rows: Sequence[CaseScore], part: str) -> list[Summary]:
    """One summary a class, in the order the classes appear in."""
    names = dict.fromkeys(row.class_name for row in rows)
    return [_summary([row for row in rows if row.class_name == name], part, name) for name in names]


def _summary(rows: Sequence[CaseScore], part: str, name: str) -> Summary:
    positive = [row for row in rows if row.outcome in ("scored", "miss")]
    with_negatives = [with_empty(row.dice) for row in rows]
    all_low, all_high = bootstrap_interval(with_negatives, [row.group for row in rows])
    metrics = {name: _metric_summary(rows, name) for name in rows[0].values}
    units = {row.unit for row in rows}
    alarms = [row.predicted_pixels * row.pixel_area for row in rows if row.outcome == "false alarm"]
    return Summary(
        part=part,
        class_name=name,
        cases=len(rows),
        groups=len({row.group for row in rows}),
        positive=len(positive),
        misses=sum(row.outcome == "miss" for row in rows),
        negative=len(rows) - len(positive),
        false_alarms=len(alarms),
        dice=metrics["dice"].mean,
        dice_low=metrics["dice"].low,
        dice_high=metrics["dice"].high,
        dice_median=metrics["dice"].median,
        iou=metrics["iou"].mean,
        precision=metrics["precision"].mean,
        recall=metrics["recall"].mean,
        dice_all=_mean(with_negatives),
        dice_all_low=all_low,
        dice_all_high=all_high,
        false_alarm_area=_mean(alarms) if len(units) == 1 else math.nan,
        area_unit={"mm": "mm²", "px": "px"}[units.pop()] if len(units) == 1 else MIXED,
        metrics=metrics,
        off=_rules_off(rows),
        presence=presence([row.evidence for row in rows], [row.reference_pixels > 0 for row in rows]),
    )


def _rules_off(rows: Sequence[CaseScore]) -> RulesOff | None:
    if not all(row.outcome_off for row in rows):
        return None
    positive = [row for row in rows if row.outcome_off in ("scored", "miss")]
    found = describe([row.dice_off for row in positive], [row.group for row in positive])
    return RulesOff(
        dice=found.mean,
        dice_low=found.low,
        dice_high=found.high,
        dice_all=_mean([with_empty(row.dice_off) for row in rows]),
        misses=sum(row.outcome_off == "miss" for row in rows),
        false_alarms=sum(row.outcome_off == "false alarm" for row in rows),
    )


def _metric_summary(rows: Sequence[CaseScore], name: str) -> MetricSummary:
    chosen = _measured(rows, name)
    described = asdict(describe([row.values[name] for row in chosen], [row.group for row in chosen]))
    found = [row.values[name] for row in chosen if row.outcome == "scored"]
    return MetricSummary(**described, unit=_unit(rows, name), mean_found=_mean(found))


def _unit(rows: Sequence[CaseScore], name: str) -> str:
    """The unit of a metric, which only distances have; `MIXED` where they are of different ones."""
    units = {row.unit for row in rows} if metric(name).kind == "distance" else {""}
    return units.pop() if len(units) == 1 else MIXED


def _measured(rows: Sequence[CaseScore], name: str) -> list[CaseScore]:
    """The rows that a metric's mean is over; none where they are distances of different units."""
    over = metric(name).over
    mixed = _unit(rows, name) == MIXED
    return [row for row in rows if not mixed and (over == "all" or row.outcome in ("scored", "miss"))]


def metric_means(rows: Sequence[CaseScore]) -> dict[str, float]:
    """The mean of each metric over the rows of one class, as a summary has it; what has no mean is left out."""
    means = {
        name: _mean([row.values[name] for row in _measured(rows, name)]) for name in (rows[0].values if rows else ())
    }
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def class_means(summaries: Sequence[Summary]) -> list[dict[str, Any]]:
    """The plain mean of the classes' means of each metric, one row a part and metric; empty for a single class.

    A class without a value is left out of the mean; `classes` counts those that have one.
    """
    table: list[dict[str, Any]] = []
    for part in dict.fromkeys(summary.part for summary in summaries):
        inside = [summary for summary in summaries if summary.part == part]
        for name in inside[0].metrics if len(inside) > 1 else ():
            means = [summary.metrics[name].mean for summary in inside]
            counted = sum(not math.isnan(mean) for mean in means)
            unit = inside[0].metrics[name].unit
            table.append({"part": part, "metric": name, "unit": unit, "classes": counted, "mean": _mean(means)})
    return table


def write_scores(rows: Sequence[CaseScore], path: Path) -> None:
    """The per-case table as CSV; numbers keep all their digits, nan is an empty field."""
    write_table([_flat(row) for row in rows], path)


def _flat(row: CaseScore) -> dict[str, Any]:
    return {name: getattr(row, name) for name in COLUMNS} | row.more


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Rows of one form as CSV; nan is an empty field."""
    columns = list(rows[0]) if rows else []
    cells = [["" if _is_nan(row[column]) else row[column] for column in columns] for row in rows]
    write_atomically(path, csv_text([columns, *cells]))


def read_scores(path: Path) -> list[CaseScore]:
    """The rows that `write_scores` wrote."""
    columns, *rows = csv_rows(path.read_bytes().decode("utf-8", "surrogateescape")) or [[]]
    return [_row(dict(zip(columns, cells, strict=True))) for cells in rows if cells]


def scores_in(path: Path) -> list[CaseScore]:
    """Rows of an evaluation, from its table or its folder.

    Raises:
        DataError: it does not exist, or is not a table of cases.
    """
    file = path / "cases.csv" if path.is_dir() else path
    try:
        rows = read_scores(file)
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})" if file.exists() else "does not exist"
        raise DataError(str(file), what, "give the cases.csv of an evaluation, or its folder") from None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            str(file), f"is not a table of cases ({error})", "give the cases.csv of an evaluation"
        ) from error
    if not rows:
        raise DataError(str(file), "holds no case", "give the cases.csv of an evaluation")
    return rows


def _row(cells: Mapping[str, str]) -> CaseScore:
    parsed = {key: _parsed(key, value) for key, value in cells.items()}
    more = {key: parsed.pop(key) for key in list(parsed) if key not in COLUMNS}
    return CaseScore(**parsed, more=more)


def write_summaries(summaries: Iterable[Summary], path: Path) -> None:
    """Summaries as JSON; nan becomes null."""
    plain = [_with_null(asdict(summary)) for summary in summaries]
    write_json(path, plain)


def read_summaries(path: Path) -> list[Summary]:
    """The summaries that `write_summaries` wrote; those of version 0.1 have no `metrics`.

    Raises:
        RunError: the file is damaged.
    """
    try:
        return [_summary_of(row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RunError(str(path), f"is damaged ({error})", "remove it, and --resume evaluates again") from error


def _summary_of(row: dict[str, Any]) -> Summary:
    metrics = {name: MetricSummary(**_with_nan(each)) for name, each in row.pop("metrics", {}).items()}
    off, present = row.pop("off", None), row.pop("presence", None)
    return Summary(
        **_with_nan(row),
        metrics=metrics,
        off=None if off is None else RulesOff(**_with_nan(off)),
        presence=None if present is None else Presence(**present),
    )


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_null(each) for key, each in value.items()}
    return None if _is_nan(value) else value


def _with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None else value for key, value in row.items()}


def _parsed(key: str, value: str) -> Any:
    if key.endswith("_pixels"):
        return int(value)
    if key in TEXTS:
        return value
    return float(value) if value else math.nan


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
