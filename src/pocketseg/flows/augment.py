"""`data augment`: augmented copies of a data set, as files that any program reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases
from pocketseg.data.writing import GROUPS, Converted, mask_files, stems_of, tell_lost, write_pixels
from pocketseg.errors import DataError
from pocketseg.files import inside, whole_folder, write_atomically
from pocketseg.layers import grid_of
from pocketseg.packages import require_torch
from pocketseg.recipes import load_recipe
from pocketseg.recipes.schema import AugmentSection
from pocketseg.runs.opening import open_cases
from pocketseg.tables import csv_text
from pocketseg.training.own_augment import Function, OwnAugmentation, own_augmentation

Pair = tuple[NDArray[np.generic], NDArray[np.uint8]]


def augment(
    data: str | Path,
    recipe: str | Path | dict[str, Any],
    out: str | Path,
    *,
    copies: int = 1,
    seed: int = 0,
    overrides: Sequence[str] = (),
    function: Function | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write every case and augmented copies of it, image and mask moved alike, each at its own size.

    `groups.csv` beside them has the group of each: a copy is in that of its original, and no split tears them apart.

    Args:
        data: folder or file of images and masks.
        recipe: whose `augment` says what is changed, and `data` how the data is read: shipped name, file, mapping.
        out: a new folder, which gets `images/` (PNG), `masks/`, of classes that may overlap `masks/CLASS/`, and
            `groups.csv`.
        copies: of each case, beside the case itself; they are called NAME_copy1 and so on.
        seed: other seeds give other copies.
        overrides: `key=value`, as --set on the command line.
        function: a function (image, mask, generator) of your own that comes first; see `train`.
        progress: called with (done, of).

    Raises:
        RecipeError: the recipe changes nothing, or turns images by 90 degrees that are no squares.
        DataError: nothing to augment, faulty files, no PNG holds an image, or an output that exists.
    """
    require_torch()
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(str(out), "already exists", "choose another name for the output")
    if copies < 1:
        raise DataError(f"--copies {copies}", "makes nothing", "give 1 or more")
    read = load_recipe(recipe, overrides)
    own = own_augmentation(read.augment.own, function, len(read.data.classes))
    plain = AugmentSection(border=read.augment.border, copies=read.augment.copies)
    if own is None and read.augment == plain:
        raise DataError("augment", "changes nothing in this recipe", "set some of its keys, such as augment.flip")
    cases = open_cases(data, read.data)
    cases.check()
    kept, of_masks = list(cases), read.data.classes
    stems = stems_of(cases.root, kept)
    names = {stem: [f"{stem}_copy{number}" for number in range(1, copies + 1)] for stem in stems.values()}
    taken = set(names) & {copy for made in names.values() for copy in made}
    if taken:
        what = f"has cases that are called as copies of others would be ({', '.join(sorted(taken)[:3])})"
        raise DataError(str(cases.root), what, "rename them")
    tell_lost(kept, arrays=False)
    rows: list[tuple[str, str]] = []
    with whole_folder(out) as temporary:
        for number, case in enumerate(kept):
            stem = stems[case.name]
            made = _made(cases, case, read.augment, own, copies, (seed, number))
            for name, (image, mask) in zip([stem, *names[stem]], made, strict=True):
                write_pixels(inside(temporary, "images", f"{name}.png"), image, case.image.where)
                for place, pixels in mask_files(name, mask, of_masks).items():
                    write_pixels(inside(temporary, place), pixels, case.image.where)
                rows.append((name, case.group))
            if progress:
                progress(number + 1, len(kept))
        write_atomically(temporary / GROUPS, csv_text([("case", "group"), *rows]))
    return Converted(len(rows), groups=out / GROUPS)


def _made(
    cases: Cases, case: Case, options: AugmentSection, own: OwnAugmentation | None, copies: int, key: tuple[int, int]
) -> Iterator[Pair]:
    """The case, and changed copies of it."""
    image, mask = cases.image(case), cases.mask(case)
    height, width = grid_of(mask)
    if options.rotate90 and height != width:
        what = f"is {height}×{width}, and augment.rotate90 turns squares alone"
        raise DataError(case.image.where, what, "set augment.rotate90=false, or convert the data with --size first")
    yield image, mask
    for copy in range(copies):
        yield _changed(image, mask, options, own, (*key, copy), case.image.where)


def _changed(
    image: NDArray[np.generic],
    mask: NDArray[np.uint8],
    options: AugmentSection,
    own: OwnAugmentation | None,
    key: tuple[int, ...],
    where: str,
) -> Pair:
    """One copy; integers are rounded and stay within what their type holds."""
    import torch

    from pocketseg.training.augment import augment as applied
    from pocketseg.training.augment import draw, sample_generator

    planes = np.moveaxis(image, -1, 0) if image.ndim == 3 else image[None]
    pixels, labels = np.ascontiguousarray(planes, np.float32), mask
    if own is not None:
        pixels, labels = own(pixels, labels, sample_generator(1, *key), where)
    drawn = [draw(sample_generator(0, *key), options, *grid_of(mask))]
    images, masks = applied(torch.from_numpy(pixels)[None], torch.from_numpy(labels.copy())[None], drawn, options)
    found = images[0].numpy()
    if image.dtype.kind in "ui":
        limits = np.iinfo(image.dtype.name)
        found = np.rint(found).clip(limits.min, limits.max)
    if image.dtype == bool:
        found = found >= 0.5
    moved = np.moveaxis(found, 0, -1) if image.ndim == 3 else found[0]
    return moved.astype(image.dtype), masks[0].numpy()
