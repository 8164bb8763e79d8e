"""Fitting an image to the net's size and probabilities back to the image's own grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.layers import grid_of, layer, overlaps

Array = NDArray[np.float32]

# Of the weights of a filter, as a matrix of all pixels by all pixels: how many there may be.
MAX_WEIGHTS = 2**29
# Numbers that are filtered at once: they stay in a cache.
FILTERED_AT_ONCE = 2**17


@lru_cache(maxsize=256)
def _taps(source: int, target: int) -> tuple[NDArray[np.intp], Array]:
    """A triangle filter: the first pixel that each result is made of, (target,), and the weights, (taps, target).

    Pixel centers lie at i + 1/2. Enlarging is plain bilinear interpolation with the border repeated; reducing widens
    the triangle by the scale, so that nothing is skipped (the antialiased bilinear filter of image libraries). Weights
    are computed in f64 and sum to one.
    """
    scale = source / target
    support = max(scale, 1.0)
    taps = min(source, math.ceil(2 * support))
    center = (np.arange(target) + 0.5) * scale
    first = np.clip(np.floor(center - support + 0.5).astype(np.intp), 0, source - taps)
    weights = np.maximum(0.0, 1.0 - np.abs(first + np.arange(taps)[:, None] + 0.5 - center) / support)
    weights = (weights / np.add.accumulate(weights)[-1]).astype(np.float32)
    first.setflags(write=False)
    weights.setflags(write=False)
    return first, weights


def _filtered_rows(planes: Array, target: int) -> Array:
    """Planes (c, h, w) with another number of rows; products are added in f32, from the first tap to the last.

    This order, and that of `resize`, is what the native library does too (docs/decisions/0024): no sum is left to a
    library that adds on each machine in another way.
    """
    channels, height, width = planes.shape
    if height == target:
        return planes
    first, weights = _taps(height, target)
    out = np.empty((channels, target, width), np.float32)
    step = max(1, FILTERED_AT_ONCE // max(1, width * channels))
    for top in range(0, target, step):
        part = slice(top, top + step)
        sums = out[:, part]
        np.multiply(planes[:, first[part]], weights[0, part, None], out=sums)
        for tap in range(1, len(weights)):
            products = planes[:, first[part] + tap]
            products *= weights[tap, part, None]
            sums += products
    return out


def _filtered_columns(planes: Array, target: int) -> Array:
    if planes.shape[2] == target:
        return planes
    return _filtered_rows(np.ascontiguousarray(planes.swapaxes(1, 2)), target).swapaxes(1, 2)


def resize(planes: Array, size: tuple[int, int]) -> Array:
    """Resize planes with the antialiased bilinear filter: rows first where they become fewer, else columns first.

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
    if size[0] <= height:
        out = _filtered_columns(_filtered_rows(planes, size[0]), size[1])
    else:
        out = _filtered_rows(_filtered_columns(planes, size[1]), size[0])
    return np.ascontiguousarray(out)


def resize_labels(mask: NDArray[np.uint8], size: tuple[int, int], classes: int) -> NDArray[np.uint8]:
    """Resize a mask of class indices: each pixel takes the class that covers most of it, the first in a tie.

    Coverage is measured by the same filter that resizes the image, so both shift alike.

    Args:
        mask: uint8 (h, w) with values 0..classes; or planes (k, h, w), of which each is resized by itself.
        size: target (height, width).
        classes: number of foreground classes.
    """
    if grid_of(mask) == tuple(size):
        return mask
    if overlaps(mask):
        return np.stack([resize_labels(plane, size, 1) for plane in mask])
    cover = resize(_one_hot(mask, range(classes + 1)), size)
    out: NDArray[np.uint8] = cover.argmax(axis=0).astype(np.uint8)
    return out


def _one_hot(mask: NDArray[np.uint8], indices: range) -> Array:
    """1 where a mask has a class, (classes, h, w)."""
    return np.stack([layer(mask, index) for index in indices]).astype(np.float32)


def pad_to_multiple(planes: Array, multiple: int) -> Array:
    """Repeat the last row and column until height and width are multiples, (c, h, w) -> (c, h', w')."""
    height, width = planes.shape[1:]
    return _pad(planes, -height % multiple, -width % multiple)


def pad_to_size(planes: Array, size: tuple[int, int]) -> Array:
    """Repeat the last row and column until the planes are at least as large as size."""
    return _pad(planes, max(0, size[0] - planes.shape[1]), max(0, size[1] - planes.shape[2]))


def _pad(planes: Array, below: int, right: int) -> Array:
    return np.pad(planes, ((0, 0), (0, below), (0, right)), mode="edge") if below or right else planes


