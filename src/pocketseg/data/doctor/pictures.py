"""What only the pixels of an image tell: saturation, colored marks, drawn text and calipers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.doctor import drawn

Pixels = NDArray[np.generic]

# An image is a gray one with marks where the channels of nearly all pixels agree, and those of a few differ much.
GRAY, COLORED = 12, 80
MIN_MARKED, MAX_MARKED = 8, 0.05
SATURATED = 0.1


def suspicions(image: Pixels) -> list[str]:
    """Codes of what is suspicious about an image (h, w) or (h, w, c)."""
    gray = image.max(axis=2) if image.ndim == 3 else image
    found = []
    if has_color_marks(image):
        found.append("marks")
    if gray.dtype == np.uint8:
        values = gray.astype(np.uint8, copy=False)
        found += [code for code, has in (("text", drawn.has_text), ("calipers", drawn.has_calipers)) if has(values)]
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
