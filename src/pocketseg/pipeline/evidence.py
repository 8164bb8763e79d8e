"""How sure a map of probabilities is that there is anything of a class at all: one number for a case."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketseg.memory import bands

# Of the pixels, those with the highest probability: an object of this share of the image can be as sure as a large one.
SHARE = 1000
# Probabilities are counted in these steps, so that every order of the sum gives the same number.
STEPS = 65_535


def evidence(probability: NDArray[np.float32]) -> float:
    """Mean of the highest thousandth of the pixels' probabilities (of the highest pixel, where that is less than one).

    The highest alone is that of one pixel; the mean over all is the larger, the larger an object is.

    Args:
        probability: of one class, (h, w), from 0 to 1.

    Example:
        >>> evidence(np.array([[0.2, 1.0]], np.float32))
        1.0
    """
    counts = np.zeros(STEPS + 1, np.int64)
    for band in bands(probability.shape):
        # Restored maps may leave 0 to 1 by a rounding.
        codes = np.rint(probability[band].clip(0, 1) * np.float32(STEPS)).astype(np.int64)
        counts += np.bincount(codes.ravel(), minlength=STEPS + 1)
    wanted = max(1, probability.size // SHARE)
    taken = np.diff(np.minimum(counts[::-1].cumsum(), wanted), prepend=0)
    return int(taken @ np.arange(STEPS, -1, -1)) / (wanted * STEPS)
