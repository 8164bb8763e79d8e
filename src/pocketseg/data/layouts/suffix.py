"""One folder with images and masks, known by their names: `X.png` and `X_mask.png`, `X.seg.nrrd`, `X_1stHO.png` …

Several masks `X_mask_1.png`, `X_mask_2.png` are united; those of several raters are kept apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pocketseg.data.layouts import hc18
from pocketseg.data.layouts.listing import Listing, by_stem, image_files, matched
from pocketseg.data.layouts.naming import Match, Naming, match_folder
from pocketseg.data.readers import stem_of
from pocketseg.errors import Problem

NAME = "suffix"
LOOKS_LIKE = "NAME.png + NAME_mask.png (and NAME_mask_1.png …), or any one text before or after NAME"
JPEG = (".jpg", ".jpeg")


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    if not naming and hc18.matches(root):
        return False  # outlines, which are filled
    files = image_files(root)
    _, masks, found = match_folder({_stem(path) for path in files}, naming)
    return bool(masks) or found.doubt is not None or bool(_by_format(files))


def _stem(path: Path) -> str:
    """The stem, with the `.seg` of segmentations, which tells them from their image."""
    return path.stem if path.name.lower().endswith(".seg.nrrd") else stem_of(path)


def find(root: Path, naming: Sequence[Naming] = (), label: str | None = None) -> Listing:
    """Cases of one folder; `label` is the class folder they lie in."""
    files = image_files(root)
    problems: list[Problem] = []
    if same := _by_format(files):
        images, masks = same
        found = Match({stem: [stem] for stem in images}, rule="the same stem, images as JPEG")
    else:
        stems = by_stem(files, problems, _stem)
        ours, theirs, found = match_folder(stems, naming)
        # In the order of the files, whatever the hash seed.
        images = {stem: path for stem, path in stems.items() if stem in ours}
        masks = {stem: path for stem, path in stems.items() if stem in theirs}
    listing = matched(images, masks, found, problems)
    listing.cases = [replace(case, label=label) for case in listing.cases]
    return listing


def _by_format(files: Sequence[Path]) -> tuple[dict[str, Path], dict[str, Path]] | None:
    """Images and masks of one stem each: a JPEG, which can hold no mask, and one file of another format."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        groups[stem_of(path)].append(path)
    images = {stem: path for stem, both in groups.items() for path in both if path.suffix.lower() in JPEG}
    masks = {stem: path for stem, both in groups.items() for path in both if path.suffix.lower() not in JPEG}
    kinds = {path.suffix.lower() for path in masks.values()}
    whole = len(files) == len(images) + len(masks) and images.keys() == masks.keys()
    return (images, masks) if whole and files and len(kinds) == 1 else None
