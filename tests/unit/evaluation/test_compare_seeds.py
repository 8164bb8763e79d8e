"""Comparisons of rows: which metrics, which of them counts first, and several seeds."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pocketseg.errors import DataError
from pocketseg.evaluation import CaseScore, compare_scores, compare_seeds
from pocketseg.evaluation.cells import comparison_row
from pocketseg.metrics import missed_difference, paired_difference, seeds_difference


def rows(seed, count=40, off=0.0, known=True):
    """Three of four cases have an object; the mask is found or not, the map is sure or not."""
    rng = np.random.default_rng(seed)
    found = []
    outcomes = ("clean", "scored") if known else ("", "")
    for at in range(count):
        there, dice = at % 4 > 0, float(rng.random())
        found.append(
            CaseScore(
                f"case{at}", f"g{at // 2}", "", "lesion", "scored" if there else "clean",
                dice if there else math.nan, dice, dice, dice, 50 if there else 0, 40,
                dice_off=dice + off if there else math.nan, outcome_off=outcomes[there],
                evidence=float(rng.normal(there)) if known else math.nan,
            )
        )  # fmt: skip
    return found


def positives(table, name):
    return [getattr(row, name) for row in table if row.reference_pixels]


def test_the_primary_and_the_safety_metric_stand_first():
    first, second = rows(0), rows(1, off=0.1)
    primary, safety, *others = compare_scores(first, second, "a", 0.3)
    assert (primary.metric, primary.role, primary.margin) == ("dice_off", "primary", 0.3)
    groups = [row.group for row in first if row.reference_pixels]
    assert primary.difference == paired_difference(positives(first, "dice_off"), positives(second, "dice_off"), groups)
    assert (safety.metric, safety.role, safety.margin) == ("missed_at_90", "safety", None)
    scores = [[row.evidence for row in table] for table in (first, second)]
    there, groups = [row.reference_pixels > 0 for row in first], [row.group for row in first]
    wanted = missed_difference([scores[0]], [scores[1]], there, groups)
    assert safety.difference.mean == wanted.mean and (safety.difference.low, safety.difference.high) == (
        wanted.low, wanted.high
    )  # fmt: skip
    assert [each.role for each in others] == [""] * 4 and not any(each.margin for each in others)
    assert comparison_row(safety)[1] == "missed at 90 % specificity (safety)" and "–" in comparison_row(safety)


def test_masks_alone_have_the_dice_as_it_is():
    found = compare_scores(rows(0, known=False), rows(1), "a", 0.02)
    assert [(each.metric, each.role, each.margin) for each in found[:2]] == [
        ("dice", "primary", 0.02),
        ("iou", "", None),
    ]


def test_seeds_count_together():
    first, second = {"a": rows(0), "b": rows(1)}, {"mine": rows(2), "c": rows(3), "d": rows(4)}
    primary, *_ = compare_seeds(first, second)
    values = [[positives(table, "dice_off") for table in model.values()] for model in (first, second)]
    groups = [row.group for row in first["a"] if row.reference_pixels]
    assert primary.difference == seeds_difference(*values, groups)


def test_every_seed_has_to_be_of_the_same_cases():
    with pytest.raises(DataError, match="c: was made on other cases"):
        compare_seeds({"a": rows(0)}, {"mine": rows(1), "c": rows(2)[:30]})
    other = rows(2)
    other[1] = replace(other[1], reference_pixels=7)
    with pytest.raises(DataError, match="b: has another reference for 'case1'"):
        compare_seeds({"a": rows(0), "b": other}, {"mine": rows(1)})
