"""What all volume files have in common."""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from pocketseg.data.volumes.grid import Grid, Pixels
from pocketseg.errors import DataError
from pocketseg.pipeline.reading import Reading

# 4 GiB of voxels: above every usual scan, below what fills a workstation.
LARGEST_BYTES = 4 * 2**30
DARKEST, BRIGHTEST = 0.5, 99.5
# Percentiles are taken from about this many voxels.
SAMPLED = 1_000_000
# Image and mask of the volume at hand, and those of the one before.
VOLUMES_KEPT = 4


@dataclass(frozen=True, eq=False)
class VolumeFile(ABC):
    """A volume whose header is known and whose voxels are read when they are asked for.

    Attributes:
        path: the file, or the folder of a DICOM series.
        files: everything it is stored in.
        grid: where its voxels lie.
        window: (centre, width) that the file proposes for display.
        patient: equal for volumes of one patient; it is compared and never shown.
    """

    # Whether voxels are measurements with a scale of their own, not brightnesses of a picture.
    measured: ClassVar[bool] = False

    path: Path
    files: tuple[Path, ...]
    grid: Grid
    window: tuple[float, float] | None = None
    patient: str | None = field(default=None, repr=False)

    @abstractmethod
    def voxels(self) -> Pixels:
        """(i, j, k) or (i, j, k, c) in stored order, in the file's units.

        Raises:
            DataError: damaged, cut off, or of a kind that cannot be decoded.
        """


@lru_cache(maxsize=VOLUMES_KEPT)
def canonical_image(volume: VolumeFile, reading: Reading) -> Pixels:
    """An image volume in canonical order, its intensities as `Reading` says; the last ones are kept."""
    values = volume.voxels()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise DataError(str(volume.path), f"{count} voxels are NaN or infinite", "replace them before training")
    return volume.grid.canonical(_scaled(volume, values, reading))


@lru_cache(maxsize=VOLUMES_KEPT)
def canonical_labels(volume: VolumeFile) -> Pixels:
    """A label volume in canonical order, as it is stored."""
    values = volume.voxels()
    if values.ndim > 3:
        raise DataError(str(volume.path), f"the mask has {values.shape[3]} channels", "store one class index a voxel")
    return volume.grid.canonical(values)


def _scaled(volume: VolumeFile, values: Pixels, reading: Reading) -> Pixels:
    """Voxels as uint16 over the window or the volume's own range; pictures and declared ranges stay as they are."""
    window = volume.window if reading.window == "stored" else reading.window
    if reading.window == "stored" and window is None:
        raise DataError(str(volume.path), "proposes no window", "set data.window to a centre and a width, or to null")
    if values.ndim > 3 or (window is None and (reading.raw or not volume.measured)):
        return values
    if window is not None:
        low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    else:
        low, high = _own_range(values)
    shares = (values.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1e-30))
    scaled: Pixels = np.rint(shares.clip(0, 1) * 65535).astype(np.uint16)
    return scaled


def _own_range(values: Pixels) -> tuple[float, float]:
    some = values.ravel()[:: max(1, values.size // SAMPLED)]
    low, high = np.percentile(some, [DARKEST, BRIGHTEST])
    if low == high:  # nearly everything is background
        low, high = values.min(), values.max()
    return float(low), float(high)


def regular_file(path: Path) -> int:
    """Size in bytes of a file that can be opened without waiting for ever.

    Raises:
        DataError: it is missing, empty, no regular file, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DataError(str(path), "is not a regular file", "remove it, or put an image in its place")
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(str(path), f"cannot be read ({error.strerror})", "check the path and its permissions") from None
    if status.st_size == 0:
        raise DataError(str(path), "the file is empty (0 bytes)", "copy it again from its source")
    return status.st_size
