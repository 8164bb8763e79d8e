"""`overlay`: reference and predictions drawn on their image, several models side by side."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import MaskCoding
from pocketseg.data.annotations.classes import classed
from pocketseg.data.case import FileSource, Source
from pocketseg.data.masks import class_indices
from pocketseg.data.readers import read_image
from pocketseg.data.volumes import NamedRegions, SliceSource, VolumeFile, difference, is_volume, open_volume, slices_of
from pocketseg.errors import DataError, RecipeError, near
from pocketseg.files import resolved, try_output
from pocketseg.metrics import overlap as overlap_of
from pocketseg.pipeline.reading import Axis, Reading
from pocketseg.png import write_png
from pocketseg.recipes import load_data_recipe
from pocketseg.recipes.schema import DataSection
from pocketseg.reporting.overlay import COMPARED, compare, enlarge, side_by_side
from pocketseg.runs.opening import mask_coding, run_around

log = logging.getLogger("pocketseg")

# A reference with a larger share of foreground may be stored inverted.
MOSTLY = 0.5
COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """The picture, which slice of a volume it shows, and the Dice of each prediction where there is a reference."""

    file: Path
    slice: int | None
    dice: tuple[float, ...] = ()


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
    run: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> Drawn:
    """Draw masks on an image: reference only, prediction only, and both in three colors.

    Args:
        image: a picture, a volume, or the folder of a DICOM series.
        out: PNG file.
        reference: mask; without it predictions are drawn in their color alone.
        predictions: masks; each gets a picture of its own, under its name and Dice.
        colors: "#RRGGBB" of reference only, prediction only, both.
        alpha: 0 to 1.
        axis: planes of a volume.
        slice_: of a volume; default: the one with most foreground.
        run: the run folder, or a model in it, whose recipe says how the reference stores classes.
        overrides: `data.KEY=VALUE`, the same as on the command line of `train`, such as data.mask.invert=true. Without
            both a single value above 0 is the foreground, or values are class indices. Predictions are read as
            `predict` writes them.

    Raises:
        DataError: no masks, a mask on another grid, a color that is none, or an output that is one of them.
    """
    masks = [Path(path) for path in ([reference] if reference is not None else [])] + [
        Path(path) for path in predictions
    ]
    _check(masks, colors, alpha, axis)
    rules = _rules(masks, reference is not None, run, overrides)
    try_output(Path(out), Path(image), *masks, ending=".png")
    picture, layers, shown = _read(Path(image), masks, rules, axis, slice_)
    for path, layer in zip(masks, layers, strict=True):
        if layer.shape != picture.shape[:2]:
            sizes = "is {}×{}, its image {}×{}".format(*layer.shape, *picture.shape[:2])
            raise DataError(str(path), sizes, "give masks of this image")
    empty = np.zeros(picture.shape[:2], np.uint8)
    drawn = layers[0] if reference is not None else empty
    if reference is not None and not (run or overrides) and drawn.mean(dtype=float) > MOSTLY:
        log.warning("%s: most of it is foreground; where it is stored inverted, --set data.mask.invert=true", reference)
    found = layers[1:] if reference is not None else layers
    tints = (colors[0], colors[1], colors[2])
    panels = [enlarge(compare(picture, drawn, mask, colors=tints, alpha=alpha)) for mask in (found or [empty])]
    titles = _titles(masks[1:] if reference is not None else masks) or ["reference"]
    dice = [overlap_of(mask > 0, drawn > 0).dice for mask in found if reference is not None]
    if dice:
        titles = [f"{title}  Dice {share:.3f}" for title, share in zip(titles, dice, strict=True)]
    write_png(Path(out), side_by_side(panels, titles))
    return Drawn(Path(out), shown, tuple(dice))


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


def _rules(masks: Sequence[Path], with_reference: bool, run: str | Path | None, overrides: Sequence[str]) -> list[Rule]:
    """How each mask becomes class indices: the reference by the data's rules, predictions as they are written."""
    if run is None and not overrides:
        return [Rule()] * len(masks)
    section = _section(run, overrides)
    mine = Rule(MaskCoding(classes=len(section.classes)), names=tuple(section.classes))
    theirs = Rule(mask_coding(section), names=() if section.mask.by_folder else tuple(section.classes))
    if with_reference and section.mask.by_folder:
        folder = resolved(masks[0]).parent.name
        if folder not in section.classes:
            what = f"lies in the folder {folder!r}, which is not a class among {', '.join(section.classes)}"
            raise DataError(str(masks[0]), what, "set data.mask.by_folder=false")
        theirs = replace(theirs, index=section.classes.index(folder) + 1)
    return [theirs if with_reference and not at else mine for at in range(len(masks))]


