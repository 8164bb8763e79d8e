"""A small data set on disk, and what the tests of a training share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pocketseg.data import Cases
from pocketseg.data.masks import MaskCoding

# Nets this small are slower on several threads.
torch.set_num_threads(1)


def write_discs(
    folder: Path, count: int, size: tuple[int, int] = (24, 24), *, classes: int = 1, empty: tuple[int, ...] = ()
) -> Path:
    """Bright discs on noise; class k+1 is case number modulo classes; `empty` cases have none."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[: size[0], : size[1]]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        mask = np.zeros(size, np.uint8)
        image = rng.normal(70, 12, size)
        if index not in empty:
            y, x = (rng.uniform(0.3, 0.7) * side for side in size)
            disc = (rows - y) ** 2 + (columns - x) ** 2 < (min(size) * rng.uniform(0.15, 0.3)) ** 2
            kind = index % classes
            mask[disc] = 255 if classes == 1 else kind + 1
            image[disc] += 60 + 50 * kind
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / "images" / f"case{index:02}.png")
        Image.fromarray(mask).save(folder / "masks" / f"case{index:02}.png")
    return folder


@pytest.fixture
def discs(tmp_path) -> Callable[..., Cases]:
    """Makes and opens a data set; see `write_discs`."""

    def make(
        count: int = 7, size: tuple[int, int] = (24, 24), *, classes: int = 1, empty: tuple[int, ...] = ()
    ) -> Cases:
        folder = write_discs(tmp_path / f"data-{count}-{size}-{classes}", count, size, classes=classes, empty=empty)
        return Cases.open(folder, coding=MaskCoding(classes=classes))

    return make
