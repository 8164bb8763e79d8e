"""What all volume files have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from pocketseg.data.volumes.grid import Grid, Pixels
from pocketseg.errors import DataError
from pocketseg.pipeline.reading import Reading
from pocketseg.text import counted

DARKEST, BRIGHTEST = 0.5, 99.5
# Percentiles are taken from about this many voxels.
SAMPLED = 1_000_000
# How far from its whole number a label may be stored, and how far from 0 what is none.
NEAR_LABEL, NO_LABEL, MAX_LABEL = 0.1, 1e-3, 2**24
# A fourth dimension of more is a series over time, not the contrasts of one scan. As many as a net may take.
MAX_CONTRASTS = 16
# Image and mask of the volume at hand, and those of the one before.
VOLUMES_KEPT = 4


@dataclass(frozen=True, eq=False)
class VolumeFile(ABC):
    """A volume whose header is known and whose voxels are read when they are asked for.

    Attributes:
        path: the file, or the folder of a DICOM series.
        files: everything it is stored in.
        grid: where its voxels lie.
        window: (center, width) that the file proposes for display.
        patient: equal for volumes of one patient; it is compared and never shown.
        contrasts: channels of the voxels that are images of their own (contrasts of a scan), each with its own scale;
            0 where voxels are one number or a color.
    """

    # Whether voxels are measurements with a scale of their own, not brightnesses of a picture.
    measured: ClassVar[bool] = False

    path: Path
    files: tuple[Path, ...]
    grid: Grid
    window: tuple[float, float] | None = None
    patient: str | None = field(default=None, repr=False)
    contrasts: int = field(default=0, kw_only=True)

    @abstractmethod
    def voxels(self) -> Pixels:
        """(i, j, k) or (i, j, k, c) in stored order, in the file's units.

        Raises:
            DataError: damaged, cut off, or of a kind that cannot be decoded.
        """


def whole_labels(values: Pixels) -> Pixels:
    """Floats that stand for labels, as int32: scl_slope makes 2 into 2.00003, or 11 into 10.92.

    They do where every value lies within a tenth of a whole number, and what becomes 0 within a thousandth; else, or
    where nothing but 0 would be left, the values stay as they are, and whoever reads classes from them refuses them.

    Example:
        >>> whole_labels(np.array([0, 1.00002, 10.92], np.float32)).tolist()
        [0, 1, 11]
        >>> whole_labels(np.array([0, 0.25, 1], np.float32)).tolist()
        [0.0, 0.25, 1.0]
    """
    if values.dtype.kind != "f":
        return values
    found = False
    for layer in layers(values):
        if not np.isfinite(layer).all() or np.abs(layer).max(initial=0) >= MAX_LABEL:
            return values
        whole = np.rint(layer)
        if (np.abs(layer - whole) > np.where(whole == 0, NO_LABEL, NEAR_LABEL)).any():
            return values
        found = found or bool(whole.any())
    return np.rint(values).astype(np.int32) if found else values


def layers(values: Pixels) -> Pixels:
    """A view of voxels whose first axis is the slowest in memory: done one by one, they need little of it."""
    return values if values.strides[0] >= values.strides[-1] else values.T


@dataclass(frozen=True)
class Scale:
    """Which voxel values become 0 and 65535, of contrasts (..., c) in each; where there is none, they stay."""

    low: float | tuple[float, ...]
    high: float | tuple[float, ...]

    def __call__(self, values: Pixels) -> Pixels:
        low, high = np.asarray(self.low, np.float64), np.asarray(self.high, np.float64)
        fractions = (values.astype(np.float32) - low.astype(np.float32)) / np.maximum(high - low, 1e-30).astype(
            np.float32
        )
        scaled: Pixels = np.rint(fractions.clip(0, 1) * 65535).astype(np.uint16)
        return scaled


@lru_cache(maxsize=VOLUMES_KEPT)
def canonical_image(volume: VolumeFile, reading: Reading) -> tuple[Pixels, Scale | None]:
    """An image volume in canonical order, and how `Reading` scales its intensities; the last ones are kept.

    Slices are scaled when they are taken: a volume lies in the memory once, in its own type.
    """
    values = volume.voxels()
    count = sum(int((~np.isfinite(layer)).sum()) for layer in layers(values)) if values.dtype.kind == "f" else 0
    if count:
        raise DataError(str(volume.path), f"{count} voxels are NaN or infinite", "replace them before training")
    return volume.grid.canonical(values), _scale(volume, values, reading)


@lru_cache(maxsize=VOLUMES_KEPT)
def canonical_labels(volume: VolumeFile, *, planes: bool = False) -> Pixels:
    """A label volume in canonical order, as it is stored; labels that a scale made inexact are whole again.

    With channels, `planes` allows them.
    """
    values = whole_labels(volume.voxels())
    if values.ndim > 3 and not planes:
        raise DataError(
            str(volume.path), f"the mask has {counted(values.shape[3], 'channel')}", "store one class index a voxel"
        )
    return volume.grid.canonical(values)


def _scale(volume: VolumeFile, values: Pixels, reading: Reading) -> Scale | None:
    """To uint16 over the window or the volume's own range; pictures and declared ranges stay as they are."""
    window = volume.window if reading.window == "stored" else reading.window
    if reading.window == "stored" and window is None:
        what = "proposes no window, or not one straight line for all of its slices"
        raise DataError(str(volume.path), what, "set data.window to a center and a width, or to null")
    if (values.ndim > 3 and not volume.contrasts) or (window is None and (reading.raw or not volume.measured)):
        return None
    if window is not None:
        return Scale(window[0] - window[1] / 2, window[0] + window[1] / 2)
    if volume.contrasts:
        lows, highs = zip(*(_own_range(values[..., channel]) for channel in range(volume.contrasts)), strict=True)
        return Scale(lows, highs)
    return Scale(*_own_range(values))


def _own_range(values: Pixels) -> tuple[float, float]:
    some = values.flat[:: max(1, values.size // SAMPLED)]
    low, high = np.percentile(some, [DARKEST, BRIGHTEST])
    if low == high:  # nearly everything is background
        low, high = values.min(), values.max()
    return float(low), float(high)
