"""What only the pixels of a mask tell: stray specks, and masks that end at the border all around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketseg.layers import covered
from pocketseg.pipeline.components import label_components

# An object is a speck beside one that is at least so many times as large.
SPECK_PIXELS, TIMES = 5, 200


def suspicions(mask: NDArray[np.uint8]) -> list[str]:
    """Codes of what is suspicious about a mask."""
    found = []
    inside = covered(mask)
    sides = inside[0], inside[-1], inside[:, 0], inside[:, -1]
    if all(side.any() for side in sides) and not inside.all():
        found.append("border")
    if inside.sum() > SPECK_PIXELS * TIMES and has_specks(inside):
        found.append("specks")
    return found


def has_specks(inside: NDArray[np.bool_]) -> bool:
    labels, count = label_components(inside)
    sizes = np.bincount(labels.ravel())[1:] if count > 1 else np.zeros(0)
    return bool(len(sizes) and (sizes[(sizes <= SPECK_PIXELS)] * TIMES <= sizes.max()).any())
