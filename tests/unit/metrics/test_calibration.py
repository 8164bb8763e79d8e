"""Calibration against sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pocketseg.metrics import calibration

cases = hnp.array_shapes(min_dims=1, max_dims=3, max_side=6).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32)), hnp.arrays(bool, shape), st.integers(1, 15)
    )
)


@given(cases)
def test_against_sums_by_hand(case):
    probability, reference, bins = case
    found = calibration(probability, reference, bins=bins)
    inside: dict[int, list[tuple[float, bool]]] = {}
    for p, y in zip(probability.ravel().tolist(), reference.ravel().tolist(), strict=True):
        inside.setdefault(min(math.floor(p * bins), bins - 1), []).append((p, y))
    errors = {n: abs(sum(p for p, _ in held) - sum(y for _, y in held)) / len(held) for n, held in inside.items()}
    total = probability.size
    assert found.expected_error == pytest.approx(sum(len(inside[n]) / total * e for n, e in errors.items()), abs=1e-9)
    assert found.largest_error == pytest.approx(max(errors.values()), abs=1e-9)
    brier = sum((p - y) ** 2 for held in inside.values() for p, y in held) / total
    assert found.brier == pytest.approx(brier, abs=1e-9)
    assert found.pixels.tolist() == [len(inside.get(n, [])) for n in range(bins)]


def test_certainty_lies_in_the_last_bin():
    found = calibration(np.array([1.0, 0.0, 0.95]), np.array([True, False, True]))
    assert found.pixels.tolist() == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.largest_error == pytest.approx(0.025)


def test_cases_add_up():
    rng = np.random.default_rng(0)
    probability, reference = rng.random((2, 50)), rng.random((2, 50)) < 0.3
    parts = [calibration(p, r) for p, r in zip(probability, reference, strict=True)]
    whole, summed = calibration(probability, reference), parts[0] + parts[1]
    assert (summed.brier, summed.expected_error) == pytest.approx((whole.brier, whole.expected_error))
    assert summed.pixels.tolist() == whole.pixels.tolist()


def test_a_model_that_knows_how_sure_it_is():
    """Reference drawn with the stated probability is calibrated; the same reference against bolder numbers is not."""
    rng = np.random.default_rng(1)
    probability = rng.random(200_000)
    reference = rng.random(probability.size) < probability
    assert calibration(probability, reference).expected_error < 0.005
    assert calibration(np.round(probability), reference).expected_error == pytest.approx(0.25, abs=0.01)


def test_sums_of_tiles_may_miss_one_a_little():
    assert calibration(np.array([1 + 3e-7, -2e-7]), np.array([True, False])).brier == 0


@pytest.mark.parametrize("value", [1.1, -0.1, math.nan, math.inf])
def test_what_is_no_probability_is_refused(value):
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration(np.array([0.5, value]), np.array([True, False]))
