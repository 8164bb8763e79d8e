"""Masks of both kinds: class indices (h, w), and planes (k, h, w) of 0 and 1 where classes may overlap.

The number of axes says which of the two a mask is (`docs/decisions/0021`); whoever reads a mask asks here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PLANES = 3


def overlaps(mask: NDArray[Any]) -> bool:
    """Whether a mask holds planes of classes that may overlap."""
    return mask.ndim == PLANES


def grid_of(mask: NDArray[Any]) -> tuple[int, int]:
    """(height, width) of a mask."""
    return mask.shape[-2], mask.shape[-1]


def layer(mask: NDArray[Any], index: int) -> NDArray[np.bool_]:
    """Bool (h, w): the pixels of the class `index`, counted from 1.

    Example:
        >>> layer(np.array([[0, 2], [1, 2]], np.uint8), 2).tolist()
        [[False, True], [False, True]]
        >>> layer(np.array([[[1, 1]], [[0, 1]]], np.uint8), 1).tolist()
        [[True, True]]
    """
    found: NDArray[np.bool_] = np.asarray(mask[index - 1] != 0) if overlaps(mask) else np.asarray(mask == index)
    return found


def covered(mask: NDArray[Any]) -> NDArray[np.bool_]:
    """Bool (h, w): the pixels of any class."""
    found: NDArray[np.bool_] = np.asarray(mask.any(axis=0) if overlaps(mask) else mask > 0)
    return found


def present(mask: NDArray[Any]) -> tuple[int, ...]:
    """The indices of the classes that a mask shows, without the background.

    Example:
        >>> present(np.array([[0, 2], [3, 2]], np.uint8)), present(np.array([[[0, 0]], [[0, 1]]], np.uint8))
        ((2, 3), (2,))
    """
    if overlaps(mask):
        return tuple(index for index, plane in enumerate(mask, start=1) if plane.any())
    return tuple(index for index in range(1, int(mask.max(initial=0)) + 1) if np.any(mask == index))
