"""From stored numbers to the numbers a net sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.memory import bands

Array = NDArray[np.float32]

# ITU-R BT.601 luma.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Below this standard deviation an image counts as constant and is only centred.
SMALLEST_STD = 1e-6

NormalizationKind = Literal["unit-range", "min-max", "z-score", "train-mean-std"]


@dataclass(frozen=True)
class Normalization:
    """How unit-range intensities become net input.

    Attributes:
        kind: `unit-range` leaves [0, 1]; `min-max` stretches each image to it; `z-score` gives each image mean 0
            and standard deviation 1; `train-mean-std` subtracts and divides by the numbers learned from the training
            part.
        clip: after `z-score`, values are cut to ±clip; None leaves them.
        mean, std: per channel, learned; only for `train-mean-std`.
    """

    kind: NormalizationKind = "unit-range"
    clip: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __call__(self, planes: Array) -> Array:
        """Normalise (c, h, w) planes of unit range; a constant image gives zeros, no division by zero."""
        if self.kind == "unit-range":
            return planes
        if self.kind == "min-max":
            low, high = float(planes.min()), float(planes.max())
            return (planes - low) / max(high - low, SMALLEST_STD)
        if self.kind == "z-score":
            out = (planes - planes.mean(dtype=np.float64)) / max(planes.std(dtype=np.float64), SMALLEST_STD)
            return np.asarray(out if self.clip is None else np.clip(out, -self.clip, self.clip), np.float32)
        mean = np.asarray(self.mean, np.float32)[:, None, None]
        std = np.asarray(self.std, np.float32)[:, None, None]
        return (planes - mean) / std


def unit_range(image: NDArray[np.generic], declared: tuple[float, float] | None = None) -> Array:
    """Scale an image to [0, 1]: by the declared range, else integers by their dtype's maximum, floats by their own.

    Args:
        image: (h, w) or (h, w, c), any integer, bool or float dtype.
        declared: the values that become 0 and 1.

    Example:
        >>> unit_range(np.array([[0, 255]], np.uint8)).tolist()
        [[0.0, 1.0]]
    """
    values: Array = image.astype(np.float32)
    if declared is None:
        declared = _natural_range(image)
    low, high = declared
    values -= np.float32(low)
    values /= np.float32(max(high - low, SMALLEST_STD))
    return values


def _natural_range(image: NDArray[np.generic]) -> tuple[float, float]:
    if image.dtype == np.bool_:
        return 0.0, 1.0
    if np.issubdtype(image.dtype, np.integer):
        return 0.0, float(np.iinfo(image.dtype.name).max)
    return float(image.min()), float(image.max())


def converts(have: int, wanted: int) -> bool:
    """Whether `to_channels` has a rule for it."""
    return have in (1, wanted) or (have, wanted) == (3, 1)


def to_planes(image: NDArray[np.generic], channels: int, declared: tuple[float, float] | None = None) -> Array:
    """`unit_range` and `to_channels`, of large images some rows at a time.

    Raises:
        ValueError: as `to_channels`.
    """
    declared = _natural_range(image) if declared is None else declared
    planes = np.empty((channels, *image.shape[:2]), np.float32)
    for rows in bands(image.shape):
        planes[:, rows] = to_channels(unit_range(image[rows], declared), channels)
    return planes


def to_channels(image: Array, channels: int) -> Array:
    """(h, w) or (h, w, c) to (channels, h, w): colour to grey by BT.601, grey to colour by repetition.

    Raises:
        ValueError: no rule leads from the image's channels to the wanted ones.
    """
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
    have = planes.shape[0]
    if not converts(have, channels):
        raise ValueError(f"the image has {have} channels and the net takes {channels}")
    if have == channels:
        return np.ascontiguousarray(planes)
    if have == 1:
        return np.repeat(planes, channels, axis=0)
    return np.tensordot(LUMA, planes, axes=1)[None].astype(np.float32)