def _section(run: str | Path | None, overrides: Sequence[str]) -> DataSection:
    foreign = [text for text in overrides if not text.startswith("data.")]
    if foreign:
        raise RecipeError(f"--set {foreign[0]}", "overlay only reads data", "set keys that begin with data.")
    found = None if run is None else run_around(Path(run))
    if run is not None and found is None:
        raise DataError(str(run), "is not a run and lies in none", "give a run folder, or leave out --run")
    start = {} if found is None else {"data": found.recipe().data.model_dump(mode="json")}
    section = load_data_recipe(start, overrides).data
    if section.multilabel:
        fix = "give the file of one class as reference, one as prediction, and neither --run nor --set"
        raise DataError("data.multilabel", "overlay compares masks of classes that exclude each other", fix)
    return section


@dataclass(frozen=True)
class Rule:
    """How a stored mask becomes class indices; without a coding its values say it (`masks.class_indices`).

    `index` is the class of its one foreground, `names` are the classes of regions that have names.
    """

    coding: MaskCoding | None = None
    index: int = 1
    names: tuple[str, ...] = ()

    def read(self, source: Source) -> Mask:
        if self.coding is None:
            return class_indices(source.mask(gray=False), source.where)
        stored = source.mask(gray=self.coding.threshold is not None, colors=self.coding.color_rule)
        return self.coding.decode(stored, source.where) * np.uint8(self.index)


def _read(
    image: Path, masks: Sequence[Path], rules: Sequence[Rule], axis: Axis, slice_: int | None
) -> tuple[NDArray[np.generic], list[Mask], int | None]:
    """Image and masks of one slice, with classes as 1, 2, …; and the slice's number."""
    if not is_volume(image):
        return read_image(image), [rule.read(FileSource(path)) for rule, path in zip(rules, masks, strict=True)], None
    volume = open_volume(image)
    slices = slices_of(volume, Reading(axis))
    volumes = _same_names([_mask(path, volume, rule) for path, rule in zip(masks, rules, strict=True)], rules)
    numbers = range(volume.grid.canonical_shape[slices[0].axis])
    layers = [[SliceSource(mask, slices[0].axis, number, Reading()) for number in numbers] for mask in volumes]
    if slice_ is None:
        seen = range(len(slices))
        pairs = list(zip(rules, layers, strict=True))
        areas = [sum(int(np.count_nonzero(rule.read(layer[at]))) for rule, layer in pairs) for at in seen]
        slice_ = int(np.argmax(areas))
    if not 0 <= slice_ < len(slices):
        raise DataError(f"--slice {slice_}", f"the volume has the slices 0 to {len(slices) - 1}", "choose one of them")
    drawn = [rule.read(layer[slice_]) for rule, layer in zip(rules, layers, strict=True)]
    return slices[slice_].image(), drawn, slice_


def _mask(path: Path, image: VolumeFile, rule: Rule) -> VolumeFile:
    if not is_volume(path):
        raise DataError(str(path), "is a picture, but the image is a volume", "give the mask as a volume")
    masks = open_volume(path, image)
    if rule.coding is not None and rule.names:
        masks = classed(masks, rule.names, rule.coding)
    apart = difference(image.grid, masks.grid)
    if apart:
        raise DataError(str(path), apart, "give masks on the grid of the image")
    return masks


def _same_names(masks: Sequence[VolumeFile], rules: Sequence[Rule]) -> Sequence[VolumeFile]:
    """The masks; where nobody names the classes, regions of one name in several of them get one number."""
    named = [mask for mask in masks if isinstance(mask, NamedRegions)]
    if len(named) < 2 or any(rule.coding is not None for rule in rules):
        return masks
    names = {
        name: number for number, name in enumerate(dict.fromkeys(n for mask in named for n in mask.names), start=1)
    }
    return [mask.valued(names) if isinstance(mask, NamedRegions) else mask for mask in masks]


def _titles(paths: Sequence[Path]) -> list[str]:
    """File names, with the folder before them where they are equal."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [f"{path.parent.name}/{path.name}" for path in paths]
