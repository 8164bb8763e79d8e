"""A small data set of pictures with nothing wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(seed: int, shape: tuple[int, ...] = (32, 40)) -> Any:
    """Noise on a slope: like nothing else, and like no mask."""
    noise = np.random.default_rng(seed).integers(1, 120, shape)
    return (noise + np.arange(shape[1]).reshape((1, -1) + (1,) * (len(shape) - 2)) * 100 // shape[1]).astype(np.uint8)


def reference(seed: int, shape: tuple[int, int] = (32, 40)) -> Any:
    """uint8 0 and 255: a rectangle."""
    top, left = np.random.default_rng(seed).integers(2, 10, 2)
    mask = np.zeros(shape, np.uint8)
    mask[top : top + shape[0] // 2, left : left + shape[1] // 2] = 255
    return mask


def save(path: Path, pixels: Any, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))).save(path, **options)
    return path


def good(folder: Path, count: int = 8, mask: Callable[[Any], Any] = lambda mask: mask) -> Path:
    """images/c0.png … with masks/c0.png …, nothing wrong with them."""
    for number in range(count):
        save(folder / f"images/c{number}.png", picture(number))
        save(folder / f"masks/c{number}.png", mask(reference(number)))
    return folder
