"""What decoding a case once tells about it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.case import Case
from pocketseg.layers import covered, present
from pocketseg.pipeline.intensity import is_colored

Pixels = NDArray[np.generic]
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class CaseStatistics:
    """Numbers that cost no further decoding.

    Attributes:
        name: of the case.
        image, mask: where they are stored, as an error names them.
        shape: (height, width).
        channels: of the image.
        contrasts: whether they are images of their own, not colors.
        colored: whether it is in color, not gray stored as color.
        kind: NumPy's name of the image's type.
        low, high: smallest and largest value of the image.
        digest: of the image's pixels.
        foreground: share of the mask.
        classes: class indices in the mask, without the background.
        values: stored values that stand for foreground.
        copied: whether the mask is the image itself.
        mask_digest: of the mask's classes.
    """

    name: str
    image: str
    mask: str
    shape: tuple[int, int]
    channels: int
    contrasts: bool
    colored: bool
    kind: str
    low: float
    high: float
    digest: bytes
    foreground: float
    classes: tuple[int, ...]
    values: tuple[float, ...]
    copied: bool
    mask_digest: bytes

    @property
    def constant(self) -> bool:
        return self.low == self.high


@dataclass(frozen=True)
class Look:
    """A decoded case: the image (h, w[, c]), the mask (`layers`), and what they tell."""

    image: Pixels
    mask: Mask
    statistics: CaseStatistics


def statistics_of(case: Case, image: Pixels, mask: Mask, values: Pixels) -> CaseStatistics:
    """CaseStatistics of a decoded case."""
    low, high = float(image.min()), float(image.max())
    inside = covered(mask)
    return CaseStatistics(
        case.name,
        case.image.where,
        case.masks[0].where,
        (image.shape[0], image.shape[1]),
        1 if image.ndim == 2 else image.shape[2],
        case.image.contrasts,
        is_colored(image) and not case.image.contrasts,
        image.dtype.name,
        low,
        high,
        _digest(image),
        float(np.count_nonzero(inside)) / inside.size,
        present(mask),
        tuple(values.tolist()),
        _copied(image, inside, values, high),
        _digest(mask),
    )


def _copied(image: Pixels, inside: NDArray[np.bool_], values: Pixels, high: float) -> bool:
    """Whether image and mask hold the same values, some of them 0."""
    alike = high > 0 and not inside.all() and (image.dtype == bool or values.tolist() == [high])
    return alike and np.array_equal(image, np.where(inside, high, 0))


def _digest(image: Pixels) -> bytes:
    """Equal for equal pixels, whatever file they come from."""
    content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16)
    content.update(f"{image.shape}{image.dtype.name}".encode())
    return content.digest()
