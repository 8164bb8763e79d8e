"""Masks against references: one row a case and class, and a summary that hides no miss and no false alarm.

The rule for empty masks, written once: a case whose reference is empty counts 1 in the mean over all cases when
nothing is predicted and 0 when something is (a false alarm); it is left out of the mean over positive cases. A missed
object counts 0 in both. Both means are always given, with the numbers of misses and false alarms.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases
from pocketseg.errors import DataError, Problem
from pocketseg.files import write_atomically
from pocketseg.metrics import Outcome, bootstrap_interval, overlap, with_empty

# A case and its image to class indices (h, w).
Masker = Callable[[Case, NDArray[np.generic]], NDArray[np.uint8]]


@dataclass(frozen=True)
class CaseScore:
    """How one class of one case was segmented; nan where reference and prediction are both empty."""

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


@dataclass(frozen=True)
class Summary:
    """One class over all cases of a part. Intervals are 95 % bootstrap intervals over groups."""

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


def score_cases(
    cases: Cases,
    part: Sequence[Case],
    masker: Masker,
    classes: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
) -> list[CaseScore]:
    """Judge a part of the data.

    Args:
        cases: the data set the part is of.
        part: the cases to judge.
        masker: gives the predicted mask of a case.
        classes: names of the foreground classes.
        progress: called with (done, of) after each case.

    Raises:
        DataError: every case that could not be predicted or whose mask has another size, told together.
    """
    rows: list[CaseScore] = []
    problems: list[Problem] = []
    for done, case in enumerate(part, start=1):
        try:
            truth = cases.mask(case)
            mask = masker(case, cases.image(case))
            if mask.shape != truth.shape:
                sizes = [f"{shape[0]}×{shape[1]}" for shape in (mask.shape, truth.shape)]
                what = f"the predicted mask is {sizes[0]}, the reference {sizes[1]}"
                raise DataError(case.name, what, "predict at the image's own size")
            rows += [_score(case, truth, mask, index, name) for index, name in enumerate(classes, start=1)]
        except DataError as error:
            problems += error.problems
        if progress:
            progress(done, len(part))
    if problems:
        raise DataError.of(problems)
    return rows


def _score(case: Case, truth: NDArray[np.uint8], mask: NDArray[np.uint8], index: int, name: str) -> CaseScore:
    found = overlap(mask == index, truth == index)
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
    )


def summarize(rows: Sequence[CaseScore], part: str) -> list[Summary]:
    """One summary a class, in the order the classes appear in."""
    names = dict.fromkeys(row.class_name for row in rows)
    return [_summary([row for row in rows if row.class_name == name], part, name) for name in names]


def _summary(rows: Sequence[CaseScore], part: str, name: str) -> Summary:
    positive = [row for row in rows if row.outcome in ("scored", "miss")]
    groups = [row.group for row in positive]
    dice = [row.dice for row in positive]
    with_negatives = [with_empty(row.dice) for row in rows]
    low, high = bootstrap_interval(dice, groups)
    all_low, all_high = bootstrap_interval(with_negatives, [row.group for row in rows])
    return Summary(
        part=part,
        class_name=name,
        cases=len(rows),
        groups=len({row.group for row in rows}),
        positive=len(positive),
        misses=sum(row.outcome == "miss" for row in rows),
        negative=len(rows) - len(positive),
        false_alarms=sum(row.outcome == "false alarm" for row in rows),
        dice=_mean(dice),
        dice_low=low,
        dice_high=high,
        dice_median=float(np.median(dice)) if dice else math.nan,
        iou=_mean([row.iou for row in positive]),
        precision=_mean([row.precision for row in positive]),
        recall=_mean([row.recall for row in positive]),
        dice_all=_mean(with_negatives),
        dice_all_low=all_low,
        dice_all_high=all_high,
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def write_scores(rows: Sequence[CaseScore], path: Path) -> None:
    """The per-case table as CSV; numbers keep all their digits, nan is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(CaseScore)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if _is_nan(value) else value for key, value in asdict(row).items()})
    write_atomically(path, text.getvalue())


def read_scores(path: Path) -> list[CaseScore]:
    """The rows that `write_scores` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [CaseScore(**{key: _parsed(key, value) for key, value in row.items()}) for row in csv.DictReader(file)]


def write_summaries(summaries: Iterable[Summary], path: Path) -> None:
    """Summaries as JSON; nan becomes null."""
    plain = [{key: None if _is_nan(value) else value for key, value in asdict(s).items()} for s in summaries]
    write_atomically(path, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def read_summaries(path: Path) -> list[Summary]:
    """The summaries that `write_summaries` wrote."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = [{key: math.nan if v is None else v for key, v in row.items()} for row in plain]
    return [Summary(**row) for row in rows]


def _parsed(key: str, value: str) -> Any:
    if key in ("dice", "iou", "precision", "recall"):
        return float(value) if value else math.nan
    return int(value) if key.endswith("_pixels") else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
