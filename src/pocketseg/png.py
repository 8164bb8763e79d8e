"""Pixels as PNG files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketseg.files import write_atomically


def png_bytes(pixels: NDArray[np.generic]) -> bytes:
    """The content of a PNG file of pixels (h, w) or (h, w, 3)."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    return content.getvalue()


def write_png(path: Path, pixels: NDArray[np.generic]) -> Path:
    """Write pixels (h, w) or (h, w, 3) as a PNG file.

    Raises:
        EnvironmentProblem: it cannot be written; what was there before is as it was.
    """
    write_atomically(path, png_bytes(pixels))
    return path
