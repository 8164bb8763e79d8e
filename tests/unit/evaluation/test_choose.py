"""Rules chosen on validation: the sums over components agree with really applying the rules."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pocketseg.evaluation import choose_rules
from pocketseg.evaluation.choose import _measure
from pocketseg.metrics import overlap
from pocketseg.pipeline import Postprocess


def noisy_case(rng, lesion: bool):
    """Smooth probabilities with a lesion that peaks high, and smears that do not."""
    reference = np.zeros((40, 40), np.uint8)
    field = ndimage.gaussian_filter(rng.normal(size=(40, 40)), 2)
    probability = 0.35 + 0.3 * field / np.abs(field).max()
    if lesion:
        reference[10:22, 12:26] = 1
        probability += 0.6 * ndimage.gaussian_filter(reference.astype(float), 1.5)
    return np.clip(probability, 0.01, 0.99).astype(np.float32)[:, :, None], reference


@pytest.fixture
def cases():
    rng = np.random.default_rng(5)
    return [noisy_case(rng, lesion) for lesion in (True, True, False, True, False, False)]


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize(("threshold", "peak", "size", "keep"), [
    (0.5, 0.0, 0, "all"), (0.4, 0.6, 0, "all"), (0.4, 0.0, 20, "all"), (0.3, 0.7, 9, "largest"),
])  # fmt: skip
def test_measured_dice_is_that_of_the_mask(cases, threshold, peak, size, keep, fill):
    rules = Postprocess(threshold=threshold, min_peak=peak, min_pixels=size, keep=keep, fill_holes=fill)
    for probability, reference in cases:
        (measured,) = _measure(probability, reference, threshold, fill)
        expected = overlap(rules(probability) == 1, reference == 1).dice
        assert measured.dice(rules) == pytest.approx(1.0 if np.isnan(expected) else expected)


def test_false_alarms_are_removed_and_lesions_kept(cases):
    plain = Postprocess(threshold=0.3)
    chosen, dice = choose_rules(plain, ("threshold", "min_peak", "min_pixels"), cases)
    masks = [chosen(probability) for probability, _ in cases]
    assert [mask.any() for mask in masks] == [bool(reference.any()) for _, reference in cases]
    before = np.mean([overlap(plain(p) == 1, t == 1).dice for p, t in cases])
    assert dice > before + 0.2


def test_what_is_fixed_stays(cases):
    chosen, _ = choose_rules(Postprocess(threshold=0.45, keep="largest"), ("min_pixels",), cases)
    assert (chosen.threshold, chosen.keep, chosen.min_peak) == (0.45, "largest", 0.0)


def test_nothing_to_gain_keeps_the_mildest():
    reference = np.zeros((20, 20), np.uint8)
    reference[5:15, 5:15] = 1
    probability = np.where(reference, 0.999, 0.001).astype(np.float32)[:, :, None]
    chosen, dice = choose_rules(Postprocess(), ("threshold", "min_peak", "min_pixels"), [(probability, reference)])
    assert chosen == Postprocess()
    assert dice == 1.0


def test_a_rule_does_not_cost_objects_for_nothing():
    """Two rules within the tolerance: the one that finds more of what is there is taken."""
    reference = np.zeros((20, 20), np.uint8)
    reference[5:15, 5:15] = 1
    clear = (np.where(reference, 0.999, 0.001).astype(np.float32)[:, :, None], reference)
    faint = (np.where(reference, 0.85, 0.001).astype(np.float32)[:, :, None], reference)
    alarm = (np.where(reference, 0.86, 0.001).astype(np.float32)[:, :, None], reference * 0)
    # A peak of 0.9 removes one false alarm and one faint lesion: the same mean, but an object lost.
    chosen, _ = choose_rules(Postprocess(), ("min_peak",), [clear, clear, faint, alarm])
    assert chosen(faint[0]).any()


def square_of(value: float, *, lesion: bool):
    reference = np.zeros((20, 20), np.uint8)
    reference[5:15, 5:15] = 1
    return np.where(reference, value, 0.001).astype(np.float32)[:, :, None], reference * np.uint8(lesion)


def test_many_empty_cases_do_not_erase_what_is_found():
    """A net that has learned little: its false alarms in empty slices look like its findings."""
    lesions = [square_of(value, lesion=True) for value in (0.75, 0.8)]
    alarms = [square_of(0.78, lesion=False) for _ in range(20)]
    chosen, dice = choose_rules(Postprocess(), ("threshold", "min_peak", "min_pixels"), [*alarms, *lesions])
    assert all(chosen(probability).any() for probability, _ in lesions)
    assert dice == pytest.approx(2 / 22)
    # What tells them apart is still used.
    fainter = [square_of(0.65, lesion=False) for _ in range(20)]
    chosen, dice = choose_rules(Postprocess(), ("min_peak",), [*fainter, *lesions])
    assert dice == 1 and chosen.min_peak == 0.7


@pytest.mark.parametrize("lesion", [False, True])
def test_where_nothing_is_found_the_rules_stay_mild(lesion):
    alarms = [square_of(0.78, lesion=False) for _ in range(3)]
    missed = (np.full((20, 20, 1), 0.001, np.float32), np.eye(20, dtype=np.uint8) * np.uint8(lesion))
    assert choose_rules(Postprocess(), ("min_peak", "min_pixels"), [*alarms, missed])[0] == Postprocess()
