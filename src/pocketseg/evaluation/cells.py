"""Summaries as cells of tables, for the terminal and for reports."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pocketseg.evaluation import Comparison, Summary, class_means
from pocketseg.evaluation.compare import DICE_OFF, MISSED
from pocketseg.text import interval, number

SHORT_COLUMNS = [
    "part",
    "class",
    "cases",
    "Dice",
    "95 % interval",
    "IoU",
    "misses",
    "false alarms",
    "Dice with empty",
    "rules off",
    "at 90 % specificity",
]


def short_row(summary: Summary) -> list[str]:
    """The cells of SHORT_COLUMNS, for a terminal."""
    s = summary
    return [
        s.part, s.class_name, str(s.cases), number(s.dice), interval(s.dice_low, s.dice_high), number(s.iou),
        f"{s.misses} of {s.positive}", f"{s.false_alarms} of {s.negative}", number(s.dice_all),
        "–" if s.off is None else f"{number(s.off.dice)}, {s.off.misses} missed, {s.off.false_alarms} false",
        "–" if s.presence is None else f"{s.presence.missed} missed",
    ]  # fmt: skip


METRIC_COLUMNS = [
    "part", "class", "metric", "unit", "cases", "mean", "95 % interval", "median", "quartiles", "mean without misses",
]  # fmt: skip


def metric_rows(summaries: Sequence[Summary]) -> list[list[str]]:
    """The cells of METRIC_COLUMNS, one row a class and metric, and then the means of several classes."""
    means = [
        [row["part"], f"mean of {row['classes']} classes", row["metric"], row["unit"] or "–", "–", number(row["mean"])]
        for row in class_means(summaries)
    ]
    blank = ["–"] * 4
    return [row for summary in summaries for row in _metric_rows(summary)] + [[*row, *blank] for row in means]


def _metric_rows(summary: Summary) -> list[list[str]]:
    return [
        [
            summary.part, summary.class_name, name, each.unit or "–", str(each.count), number(each.mean),
            interval(each.low, each.high), number(each.median), interval(each.lower_quartile, each.upper_quartile),
            number(each.mean_found),
        ]
        for name, each in summary.metrics.items()
    ]  # fmt: skip


def metric_cells(summary: Summary) -> list[tuple[str, str]]:
    """Title and mean of each metric that a summary has besides Dice, for the table beside the runs."""
    return [
        (f"{name} [{each.unit}]" if each.unit else name, "" if math.isnan(each.mean) else f"{each.mean:.4f}")
        for name, each in summary.metrics.items()
        if name != "dice"
    ]


METRIC_NAMES = {DICE_OFF: "dice, rules off", MISSED: "missed at 90 % specificity"}


def metric_name(found: Comparison) -> str:
    """How a table calls the metric of a comparison, and what it is for."""
    name = METRIC_NAMES.get(found.metric, found.metric)
    return f"{name} ({found.role})" if found.role else name


COMPARISON_COLUMNS = [
    "class", "metric", "unit", "cases", "groups", "difference", "95 % interval", "permutation p", "Wilcoxon p",
    "effect",
]  # fmt: skip


def comparison_row(found: Comparison) -> list[str]:
    """The cells of COMPARISON_COLUMNS."""
    d = found.difference
    return [
        found.class_name, metric_name(found), found.unit or "–", str(d.cases), str(d.groups), number(d.mean),
        interval(d.low, d.high), number(d.permutation_p), number(d.p_value), number(d.effect),
    ]  # fmt: skip
