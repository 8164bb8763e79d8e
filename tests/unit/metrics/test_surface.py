"""Surface metrics against brute force on ten thousand small masks, and what must hold for any pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracle import surface_metrics

from pocketseg.metrics import diagonal, overlap, surface_distances, surface_pixels
from pocketseg.metrics.surface import SurfaceDistances

MASKS = 10_000
NONE, SOME = np.zeros((5, 7), bool), np.pad(np.ones((2, 3), bool), ((1, 2), (3, 1)))


def random_mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Empty, full, one pixel, a box, or noise of some density."""
    kind = rng.integers(8)
    mask = np.zeros(shape, bool)
    if kind == 0:
        return mask
    if kind == 1:
        return ~mask
    if kind == 2:
        mask[tuple(rng.integers(shape))] = True
        return mask
    if kind in (3, 4):
        ends = [np.sort(rng.integers(0, size + 1, 2)) for size in shape]
        mask[tuple(slice(*end) for end in ends)] = True
        return mask
    return rng.random(shape) < rng.choice([0.05, 0.3, 0.7, 0.95])


def measured(found: SurfaceDistances, tolerance: float) -> dict[str, float]:
    return {
        "hd": found.hd,
        "hd95": found.hd95,
        "asd": found.asd,
        "assd": found.assd,
        "nsd": found.surface_dice(tolerance),
        "bf1": found.boundary_f1(tolerance),
    }


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-9


