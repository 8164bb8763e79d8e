import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pocketseg.metrics import Overlap, overlap

pairs = hnp.array_shapes(min_dims=1, max_dims=3, max_side=8).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)
NONE, SOME = np.zeros((3, 4), bool), np.eye(3, 4, dtype=bool)


@pytest.mark.row("N18")
@given(pairs)
def test_against_sets_of_pixels(pair):
    prediction, reference = pair
    p, r = (set(zip(*np.nonzero(mask), strict=True)) for mask in pair)
    found = overlap(prediction, reference)
    assert (found.true_positive, found.false_positive, found.false_negative) == (len(p & r), len(p - r), len(r - p))
    if p or r:
        assert found.dice == pytest.approx(2 * len(p & r) / (len(p) + len(r)), abs=1e-12)
        assert found.iou == pytest.approx(len(p & r) / len(p | r), abs=1e-12)
        assert found.precision == pytest.approx(len(p & r) / len(p) if p else 0, abs=1e-12)
        assert found.recall == pytest.approx(len(p & r) / len(r) if r else 0, abs=1e-12)
    else:
        assert all(math.isnan(x) for x in (found.dice, found.iou, found.precision, found.recall))


@pytest.mark.row("N19")
@given(pairs)
def test_symmetry_and_bounds(pair):
    one, other = overlap(*pair), overlap(*pair[::-1])
    assert (one.true_positive, one.false_positive) == (other.true_positive, other.false_negative)
    if pair[0].any() or pair[1].any():
        assert one.dice == other.dice and one.iou == other.iou and one.precision == other.recall
        assert 0 <= one.iou <= one.dice <= 1
        assert one.dice == pytest.approx(2 * one.iou / (1 + one.iou))


@pytest.mark.row("N18")
@pytest.mark.parametrize(
    ("prediction", "reference", "outcome", "ratio"),
    [
        (NONE, NONE, "true negative", math.nan),
        (SOME, NONE, "false alarm", 0),
        (NONE, SOME, "miss", 0),
        (SOME, SOME, "scored", 1),
        (SOME, ~SOME, "scored", 0),
    ],
)
def test_the_rule_for_empty_masks(prediction, reference, outcome, ratio):
    found = overlap(prediction, reference)
    assert found.outcome == outcome
    for value in (found.dice, found.iou, found.precision, found.recall):
        assert value == pytest.approx(ratio, nan_ok=True)


@given(pairs)
def test_what_counts_the_background_too(pair):
    prediction, reference = pair
    found = overlap(prediction, reference)
    assert found.accuracy == pytest.approx((prediction == reference).mean())
    background = ~reference
    wanted = (~prediction & background).sum() / background.sum() if background.any() else math.nan
    assert found.specificity == pytest.approx(wanted, nan_ok=True)
    sizes = int(prediction.sum()), int(reference.sum())
    likeness = 1 - abs(sizes[0] - sizes[1]) / sum(sizes) if sum(sizes) else math.nan
    assert found.volume_similarity == pytest.approx(likeness, nan_ok=True)


def test_counts_are_python_numbers():
    found = overlap(SOME, SOME)
    assert type(found.true_positive) is type(found.false_positive) is int and type(found.dice) is float


def test_precision_is_not_recall():
    found = Overlap(true_positive=1, false_positive=3, false_negative=1, true_negative=5)
    assert (found.precision, found.recall, found.dice, found.iou) == (0.25, 0.5, 2 / 6, 0.2)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 1), (4, 3)])
def test_other_shapes_are_refused(shape):
    """NumPy would stretch some of them and count wrongly."""
    with pytest.raises(ValueError, match="one shape"):
        overlap(SOME, np.ones(shape, bool))
