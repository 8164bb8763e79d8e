"""One folder with `X.png` and `X_mask.png` (or `X_seg`, `X-label`); several masks `X_mask_1.png` … are united.

3D Slicer saves `X.nrrd` and `X.seg.nrrd`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from pocketseg.data.case import Case, FileSource
from pocketseg.data.layouts.listing import Listing, by_stem, image_files
from pocketseg.data.readers import stem_of
from pocketseg.errors import Problem

NAME = "suffix"
LOOKS_LIKE = "NAME.png + NAME_mask.png (and NAME_mask_1.png …)"
MASK_STEM = re.compile(r"(?P<image>.+)(?P<suffix>_mask|_seg|-label|\.seg)(_\d+)?", re.DOTALL)


def matches(root: Path) -> bool:
    return any(MASK_STEM.fullmatch(_stem(path)) for path in image_files(root))


def _stem(path: Path) -> str:
    """The stem, with the `.seg` of segmentations, which tells them from their image."""
    return path.stem if path.name.lower().endswith(".seg.nrrd") else stem_of(path)


def find(root: Path, label: str | None = None) -> Listing:
    """Cases of one folder; `label` is the class folder they lie in."""
    listing = Listing()
    files = by_stem(image_files(root), listing.problems, _stem)
    images: dict[str, Path] = {}
    masks: dict[str, list[Path]] = defaultdict(list)
    suffixes: dict[str, set[str]] = defaultdict(set)
    for stem, path in files.items():
        if match := MASK_STEM.fullmatch(stem):
            masks[match["image"]].append(path)
            suffixes[match["image"]].add(match["suffix"])
        else:
            images[stem] = path
    for stem, path in images.items():
        if len(suffixes[stem]) > 1:
            what = f"has masks of several kinds: {', '.join(mask.name for mask in masks[stem])}"
            listing.problems.append(Problem(str(path), what, "keep those of one kind"))
        elif stem in masks:
            listing.cases.append(
                Case(stem, FileSource(path), tuple(FileSource(mask) for mask in masks[stem]), label=label)
            )
        else:
            listing.problems.append(
                Problem(str(path), "has no mask", f"add {stem}_mask{path.name.removeprefix(stem)}, or remove the image")
            )
    for stem in (stem for stem in masks if stem not in images):
        for path in masks[stem]:
            listing.problems.append(
                Problem(
                    str(path), "has no image", f"add {stem}{path.name.removeprefix(_stem(path))}, or remove the mask"
                )
            )
    return listing