@pytest.mark.row("N18")
@pytest.mark.parametrize(("reach", "sparse"), [(3, 0.2), (1, math.inf), (0, math.inf), (0, 0)])
def test_ten_thousand_small_masks_equal_the_oracle(reach, sparse, monkeypatch):
    """Anisotropic spacing, images and volumes, all combinations of empty masks; every way to find the nearest pixel."""
    monkeypatch.setattr("pocketseg.metrics.surface.REACH", reach)
    monkeypatch.setattr("pocketseg.metrics.surface.SPARSE", sparse)
    rng = np.random.default_rng([reach, int(sparse > 1)])
    outcomes = dict.fromkeys(("scored", "miss", "false alarm", "true negative"), 0)
    for number in range(MASKS // 4):
        shape = tuple(rng.integers(1, 5, 3) if number % 10 == 0 else rng.integers(1, 9, 2))
        prediction, reference = random_mask(rng, shape), random_mask(rng, shape)
        spacing = tuple(rng.choice([0.1, 0.35, 1.0, 2.5], len(shape)))
        tolerance = float(rng.choice([0.0, 0.3, 1.0, 2.0]))
        ours = measured(surface_distances(prediction, reference, spacing), tolerance)
        theirs = surface_metrics(prediction, reference, spacing, tolerance)
        wrong = {name: (ours[name], theirs[name]) for name in ours if not same(ours[name], theirs[name])}
        assert not wrong, (number, wrong, prediction, reference, spacing, tolerance)
        outcomes[overlap(prediction, reference).outcome] += 1
    assert min(outcomes.values()) > 50, outcomes


sides = st.integers(1, 7)
steps = st.floats(0.1, 10)


@st.composite
def pairs(draw, empty=True):
    shape = draw(st.one_of(st.tuples(sides, sides), st.tuples(sides, sides, sides)))
    masks = [draw(hnp.arrays(bool, shape)) for _ in range(2)]
    if not empty:
        for mask in masks:
            mask[tuple(draw(st.integers(0, size - 1)) for size in shape)] = True
    return *masks, tuple(draw(steps) for _ in shape)


@pytest.mark.row("N19")
@given(pairs())
def test_symmetry(pair):
    prediction, reference, spacing = pair
    one, other = surface_distances(prediction, reference, spacing), surface_distances(reference, prediction, spacing)
    np.testing.assert_allclose(one.to_reference, other.to_prediction)
    a, b = measured(one, spacing[0]), measured(other, spacing[0])
    assert all(same(a[name], b[name]) for name in a if name != "asd"), (a, b)


@pytest.mark.row("N19")
@given(pairs(empty=False))
def test_a_mask_is_no_distance_from_itself(pair):
    mask, _, spacing = pair
    found = measured(surface_distances(mask, mask, spacing), 0.0)
    assert found == {"hd": 0, "hd95": 0, "asd": 0, "assd": 0, "nsd": 1, "bf1": 1}


@pytest.mark.row("N19")
@given(pairs(empty=False), st.integers(0, 40), st.integers(0, 40))
def test_moving_both_masks_changes_nothing(pair, before, after):
    prediction, reference, spacing = pair
    moved = [np.pad(mask, [(before, after)] * mask.ndim) for mask in (prediction, reference)]
    here, there = surface_distances(prediction, reference, spacing), surface_distances(*moved, spacing)
    assert measured(there, 2.0) == pytest.approx(measured(here, 2.0), abs=1e-9)


@pytest.mark.row("N19")
@given(pairs(empty=False), st.floats(0.01, 100))
def test_distances_scale_with_the_spacing(pair, factor):
    prediction, reference, spacing = pair
    small = measured(surface_distances(prediction, reference, spacing), 1.5)
    large = measured(surface_distances(prediction, reference, tuple(factor * s for s in spacing)), 1.5 * factor)
    for name in ("hd", "hd95", "asd", "assd"):
        assert large[name] == pytest.approx(factor * small[name], rel=1e-9, abs=1e-9)
    assert (large["nsd"], large["bf1"]) == pytest.approx((small["nsd"], small["bf1"]))


@pytest.mark.row("N19")
@given(pairs(empty=False))
def test_order_of_the_measures(pair):
    prediction, reference, spacing = pair
    found = surface_distances(prediction, reference, spacing)
    assert max(found.asd, found.assd, found.hd95) <= found.hd * (1 + 1e-12)
    assert found.hd < diagonal(prediction.shape, spacing)
    shares = [found.surface_dice(tolerance) for tolerance in (0.0, 0.5, 1.0, 5.0, found.hd)]
    assert shares == sorted(shares) and shares[-1] == 1
    assert found.boundary_f1(found.hd) == 1


@pytest.mark.row("N18")
@pytest.mark.parametrize(
    ("prediction", "reference", "distance", "share"),
    [(NONE, NONE, math.nan, math.nan), (SOME, NONE, math.inf, 0.0), (NONE, SOME, math.inf, 0.0)],
)
def test_the_rule_for_empty_masks(prediction, reference, distance, share):
    found = measured(surface_distances(prediction, reference), 100.0)
    assert [found[name] for name in ("hd", "hd95", "asd", "assd")] == pytest.approx([distance] * 4, nan_ok=True)
    assert [found[name] for name in ("nsd", "bf1")] == pytest.approx([share] * 2, nan_ok=True)


def test_hd95_takes_the_larger_direction():
    """One stray pixel in 40 is beyond the percentile of the prediction; pooled with the reference's it would vanish."""
    reference = np.zeros((3, 60), bool)
    reference[1, :10] = True
    prediction = reference.copy()
    prediction[1, 59] = True
    found = surface_distances(prediction, reference)
    assert found.hd == 50
    assert found.hd95 == pytest.approx(25)  # of 11 distances, half way between the 10th (0) and the 11th (50)
    assert found.asd == pytest.approx(50 / 11) and found.assd == pytest.approx(50 / 21)


def test_a_tolerance_is_inclusive_in_spite_of_rounding():
    prediction, reference = np.zeros((2, 9), bool), np.zeros((2, 9), bool)
    prediction[0, 5] = reference[0, 8] = True
    found = surface_distances(prediction, reference, (0.1, 0.1))  # 3 · 0.1 is more than 0.3 in floating point
    assert found.surface_dice(0.3) == found.boundary_f1(0.3) == 1
    assert found.surface_dice(0.299) == found.boundary_f1(0.299) == 0


def test_the_image_border_is_surface_and_corners_do_not_join():
    assert surface_pixels(np.ones((4, 4), bool)).sum() == 12
    hole = np.ones((5, 5), bool)
    hole[1, 1] = False
    assert not surface_pixels(hole)[2, 2]


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, math.nan), (1.0, math.inf), (1, 1, 1)])
def test_a_spacing_that_is_none_is_refused(spacing):
    with pytest.raises(ValueError, match="2 positive numbers"):
        surface_distances(SOME, SOME, spacing)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        surface_distances(SOME, SOME[:1])


def test_a_large_pair_as_in_practice():
    """Large enough that some partners are far, and that tree and transform are chosen as they should be."""
    y, x = np.mgrid[:200, :300]
    disc = np.hypot(y - 90, x - 140) < 70
    noise = np.random.default_rng(0).random(disc.shape) < 0.5
    for other in (np.roll(disc, 9, axis=1), noise):
        found = surface_distances(disc, other, (0.5, 0.25))
        ours, theirs = (np.argwhere(surface_pixels(mask)) * (0.5, 0.25) for mask in (disc, other))
        far = [np.sqrt(((point - theirs) ** 2).sum(axis=1).min()) for point in ours]
        np.testing.assert_allclose(found.to_reference, far, atol=1e-9)
