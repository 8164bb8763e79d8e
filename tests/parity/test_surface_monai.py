"""Surface metrics and calibration against MONAI on random masks.

Where the definitions agree (MONAI 1.6): the surface, the 95th percentile of each direction with the larger of the two,
the directed and the pooled mean, the surface Dice. Where they differ: with one empty mask MONAI's HD95 is nan and drops
out of its mean; here it is inf, and the evaluation counts the diagonal for a miss.
"""

import math
import warnings

import numpy as np
import pytest

from pocketseg.metrics import compat, overlap, surface_distances

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's imports warn of packages that are not used here

RTOL = 1e-5  # MONAI measures in float32


@pytest.fixture(scope="module")
def monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics = pytest.importorskip("monai.metrics")
        torch = pytest.importorskip("torch")

    def evaluate(prediction: np.ndarray, reference: np.ndarray, spacing, tolerance: float) -> dict[str, float]:
        masks = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, reference)]
        common = {"include_background": True, "spacing": list(spacing)}
        found = {
            "hd": metrics.compute_hausdorff_distance(*masks, **common),
            "hd95": metrics.compute_hausdorff_distance(*masks, percentile=95, **common),
            "asd": metrics.compute_average_surface_distance(*masks, **common),
            "assd": metrics.compute_average_surface_distance(*masks, symmetric=True, **common),
            "surface_dice": metrics.compute_surface_dice(*masks, class_thresholds=[tolerance], **common),
        }
        return {name: float(value) for name, value in found.items()}

    return evaluate


def blob(rng: np.random.Generator, shape) -> np.ndarray:
    """An ellipsoid with a rough outline."""
    axes = np.meshgrid(*[np.arange(size) for size in shape], indexing="ij")
    middle, radius = rng.uniform(0, shape), rng.uniform(2, max(shape) / 2, len(shape))
    distance = sum(((axis - m) / r) ** 2 for axis, m, r in zip(axes, middle, radius, strict=True))
    return distance + rng.normal(0, 0.1, shape) < 1


@pytest.mark.row("N18")
def test_where_both_masks_have_something(monai):
    rng = np.random.default_rng(0)
    evaluated = 0
    for number in range(120):
        shape = (9, 14, 11) if number % 4 == 0 else tuple(rng.integers(4, 40, 2))
        prediction, reference = blob(rng, shape), blob(rng, shape)
        if not (prediction.any() and reference.any()):
            continue
        spacing = rng.uniform(0.1, 3, len(shape))
        tolerance = float(rng.uniform(0.3, 4))
        found = surface_distances(prediction, reference, spacing)
        ours = {name: getattr(found, name) for name in ("hd", "hd95", "asd", "assd")}
        ours["surface_dice"] = found.surface_dice(tolerance)
        assert ours == pytest.approx(monai(prediction, reference, spacing, tolerance), rel=RTOL, abs=RTOL), number
        evaluated += 1
    assert evaluated > 60


@pytest.mark.parametrize(("predicted", "true"), [(False, False), (False, True), (True, False)])
def test_where_a_mask_is_empty(monai, predicted, true):
    some = np.zeros((8, 8), bool)
    some[2:4, 3:6] = True
    prediction, reference = some & predicted, some & true
    theirs = monai(prediction, reference, (1.0, 1.0), 1.0)
    ours = surface_distances(prediction, reference)
    assert math.isnan(theirs["hd95"]) and math.isnan(compat.monai_hd95(prediction, reference))
    assert ours.hd95 == math.inf if predicted or true else math.isnan(ours.hd95)
    assert ours.surface_dice(1.0) == pytest.approx(theirs["surface_dice"], nan_ok=True)


def test_compat_is_monai_with_its_defaults(monai):
    metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(60):
        prediction, reference = (rng.random((7, 9)) < rng.choice([0, 0.1, 0.5]) for _ in range(2))
        masks = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, reference)]
        theirs = [
            metrics.compute_dice(*masks),
            metrics.compute_iou(*masks),
            metrics.compute_hausdorff_distance(*masks, include_background=True, percentile=95),
        ]
        ours = [
            function(prediction, reference) for function in (compat.monai_dice, compat.monai_iou, compat.monai_hd95)
        ]
        assert ours == pytest.approx([float(each) for each in theirs], rel=RTOL, abs=RTOL, nan_ok=True)
        outcomes.add(overlap(prediction, reference).outcome)
    assert len(outcomes) == 4