Fit = Literal["resize", "letterbox", "pad", "crop", "tile"]
Shape = tuple[int, int]
Spacing = tuple[float, float]


@dataclass(frozen=True)
class Placement:
    """How an image comes to the net's grid, and probabilities back: resample, cut a window, surround it with zeros.

    Attributes:
        source: (height, width) of the image.
        inner: what it is resampled to.
        window: the part of `inner` that the net sees.
        size: the net's grid.
        top, left: where the window lies in it.
    """

    source: Shape
    inner: Shape
    window: tuple[slice, slice]
    size: Shape
    top: int
    left: int

    def cut(self, planes: Array) -> Array:
        """The part of an image (c, h, w) that the net sees, resampled."""
        return resize(planes, self.inner)[(slice(None), *self.window)]

    def cut_labels(self, mask: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
        """A mask on the net's grid; the surroundings are background."""
        return self._surround(resize_labels(mask, self.inner, classes)[(..., *self.window)])

    def cut_shares(self, mask: NDArray[np.uint8], classes: int) -> Array:
        """The share of each pixel of the net's grid that each foreground class covers, (classes, height, width).

        It is what becomes of an image that is 1 in the class and 0 elsewhere; the surroundings are background.
        """
        return self._surround(self.cut(_one_hot(mask, range(1, classes + 1))))

    def surround(self, planes: Array) -> Array:
        """Planes of the window in the middle of the net's grid."""
        return self._surround(planes)

    def _surround(self, part: NDArray[Any]) -> NDArray[Any]:
        height, width = part.shape[-2:]
        below, right = self.size[0] - self.top - height, self.size[1] - self.left - width
        if (self.top, self.left, below, right) == (0, 0, 0, 0):
            return part
        return np.pad(part, [*[(0, 0)] * (part.ndim - 2), (self.top, below), (self.left, right)])

    def restore(self, probabilities: Array) -> Array:
        """Probabilities (k, height, width) of the net's grid on the image's; what the net did not see gets 0."""
        rows, columns = self.window
        part = probabilities[
            :, self.top : self.top + rows.stop - rows.start, self.left : self.left + columns.stop - columns.start
        ]
        if part.shape[1:] != self.inner:
            whole = np.zeros((len(part), *self.inner), np.float32)
            whole[(slice(None), *self.window)] = part
            part = whole
        return resize(part, self.source)


def place(source: Shape, size: Shape, fit: Fit, scale: Spacing = (1.0, 1.0)) -> Placement:
    """Where an image of some height and width lies on the net's grid.

    Args:
        source: (height, width) of the image.
        size: (height, width) the net sees.
        fit: `resize` stretches; `letterbox` keeps the shape of things and surrounds; `pad` and `crop` keep the pixels,
            in the middle of the net's grid; `tile` keeps the image's grid.
        scale: pixels of the net for a pixel of the image (row, column); `resize` and `letterbox` choose their own.

    Raises:
        ValueError: the image is larger than a grid that it is to be padded to.

    Example:
        >>> place((100, 50), (64, 64), "letterbox").inner
        (64, 32)
    """
    if fit == "resize":
        return Placement(source, size, _all(size), size, 0, 0)
    if fit == "letterbox":
        factor = min(size[0] / source[0], size[1] / source[1])
        scale = (factor, factor)
    inner = _scaled(source[0], scale[0]), _scaled(source[1], scale[1])
    if fit == "tile":
        return Placement(source, inner, _all(inner), inner, 0, 0)
    if fit == "pad" and (inner[0] > size[0] or inner[1] > size[1]):
        raise ValueError(
            f"the image is {inner[0]}×{inner[1]} pixels, more than the {size[0]}×{size[1]} it is padded to"
        )
    (top, rows), (left, columns) = (_centered(have, want) for have, want in zip(inner, size, strict=True))
    return Placement(source, inner, (rows, columns), size, top, left)


def _all(shape: Shape) -> tuple[slice, slice]:
    return slice(0, shape[0]), slice(0, shape[1])


def _scaled(length: int, factor: float) -> int:
    return max(1, round(length * factor))


def _centered(have: int, want: int) -> tuple[int, slice]:
    """Offset on the grid, and the part of the image that it holds; an odd pixel goes to the end."""
    start = max(0, (have - want) // 2)
    return max(0, (want - have) // 2), slice(start, start + min(have, want))


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
    """Weights that fall linearly from the tile's center to its border and stay positive there, (h, w)."""

    def ramp(length: int) -> Array:
        return np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1)).astype(np.float32)

    weights: Array = np.minimum(ramp(height)[:, None] / height, ramp(width)[None, :] / width)
    return weights
