"""Dice at many thresholds from one pass: the same as asking at each of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pocketseg.metrics import dice_at_thresholds, overlap

THRESHOLDS = [0.05, 0.3, 0.5, 0.7, 0.95]


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_one_overlap_a_threshold(seed):
    rng = np.random.default_rng(seed)
    # Some probabilities lie on a threshold, which counts as foreground.
    probability = rng.choice(np.linspace(0, 1, 21), (9, 11)).astype(np.float32)
    reference = rng.random((9, 11)) < rng.choice([0.0, 0.3])
    found = dice_at_thresholds(probability, reference, THRESHOLDS)
    for dice, threshold in zip(found, THRESHOLDS, strict=True):
        wanted = overlap(probability >= threshold, reference)
        empty = not reference.any() and not (probability >= threshold).any()
        assert math.isnan(dice) if empty else dice == pytest.approx(wanted.dice, abs=1e-12), (seed, threshold)


def test_both_empty_has_no_value():
    assert math.isnan(dice_at_thresholds(np.zeros((2, 2)), np.zeros((2, 2), bool), [0.5])[0])
