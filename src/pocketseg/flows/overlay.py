"""`overlay`: reference and predictions drawn on their image, several models side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.masks import class_indices
from pocketseg.data.readers import read_image, read_mask
from pocketseg.data.volumes import SliceSource, VolumeFile, difference, is_volume, open_volume, slices_of
from pocketseg.errors import DataError, near
from pocketseg.files import try_output
from pocketseg.metrics import overlap as overlap_of
from pocketseg.pipeline.reading import Axis, Reading
from pocketseg.png import write_png
from pocketseg.reporting.overlay import COMPARED, compare, enlarge, side_by_side

COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """The picture, and which slice of a volume it shows."""

    file: Path
    slice: int | None


def overlay(
    image: str | Path,
    out: str | Path,
    *,
    reference: str | Path | None = None,
    predictions: Sequence[str | Path] = (),
    colors: Sequence[str] = COMPARED,
    alpha: float = 0.5,
    axis: Axis = "auto",
    slice_: int | None = None,
) -> Drawn:
    """Draw masks on an image: reference only, prediction only, and both in three colors.

    Args:
        image: a picture, a volume, or the folder of a DICOM series.
        out: PNG file.
        reference: drawn mask; without it predictions are drawn in their color alone.
        predictions: masks; each gets a picture of its own, under its name and Dice.
        colors: "#RRGGBB" of reference only, prediction only, both.
        alpha: 0 to 1.
        axis: planes of a volume.
        slice_: of a volume; default: the one with most foreground.

    Raises:
        DataError: no masks, a mask on another grid, a color that is none, or an output that is one of them.
    """
    masks = [Path(path) for path in ([reference] if reference is not None else [])] + [
        Path(path) for path in predictions
    ]
    _check(masks, colors, alpha, axis)
    try_output(Path(out), Path(image), *masks, ending=".png")
    picture, layers, shown = _read(Path(image), masks, axis, slice_)
    for path, layer in zip(masks, layers, strict=True):
        if layer.shape != picture.shape[:2]:
            sizes = "is {}×{}, its image {}×{}".format(*layer.shape, *picture.shape[:2])
            raise DataError(str(path), sizes, "give masks of this image")
    empty = np.zeros(picture.shape[:2], np.uint8)
    drawn = layers[0] if reference is not None else empty
    found = layers[1:] if reference is not None else layers
    tints = (colors[0], colors[1], colors[2])
    panels = [enlarge(compare(picture, drawn, mask, colors=tints, alpha=alpha)) for mask in (found or [empty])]
    titles = _titles(masks[1:] if reference is not None else masks) or ["reference"]
    if reference is not None and found:
        titles = [
            f"{title}  Dice {overlap_of(mask > 0, drawn > 0).dice:.3f}"
            for title, mask in zip(titles, found, strict=True)
        ]
    write_png(Path(out), side_by_side(panels, titles))
    return Drawn(Path(out), shown)


def _check(masks: Sequence[Path], colors: Sequence[str], alpha: float, axis: str) -> None:
    if not masks:
        raise DataError("overlay", "has no mask to draw", "give --reference, --prediction, or both")
    if len(colors) != 3 or not all(COLOR.fullmatch(color) for color in colors):
        what = f"is {','.join(colors)}; needed are three colors #RRGGBB: reference only, prediction only, both"
        raise DataError("--color", what, "for example --color '#56B4E9,#E69F00,#009E73'")
    if not 0 <= alpha <= 1:
        raise DataError("--alpha", f"is {alpha:g}", "give a number from 0 to 1")
    if axis not in get_args(Axis):
        raise DataError(f"--axis {axis}", "is not an axis", near(axis, get_args(Axis)))


def _read(
    image: Path, masks: Sequence[Path], axis: Axis, slice_: int | None
) -> tuple[NDArray[np.generic], list[Mask], int | None]:
    """Image and masks of one slice, with classes as 1, 2, …; and the slice's number."""
    if not is_volume(image):
        return read_image(image), [class_indices(read_mask(path), str(path)) for path in masks], None
    volume = open_volume(image)
    slices = slices_of(volume, Reading(axis))
    layers = [_slices(path, volume, slices[0].axis) for path in masks]
    if slice_ is None:
        seen = range(len(slices))
        areas = [sum(int(np.count_nonzero(layer[at].mask(gray=False))) for layer in layers) for at in seen]
        slice_ = int(np.argmax(areas))
    if not 0 <= slice_ < len(slices):
        raise DataError(f"--slice {slice_}", f"the volume has the slices 0 to {len(slices) - 1}", "choose one of them")
    shown = [layer[slice_].mask(gray=False) for layer in layers]
    drawn = [class_indices(mask, str(path)) for path, mask in zip(masks, shown, strict=True)]
    return slices[slice_].image(), drawn, slice_


def _slices(path: Path, image: VolumeFile, axis: int) -> list[SliceSource]:
    if not is_volume(path):
        raise DataError(str(path), "is a picture, but the image is a volume", "give the mask as a volume")
    masks = open_volume(path, image)
    apart = difference(image.grid, masks.grid)
    if apart:
        raise DataError(str(path), apart, "give masks on the grid of the image")
    return [SliceSource(masks, axis, index, Reading()) for index in range(image.grid.canonical_shape[axis])]


def _titles(paths: Sequence[Path]) -> list[str]:
    """File names, with the folder before them where they are equal."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [f"{path.parent.name}/{path.name}" for path in paths]
