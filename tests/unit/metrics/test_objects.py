"""Objects found and kept apart, against counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracle import most_pairs, objects
from oracle import rand as counted_rand

from pocketseg.metrics import Detection, components, detect, free_response, rand, rand_of_masks

masks = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)
labels = hnp.array_shapes(min_dims=1, max_dims=3, max_side=4).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.int32, shape, elements=st.integers(0, 3))] * 2)
)


@given(masks, st.sampled_from([0.01, 0.1, 0.25, 0.5, 1.0]))
def test_pairs_are_as_many_as_can_be(pair, min_iou):
    found = detect(*pair, min_iou=min_iou)
    matched, ours, theirs = most_pairs(*pair, min_iou)
    assert (found.true_positive, found.false_positive, found.false_negative) == (
        matched,
        ours - matched,
        theirs - matched,
    )
    assert found.right.sum() == found.found.sum()
    other = detect(*pair[::-1], min_iou=min_iou)
    assert (other.true_positive, other.false_positive) == (found.true_positive, found.false_negative)
    assert sorted(found.sizes) == sorted(len(each) for each in objects(pair[1], diagonal=True))
    assert sorted(found.predicted_sizes) == sorted(len(each) for each in objects(pair[0], diagonal=True))


def test_noise_in_images_and_volumes_is_paired_like_the_oracle():
    rng = np.random.default_rng(0)
    several = 0
    for number in range(200):
        shape = (4, 5, 4) if number % 4 == 0 else (9, 10)
        reference = rng.random(shape) < 0.12
        prediction = reference ^ (rng.random(shape) < 0.08)
        found = detect(prediction, reference, min_iou=0.3)
        matched, ours, theirs = most_pairs(prediction, reference, 0.3)
        assert (found.true_positive, len(found.right), len(found.found)) == (matched, ours, theirs)
        several += matched > 2
    assert several > 50


@pytest.mark.parametrize(("predicted", "true", "ratio"), [(0, 0, math.nan), (1, 0, 0.0), (0, 1, 0.0), (1, 1, 1.0)])
def test_the_rule_for_empty_masks(predicted, true, ratio):
    found = detect(np.full((3, 3), bool(predicted)), np.full((3, 3), bool(true)))
    assert (found.precision, found.recall, found.f1) == pytest.approx((ratio, ratio, ratio), nan_ok=True)


def test_one_object_over_two_finds_one_of_them():
    reference = np.array([[1, 1, 1, 0, 1, 1]], bool)
    prediction = np.ones((1, 6), bool)
    found = detect(prediction, reference, min_iou=0.3)
    assert (found.true_positive, found.false_positive, found.false_negative) == (1, 0, 1)
    assert detect(prediction, reference, min_iou=0.6).true_positive == 0


def test_confidence_is_the_peak_inside_of_the_object():
    prediction = np.array([[1, 1, 0, 1]], bool)
    found = detect(prediction, prediction, probability=np.array([[0.6, 0.9, 0.99, 0.7]], np.float32))
    assert found.confidence.tolist() == pytest.approx([0.9, 0.7])
    assert detect(prediction, prediction).confidence.tolist() == [1, 1]


@pytest.mark.parametrize("min_iou", [0, -0.5, 1.5])
def test_an_impossible_iou_is_refused(min_iou):
    with pytest.raises(ValueError, match="min_iou"):
        detect(np.ones((2, 2), bool), np.ones((2, 2), bool), min_iou=min_iou)


@given(masks, st.booleans())
def test_components(pair, diagonal):
    found, count = components(pair[0], diagonal=diagonal)
    ours = {frozenset(map(tuple, np.argwhere(found == n).tolist())) for n in range(1, count + 1)}
    assert ours == {frozenset(each) for each in objects(pair[0], diagonal=diagonal)}


def detection(found, right, confidence) -> Detection:
    sizes = np.ones(max(len(found), len(right)), int)
    return Detection(np.array(found, bool), np.array(right, bool), np.array(confidence, float), sizes, sizes)


def test_free_response_over_two_images():
    curve = free_response([
        detection([True, True, False], [True, False, True], [0.9, 0.8, 0.5]),
        detection([True], [False, True], [0.9, 0.6]),
    ])  # fmt: skip
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.6, 0.5]
    assert curve.false_positives.tolist() == [0.5, 1.0, 1.0, 1.0]
    assert curve.sensitivity.tolist() == [0.25, 0.25, 0.5, 0.75]
    assert (curve.at(0.4), curve.at(0.5), curve.at(8)) == (0, 0.25, 0.75)
    assert curve.score == pytest.approx((0 + 0 + 0.25 + 4 * 0.75) / 7)


def test_free_response_needs_an_object():
    with pytest.raises(ValueError, match="no reference has an object"):
        free_response([detection([], [False], [0.5])])


def test_free_response_of_nothing_found_is_zero():
    curve = free_response([detection([False], [], [])])
    assert curve.at(8) == curve.score == 0


@given(labels)
def test_rand_is_counting_pairs_of_pixels(pair):
    found = rand(*pair)
    if (pair[1] > 0).any():
        assert (found.index, found.split, found.merge) == pytest.approx(counted_rand(*pair), abs=1e-12)
        assert found.f_score == pytest.approx(2 / (1 / found.split + 1 / found.merge))
    else:
        assert all(math.isnan(each) for each in (found.index, found.split, found.merge, found.f_score))


def test_labels_are_only_names():
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 6, (20, 20)), rng.integers(1, 6, (20, 20))
    assert rand(a * 1000, b) == rand(a, b) == rand(a, 7 - b)
    assert rand(b, b).f_score == rand(b, b).index == 1


def test_a_gap_in_a_membrane_merges_two_cells():
    membrane = np.zeros((9, 9), bool)
    membrane[:, 4] = True
    torn = membrane.copy()
    torn[4, 4] = False
    whole, merged = (rand_of_masks(each, membrane, membranes=True) for each in (membrane, torn))
    assert (whole.index, whole.f_score) == (1, 1)
    assert merged.split == 1 and merged.merge == pytest.approx(0.5)
    assert rand_of_masks(~torn, ~membrane) == merged


def test_a_diagonal_membrane_is_tight():
    membrane = np.eye(8, dtype=bool)
    assert components(~membrane, diagonal=False)[1] == 2
    assert rand_of_masks(np.zeros_like(membrane), membrane, membranes=True).merge < 0.6
