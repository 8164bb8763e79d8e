"""Cases as files that any program reads: what they are called, what a PNG holds, and what has no place in them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.case import Case
from pocketseg.errors import DataError, Problem
from pocketseg.layers import overlaps
from pocketseg.png import write_png

log = logging.getLogger("pocketseg")

GROUPS = "groups.csv"
PNG_HOLDS = {("bool", 1), ("uint8", 1), ("uint8", 3), ("uint16", 1)}


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        written: number of cases or files.
        left_out: number of cases that were left out as empty.
        groups: the table of groups beside the folders, where cases share one.
    """

    written: int
    left_out: int = 0
    groups: Path | None = None


def stems_of(root: Path, cases: Sequence[Case]) -> dict[str, str]:
    """The name of each case's files, without folders.

    Raises:
        DataError: two cases would get one.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        names[case.name.replace("/", "_")].append(case.name)
    twice = [same for same in names.values() if len(same) > 1]
    if twice:
        fix = "rename one of them, or convert to an .npz file, which keeps names as they are"
        whats = (f"the cases {' and '.join(map(repr, same))} would be written to one file" for same in twice)
        raise DataError.of([Problem(str(root), what, fix) for what in whats])
    return {name: stem for stem, (name,) in names.items()}


def tell_lost(cases: Sequence[Case], arrays: bool, remade: bool = False) -> None:
    """What is known of the cases, and has no place in what is written."""
    lost = {
        "pixel sizes": any(case.spacing_mm for case in cases) and not arrays,
        "class folders": any(case.label for case in cases),
        "the split that the data came with": any(case.part for case in cases),
        "weights of pixels": any(case.weights for case in cases) and not remade,
    }
    if any(lost.values()):
        log.warning(
            "not kept, since there is no place for it: %s", ", ".join(name for name, is_lost in lost.items() if is_lost)
        )


def shown_mask(mask: NDArray[np.uint8], classes: int) -> NDArray[np.uint8]:
    """A mask (h, w) as pictures store it: one class as 255, several as their indices."""
    return mask * np.uint8(255) if classes == 1 else mask


def mask_files(stem: str, mask: NDArray[np.uint8], names: Sequence[str]) -> dict[str, NDArray[np.uint8]]:
    """The files of a mask in a folder of a data set; of classes that may overlap each has a folder."""
    if overlaps(mask):
        return {f"masks/{name}/{stem}.png": shown_mask(plane, 1) for name, plane in zip(names, mask, strict=True)}
    return {f"masks/{stem}.png": shown_mask(mask, len(names))}


def write_pixels(path: Path, pixels: NDArray[np.generic], source: str) -> None:
    """A PNG of an image of `source`.

    Raises:
        DataError: no PNG holds it.
    """
    kind = pixels.dtype.name, 1 if pixels.ndim == 2 else pixels.shape[2]
    if kind not in PNG_HOLDS:
        what = f"has {kind[1]} channels of {kind[0]}, which no PNG that can be read again holds"
        raise DataError(source, what, "write an .npz file instead")
    write_png(path, pixels)
