"""The formulas of other programs, written out once more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial import distance
from scipy.spatial.distance import directed_hausdorff

from pocketseg.metrics import compat, surface_distances

NONE = np.zeros((4, 5), bool)
SOME = NONE.copy()
SOME[1:3, 1:4] = True


def random_pairs(count: int):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield tuple(rng.random((6, 7)) < rng.choice([0, 0.2, 0.8]) for _ in range(2))


@pytest.mark.parametrize(
    ("name", "empty", "miss", "exact"),
    [
        ("vaze2020_dice", 1.0, 1e-4 / (6 + 1e-4), 1.0),
        ("resnet18_unet_iou", math.nan, 0.0, 1.0),
        ("blu_net_iou", 0.0, 0.0, 6 / (6 + 1e-7)),
        ("blu_net_f1", 0.0, 0.0, 6 / (6 + 1e-7)),
        ("fixed_point_dice", 0.0, 0.0, 100.0),
        ("fixed_point_iou", 0.0, 0.0, 100.0),
        ("fixed_point_precision", 0.0, 0.0, 100.0),
        ("fixed_point_recall", 0.0, 0.0, 100.0),
        ("fixed_point_specificity", 100.0, 100.0, 100.0),
        ("fixed_point_accuracy", 100.0, 70.0, 100.0),
        ("fixed_point_rand_index", 1.0, 0.7, 1.0),
        ("fixed_point_hausdorff", 0.0, 0.0, 0.0),
        ("medpy_hd", math.nan, math.nan, 0.0),
        ("medpy_hd95", math.nan, math.nan, 0.0),
        ("medpy_asd", math.nan, math.nan, 0.0),
        ("medpy_assd", math.nan, math.nan, 0.0),
        ("monai_dice", math.nan, 0.0, 1.0),
        ("monai_iou", math.nan, 0.0, 1.0),
        ("monai_hd95", math.nan, math.nan, 0.0),
    ],
)
def test_empty_and_equal_masks(name, empty, miss, exact):
    function = compat.FUNCTIONS[name]
    found = [function(NONE, NONE), function(NONE, SOME), function(SOME, SOME)]
    assert found == pytest.approx([empty, miss, exact], rel=1e-9, abs=1e-15, nan_ok=True)


def test_every_function_is_in_the_table_above():
    assert len(compat.FUNCTIONS) == 19


def test_fixed_point_numbers_are_those_of_the_functions_it_called():
    for prediction, reference in random_pairs(60):
        dice = 100 * (1 - distance.dice(prediction.ravel(), reference.ravel())) if (prediction | reference).any() else 0
        assert compat.fixed_point_dice(prediction, reference) == pytest.approx(dice)
        rows = directed_hausdorff(prediction.astype(float), reference.astype(float))[0]
        assert compat.fixed_point_hausdorff(prediction, reference) == pytest.approx(rows)
        accuracy = float((prediction == reference).mean())
        assert compat.fixed_point_rand_index(prediction, reference) == pytest.approx(accuracy)
        assert compat.fixed_point_accuracy(prediction, reference) == pytest.approx(100 * accuracy)
        if not reference.all():
            right = float((~prediction & ~reference).sum() / (~reference).sum())
            assert compat.fixed_point_specificity(prediction, reference) == pytest.approx(100 * right)


def test_smoothing():
    prediction = np.zeros((4, 5), bool)
    prediction[1, 1:3] = True
    assert compat.vaze2020_dice(prediction, SOME) == pytest.approx((4 + 1e-4) / (8 + 1e-4), abs=1e-15)
    assert compat.blu_net_iou(prediction, SOME) == pytest.approx(2 / (6 + 1e-7), abs=1e-15)
    assert compat.blu_net_f1(prediction, SOME) == pytest.approx(2 / (4 + 1e-7), abs=1e-15)
    assert compat.resnet18_unet_iou(prediction, SOME) == 2 / 6
    assert compat.fixed_point_precision(prediction, SOME) == 100
    assert compat.fixed_point_recall(prediction, SOME) == pytest.approx(100 / 3)
    assert compat.fixed_point_iou(prediction, SOME) == pytest.approx(100 / 3)


def test_medpy_pools_the_directions_of_the_percentile_and_averages_means():
    reference = np.zeros((3, 60), bool)
    reference[1, :30] = True
    prediction = np.zeros((3, 60), bool)
    prediction[1, 0] = True
    found = surface_distances(prediction, reference)
    assert compat.medpy_hd(prediction, reference) == found.hd == 29
    # distances: 0 and 0, 1, … 29; the larger direction alone has its percentile at 0.95 · 29
    assert found.hd95 == pytest.approx(27.55)
    assert compat.medpy_hd95(prediction, reference) == pytest.approx(np.percentile([0, *range(30)], 95)) == 27.5
    assert compat.medpy_asd(prediction, reference) == 0
    assert compat.medpy_assd(prediction, reference) == pytest.approx(14.5 / 2)
    assert found.assd == pytest.approx(435 / 31)
