"""What every kind of phantom is made of: cases, and what is said about all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.phantom.shapes import Bytes


@dataclass(frozen=True)
class PhantomCase:
    """One image and its mask.

    Attributes:
        name: of its files.
        group: what belongs on one side of a split: the patient, or the slide.
        image: uint8 (h, w); of CT int16 (x, y, z) in Hounsfield units, from right to left, front to back, feet to head.
        mask: uint8 of the same shape: class indices, 0 is background.
        spacing_mm: size of a voxel of CT (x, y, z); None for pictures.
    """

    name: str
    group: str
    image: NDArray[np.uint8 | np.int16]
    mask: Bytes
    spacing_mm: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of phantom.

    Attributes:
        cases, size: how many, and of how many pixels, where nobody says.
        pictures: what the cases are, in messages.
        shows: what a picture must be large enough for.
        draw: the cases of (seed, size), without end.
        write: writes the image and the mask of a case below a folder.
        group: heading of the table of groups, which is a file of its plural; None where a case is a group.
        readme: the notes, of the keywords cases, groups, seed and size.
    """

    cases: int
    size: int
    pictures: str
    shows: str
    draw: Callable[[int, int], Iterator[PhantomCase]]
    write: Callable[[Path, PhantomCase], None]
    group: str | None
    readme: Callable[..., str]
