"""Dice and IoU against MONAI on random masks.

Where the definitions differ (MONAI 1.4 and newer):

| reference | prediction | here | MONAI, ignore_empty=True | MONAI, ignore_empty=False |
|---|---|---|---|---|
| empty | empty | nan, the aggregator decides | nan | 1 |
| empty | some | 0, a false alarm | nan: false alarms vanish from its mean | 0 |
| some | empty | 0, a miss | 0 | 0 |
"""

import math

import numpy as np
import pytest

from pocketseg.metrics import overlap

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's imports warn of packages that are not used here

RTOL = 1e-6  # MONAI divides in float32


@pytest.fixture(scope="module")
def monai():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics = pytest.importorskip("monai.metrics")
        torch = pytest.importorskip("torch")

    def evaluate(name: str, prediction: np.ndarray, reference: np.ndarray, ignore_empty: bool) -> float:
        # (batch, channel, h, w) of zeros and ones, one channel that is the foreground.
        tensors = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (prediction, reference)]
        function = {"dice": metrics.compute_dice, "iou": metrics.compute_iou}[name]
        return float(function(*tensors, include_background=True, ignore_empty=ignore_empty))

    return evaluate


def random_mask(rng: np.random.Generator, shape) -> np.ndarray:
    density = rng.choice([0, 0.02, 0.3, 0.9, 1])
    return rng.random(shape) < density


def expected(ours: float, outcome: str, ignore_empty: bool) -> float:
    """What MONAI says where we say this."""
    if outcome == "true negative":
        return math.nan if ignore_empty else 1.0
    if outcome == "false alarm" and ignore_empty:
        return math.nan
    return ours


@pytest.mark.row("N18")
@pytest.mark.parametrize("name", ["dice", "iou"])
@pytest.mark.parametrize("ignore_empty", [True, False])
def test_random_masks(monai, name, ignore_empty):
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(300):
        shape = tuple(rng.integers(1, 20, 2))
        prediction, reference = random_mask(rng, shape), random_mask(rng, shape)
        ours = overlap(prediction, reference)
        outcomes.add(ours.outcome)
        theirs = monai(name, prediction, reference, ignore_empty)
        wanted = expected(getattr(ours, name), ours.outcome, ignore_empty)
        assert theirs == pytest.approx(wanted, rel=RTOL, abs=RTOL, nan_ok=True), (ours, ignore_empty)
    assert outcomes == {"scored", "miss", "false alarm", "true negative"}
