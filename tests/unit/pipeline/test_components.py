import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from pocketseg.pipeline.components import fill_holes, label_components

EIGHT = np.ones((3, 3), int)
FOUR = ndimage.generate_binary_structure(2, 1)

masks = st.one_of(
    hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)),
    hnp.arrays(bool, st.tuples(st.just(1), st.integers(1, 40))),
    hnp.arrays(bool, st.tuples(st.integers(1, 40), st.just(1))),
)


def dense_masks(draw_seed: int) -> np.ndarray:
    """Random masks of all densities; hypothesis prefers near-constant ones."""
    rng = np.random.default_rng(draw_seed)
    shape = rng.integers(1, 40, 2)
    return rng.random(shape) < rng.random()


def in_order_of_first_pixel(labels: np.ndarray) -> bool:
    seen = labels[labels > 0]
    _, first = np.unique(seen, return_index=True)
    return bool(np.all(np.diff(first) > 0))


def assert_like_scipy(mask: np.ndarray) -> None:
    for diagonal, structure in ((True, EIGHT), (False, FOUR)):
        expected, expected_count = ndimage.label(mask, structure)
        labels, count = label_components(mask, diagonal=diagonal)
        assert labels.dtype == np.int32 and labels.shape == mask.shape
        assert count == expected_count
        # Two labellings are one partition if the pairs (ours, theirs) are as many as the labels.
        pairs = np.unique(np.stack([labels.ravel(), expected.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(expected)) == len(np.unique(labels))
        assert np.array_equal(labels > 0, mask)
        assert in_order_of_first_pixel(labels)


@given(masks)
def test_labels_are_those_of_scipy(mask):
    assert_like_scipy(mask)


@pytest.mark.parametrize("seed", range(60))
def test_labels_are_those_of_scipy_at_every_density(seed):
    assert_like_scipy(dense_masks(seed))


@given(masks)
def test_holes_are_those_of_scipy(mask):
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("seed", range(60))
def test_holes_are_those_of_scipy_at_every_density(seed):
    mask = dense_masks(seed)
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


def test_a_spiral_is_one_component():
    """The label must travel the whole way: the worst case of passing labels along."""
    side = 101
    mask = np.zeros((side, side), bool)
    row = column = 0
    mask[0, 0] = True
    for turn, length in enumerate(n for n in range(side - 1, 1, -2) for _ in range(2)):
        step = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn % 4]
        for _ in range(length):
            row, column = row + step[0], column + step[1]
            if not (0 <= row < side and 0 <= column < side):
                break
            mask[row, column] = True
    assert mask.sum() > 1000
    assert_like_scipy(mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 7)])
def test_empty_and_full(shape):
    empty, full = np.zeros(shape, bool), np.ones(shape, bool)
    assert label_components(empty)[1] == 0 and not label_components(empty)[0].any()
    assert label_components(full)[1] == 1 and label_components(full)[0].all()
    assert not fill_holes(empty).any() and fill_holes(full).all()


def test_a_diagonal_curve_encloses_its_inside():
    """8-connected foreground leaves no gap for the 4-connected background."""
    diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    assert fill_holes(diamond)[1, 1] and fill_holes(diamond).sum() == 5


def test_the_input_is_left_alone():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    fill_holes(ring)
    assert not ring[1, 1]
