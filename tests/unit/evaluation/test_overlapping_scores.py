"""Scores and rules of classes that may overlap are those of each class alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pocketseg.data import Case
from pocketseg.errors import DataError
from pocketseg.evaluation import MetricConfig, Prediction, choose_rules
from pocketseg.evaluation.choose import FEWEST_GROUPS
from pocketseg.evaluation.scores import _check_shapes, score_case
from pocketseg.metrics import class_overlaps, overlap
from pocketseg.pipeline import Postprocess

CASE = Case("c", None, (), group="g", spacing_mm=(1.0, 0.5))


def test_rows_are_those_of_single_classes():
    rng = np.random.default_rng(0)
    reference, mask, plain = (rng.random((3, 2, 12, 9)) < 0.4).astype(np.uint8)
    probability = rng.random((12, 9, 2)).astype(np.float32)
    config = MetricConfig(("dice", "hd95", "lesion_f1"), 2.0, 0.1)
    rows = score_case(CASE, reference, Prediction(mask, probability, plain), ["organ", "tumor"], config)
    assert [row.class_name for row in rows] == ["organ", "tumor"]
    for at, row in enumerate(rows):
        found = Prediction(mask[at], probability[:, :, at : at + 1], plain[at])
        (alone,) = score_case(CASE, reference[at], found, [row.class_name], config)
        assert row == alone and 0 < row.dice < 1
    slowly = [overlap(mask[at] > 0, reference[at] > 0) for at in range(2)]
    assert class_overlaps(mask, reference, 2) == slowly


@pytest.mark.parametrize(("shape", "told"), [((12, 9), "of classes that exclude"), ((3, 12, 9), "of 3 classes")])
def test_masks_of_two_kinds_are_not_compared(shape, told):
    with pytest.raises(DataError, match=told):
        _check_shapes(CASE, np.zeros((2, 12, 9), np.uint8), np.zeros(shape, np.uint8))


def overlapping(seed):
    """An organ that is sure, and a tumor in it whose probabilities are all low, on some cases with smears."""
    rng = np.random.default_rng(seed)
    planes = np.zeros((2, 24, 24), np.uint8)
    planes[0, 3:20, 3:20] = 1
    planes[1, 8:14, 9:15] = 1
    probability = np.moveaxis(planes * np.array([0.9, 0.35])[:, None, None] + 0.04 * rng.random(planes.shape), 0, -1)
    if seed % 2:
        probability[21:23, 21:23, 1] = 0.33
    return probability.astype(np.float32), planes


def test_each_class_gets_a_threshold_of_its_own():
    cases = [(f"g{seed}", *overlapping(seed)) for seed in range(FEWEST_GROUPS)]
    auto = ("threshold", "min_pixels")
    choice = choose_rules(Postprocess(), auto, cases, ["organ", "tumor"], multilabel=True)
    organ, tumor = choice.rules.limits(2)
    assert organ == 0.5 and tumor in (0.2, 0.3)
    for at, limit in enumerate((organ, tumor)):
        alone = [(group, p[:, :, at : at + 1], planes[at]) for group, p, planes in cases]
        assert choose_rules(Postprocess(), ["threshold"], alone, ["one"]).rules.threshold == limit
    assert choice.rules.min_pixels > 4 or choice.dice > 0.98
    masks = [choice.rules(p, multilabel=True) for _, p, _ in cases]
    dice = [
        class_overlaps(mask, planes, 2)[at].dice
        for mask, (_, _, planes) in zip(masks, cases, strict=True)
        for at in (0, 1)
    ]
    assert choice.dice == pytest.approx(np.mean(dice))
    assert choice.mildest_dice < choice.dice


def test_too_few_groups_leave_the_thresholds():
    cases = [(f"g{seed}", *overlapping(seed)) for seed in range(6)]
    choice = choose_rules(Postprocess(), ["threshold", "min_peak"], cases, ["organ", "tumor"], multilabel=True)
    assert choice.rules == Postprocess()
    assert set(choice.left) == {"threshold of organ", "threshold of tumor", "min_peak"}


def test_fixed_thresholds_of_classes_are_kept_while_component_rules_are_chosen():
    cases = [(f"g{seed}", *overlapping(seed)) for seed in range(FEWEST_GROUPS)]
    start = Postprocess(thresholds=(0.5, 0.3))
    choice = choose_rules(start, ["min_pixels"], cases, ["organ", "tumor"], multilabel=True)
    assert choice.rules.thresholds == (0.5, 0.3)
    grid = [replace(choice.rules, min_pixels=size) for size in (choice.rules.min_pixels, 10_000)]
    kept = [
        np.mean([o.dice for _, p, r in cases for o in class_overlaps(rule(p, multilabel=True), r, 2)]) for rule in grid
    ]
    assert choice.dice == pytest.approx(kept[0]) and kept[1] == 0
