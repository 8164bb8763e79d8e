"""Fitting an image to the net's size and probabilities back to the image's own grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@lru_cache(maxsize=256)
def _resampling_matrix(source: int, target: int) -> Array:
    """Rows of triangle-filter weights, (target, source), each summing to one.

    Pixel centres lie at i + 1/2. Enlarging is plain bilinear interpolation with the border repeated; reducing widens
    the triangle by the scale, so that nothing is skipped (the antialiased bilinear filter of image libraries).
    """
    scale = source / target
    support = max(scale, 1.0)
    centre = (np.arange(target) + 0.5) * scale
    distance = np.abs(np.arange(source) + 0.5 - centre[:, None]) / support
    weights = np.maximum(0.0, 1.0 - distance)
    matrix: Array = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def resize(planes: Array, size: tuple[int, int]) -> Array:
    """Resize planes with the antialiased bilinear filter.

    Args:
        planes: float32 (c, h, w).
        size: target (height, width).

    Returns:
        float32 (c, height, width); the input itself where the size already fits.

    Example:
        >>> resize(np.array([[[0.0, 1.0]]], np.float32), (1, 4)).round(2).tolist()
        [[[0.0, 0.25, 0.75, 1.0]]]
    """
    height, width = planes.shape[1:]
    if (height, width) == tuple(size):
        return planes
    rows, columns = _resampling_matrix(height, size[0]), _resampling_matrix(width, size[1])
    out: Array = rows @ (planes @ columns.T)
    return out


def resize_labels(mask: NDArray[np.uint8], size: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """Resize a mask of class indices: each pixel takes the class that covers most of it, the first in a tie.

    Coverage is measured by the same filter that resizes the image, so both shift alike.

    Args:
        mask: uint8 (h, w) with values 0..classes.
        size: target (height, width).
        classes: number of foreground classes.
    """
    if mask.shape == tuple(size):
        return mask
    cover = resize(np.stack([mask == index for index in range(classes + 1)]).astype(np.float32), size)
    out: NDArray[np.uint8] = cover.argmax(axis=0).astype(np.uint8)
    return out


def pad_to_multiple(planes: Array, multiple: int) -> Array:
    """Repeat the last row and column until height and width are multiples, (c, h, w) -> (c, h', w')."""
    height, width = planes.shape[1:]
    return _pad(planes, -height % multiple, -width % multiple)


def pad_to_size(planes: Array, size: tuple[int, int]) -> Array:
    """Repeat the last row and column until the planes are at least as large as size."""
    return _pad(planes, max(0, size[0] - planes.shape[1]), max(0, size[1] - planes.shape[2]))


def _pad(planes: Array, below: int, right: int) -> Array:
    return np.pad(planes, ((0, 0), (0, below), (0, right)), mode="edge") if below or right else planes


@dataclass(frozen=True)
class Tile:
    """A window of an image: rows top to top+height, columns left to left+width."""

    top: int
    left: int
    height: int
    width: int

    @property
    def window(self) -> tuple[slice, slice]:
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def tiles(shape: tuple[int, int], size: tuple[int, int], overlap: float = 0.25) -> list[Tile]:
    """Evenly spread tiles of one size that cover a shape and overlap by at least the given share.

    Example:
        >>> [t.left for t in tiles((4, 10), (4, 4), overlap=0.25)]
        [0, 3, 6]
    """
    return [
        Tile(top, left, min(size[0], shape[0]), min(size[1], shape[1]))
        for top in _starts(shape[0], size[0], overlap)
        for left in _starts(shape[1], size[1], overlap)
    ]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    if length <= tile:
        return [0]
    step = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // step) + 1
    return [round(start) for start in np.linspace(0, length - tile, count)]


@lru_cache(maxsize=16)
def blending_window(height: int, width: int) -> Array:
    """Weights that fall linearly from the tile's centre to its border and stay positive there, (h, w)."""

    def ramp(length: int) -> Array:
        return np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float32)

    weights: Array = np.minimum(ramp(height)[:, None] / height, ramp(width)[None, :] / width)
    return weights
