"""What only the pixels of an image tell: saturation, colored marks, drawn text and calipers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketseg.pipeline import drawn

Pixels = NDArray[np.generic]

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
    return image.dtype == np.uint8 and bool(drawn.colored_marks(image.astype(np.uint8, copy=False)).any())
