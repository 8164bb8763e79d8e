"""Summaries as cells, for the terminal and for the report."""

from __future__ import annotations

import math

from pocketseg.evaluation import Summary

RESULT_COLUMNS = [
    "fold", "part", "class", "cases", "groups", "Dice", "95 % interval", "median", "IoU", "precision", "recall",
    "misses", "false alarms", "Dice with empty", "95 % interval (with empty)",
]  # fmt: skip


def result_row(summary: Summary) -> list[str]:
    """A summary as the cells of RESULT_COLUMNS, without the fold."""
    s = summary
    return [
        s.part, s.class_name, str(s.cases), str(s.groups), number(s.dice), interval(s.dice_low, s.dice_high),
        number(s.dice_median), number(s.iou), number(s.precision), number(s.recall), f"{s.misses} of {s.positive}",
        f"{s.false_alarms} of {s.negative}", number(s.dice_all), interval(s.dice_all_low, s.dice_all_high),
    ]  # fmt: skip


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
]


def short_row(summary: Summary) -> list[str]:
    """The cells of SHORT_COLUMNS, for a terminal."""
    s = summary
    return [
        s.part, s.class_name, str(s.cases), number(s.dice), interval(s.dice_low, s.dice_high), number(s.iou),
        f"{s.misses} of {s.positive}", f"{s.false_alarms} of {s.negative}", number(s.dice_all),
    ]  # fmt: skip


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def interval(low: float, high: float) -> str:
    return "–" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
