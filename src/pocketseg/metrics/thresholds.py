"""What the Dice of a case would be at other thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pocketseg.metrics.overlap import require_one_shape


def dice_at_thresholds(
    probability: NDArray[np.floating], reference: NDArray[np.bool_], thresholds: Sequence[float]
) -> NDArray[np.float64]:
    """The Dice of `probability >= threshold` for every threshold, from one pass over the pixels.

    Args:
        probability: of one class in one case, any shape.
        reference: bool, the same shape.
        thresholds: ascending.

    Returns:
        One number a threshold; nan where reference and prediction are both empty.

    Example:
        >>> dice_at_thresholds(np.array([0.9, 0.6, 0.2]), np.array([True, False, False]), [0.1, 0.5, 0.8]).tolist()
        [0.5, 0.6666666666666666, 1.0]
    """
    require_one_shape(probability, reference)
    # In the precision of the probabilities, as a comparison with a plain number is.
    limits = np.asarray(thresholds, probability.dtype)
    passed = np.searchsorted(limits, probability.ravel(), side="right")
    bins = len(limits) + 1
    predicted = np.bincount(passed, minlength=bins)[::-1].cumsum()[::-1][1:]
    right = np.bincount(passed[reference.ravel()], minlength=bins)[::-1].cumsum()[::-1][1:]
    both = predicted + np.count_nonzero(reference)
    dice: NDArray[np.float64] = np.divide(2.0 * right, both, out=np.full(len(limits), np.nan), where=both > 0)
    return dice
