"""What only the pixels of an image tell: saturation, colored marks, drawn text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.generic]

# An image is a gray one with marks where the channels of nearly all pixels agree, and those of a few differ much.
GRAY, COLORED = 12, 80
MIN_MARKED, MAX_MARKED = 8, 0.05
SATURATED = 0.1
# A pen leaves one bright value many more times than the values below it.
BRIGHT, PEAK, PEN_PIXELS = 150, 8, 30
THIN, STANDS_OUT = 0.05, 0.6


def suspicions(image: Pixels) -> list[str]:
    """Codes of what is suspicious about an image (h, w) or (h, w, c)."""
    gray = image.max(axis=2) if image.ndim == 3 else image
    found = []
    if has_color_marks(image):
        found.append("marks")
    elif has_drawn_text(gray):
        found.append("text")
    if is_saturated(gray):
        found.append("saturated")
    return found


def is_saturated(gray: Pixels) -> bool:
    """Whether a tenth of an integer image, but not all of what is bright, is at its type's largest value."""
    if gray.dtype.kind not in "ui" or len(np.unique(gray[:64, :64])) <= 2:
        return False
    return float((gray == np.iinfo(gray.dtype.name).max).mean()) > SATURATED


def has_color_marks(image: Pixels) -> bool:
    """Whether a few pixels of a gray picture are strongly colored: calipers, arrows, labels."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        return False
    spread = image.max(axis=2).astype(np.int16) - image.min(axis=2)
    marked = int((spread > COLORED).sum())
    return bool((spread <= GRAY).mean() > 0.9 and MIN_MARKED <= marked <= MAX_MARKED * spread.size)


def has_drawn_text(gray: Pixels) -> bool:
    """Whether bright thin strokes of one value stand out sharply from what is around them."""
    if gray.dtype != np.uint8 or min(gray.shape) < 16:
        return False
    counts = np.bincount(gray.ravel(), minlength=256)
    usual = np.array([counts[max(0, value - 8) : value].mean() for value in range(BRIGHT, 256)])
    peaks = BRIGHT + np.flatnonzero(counts[BRIGHT:] >= np.maximum(PEN_PIXELS, PEAK * usual))
    return any(_is_pen(gray, int(value)) for value in peaks if counts[value] < MAX_MARKED * gray.size)


def _is_pen(gray: Pixels, value: int) -> bool:
    strokes = np.equal(gray, value)
    inner = strokes[1:-1, 1:-1] & strokes[:-2, 1:-1] & strokes[2:, 1:-1] & strokes[1:-1, :-2] & strokes[1:-1, 2:]
    if inner.sum() > THIN * strokes.sum():
        return False
    padded = np.pad(gray, 2, mode="edge")
    rows, columns = gray.shape
    darkest = np.minimum.reduce(
        [padded[down : down + rows, right : right + columns] for down, right in ((0, 2), (4, 2), (2, 0), (2, 4))]
    )
    return bool((darkest[strokes] < value / 2).mean() > STANDS_OUT)
