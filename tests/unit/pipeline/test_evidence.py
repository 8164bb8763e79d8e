"""The evidence of a map, against sorting it."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pocketseg.pipeline import evidence


def by_sorting(probability):
    """Mean of the highest thousandth, in steps of 2⁻²⁴."""
    steps = np.sort(np.rint(np.clip(probability, 0, 1) * np.float32(2**24)), axis=None)[::-1]
    return steps[: max(1, probability.size // 1000)].astype(np.int64).sum() / max(1, probability.size // 1000) / 2**24


@given(arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 70)), elements=st.floats(0, 1, width=32)))
def test_it_is_the_mean_of_the_highest(probability):
    assert evidence(probability) == pytest.approx(by_sorting(probability), abs=1e-12)


def test_no_order_of_the_pixels_changes_a_bit():
    values = np.random.default_rng(0).random((211, 97)).astype(np.float32)
    mixed = np.random.default_rng(1).permutation(values.ravel()).reshape(97, 211)
    assert evidence(values) == evidence(mixed) == evidence(values[::-1, ::-1])


def test_what_is_surer_has_more_and_a_single_pixel_is_not_all():
    flat = np.full((100, 100), 0.25, np.float32)
    spot, lesion = flat.copy(), flat.copy()
    spot[3, 4], lesion[10:20, 10:20] = 0.9, 0.9
    assert evidence(flat) < evidence(spot) < evidence(lesion) == pytest.approx(0.9, abs=1e-5)
    assert evidence(np.zeros((5, 5), np.float32)) == 0


def test_a_rounding_above_one_is_one():
    assert evidence(np.full((2, 2), np.nextafter(np.float32(1), np.float32(2)))) == 1


def test_maps_that_are_nearly_sure_everywhere_still_differ():
    """0.99999 and 0.999999 are a factor of ten in the odds."""
    maps = [np.full((40, 50), sure, np.float32) for sure in (0.99999, 0.999995, 0.999999, 0.9999999)]
    assert sorted(set(map(evidence, maps))) == list(map(evidence, maps))


def test_bands_of_a_large_map_change_nothing(monkeypatch):
    values = np.random.default_rng(2).random((64, 50)).astype(np.float32)
    whole = evidence(values)
    module = sys.modules["pocketseg.pipeline.evidence"]  # the package has the function by this name
    monkeypatch.setattr(module, "bands", lambda shape: [slice(at, at + 1) for at in range(64)])
    assert evidence(values) == whole == by_sorting(values)
