"""How sure a map of probabilities is that there is anything of a class at all: one number for a case."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketseg.memory import bands

# Of the pixels, those with the highest probability: an object of this share of the image can be as sure as a large one.
SHARE = 1000
# Probabilities are counted in these steps, so that every order of the sum gives the same number. A net that has trained
# for long is sure of most things: images with and without a lesion may differ in the fifth digit.
STEPS = 2**24


def evidence(probability: NDArray[np.float32]) -> float:
    """Mean of the highest thousandth of the pixels' probabilities (of the highest pixel, where that is less than one).

    The highest alone is that of one pixel; the mean over all is the larger, the larger an object is.

    Args:
        probability: of one class, (h, w), from 0 to 1.

    Example:
        >>> evidence(np.array([[0.2, 1.0]], np.float32))
        1.0
    """
    wanted = max(1, probability.size // SHARE)
    highest = np.empty(0, np.int32)
    for band in bands(probability.shape):
        # Restored maps may leave 0 to 1 by a rounding.
        codes = np.rint(probability[band].clip(0, 1) * np.float32(STEPS)).astype(np.int32)
        highest = np.concatenate([highest, codes.ravel()])
        highest = np.partition(highest, -min(wanted, len(highest)))[-wanted:]
    return int(highest.sum(dtype=np.int64)) / (wanted * STEPS)
