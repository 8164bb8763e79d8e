"""A folder of images beside a folder of masks, by their usual names; any two through data.images and data.masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pocketseg.data.layouts.listing import Listing, pair_folders
from pocketseg.data.layouts.naming import Naming
from pocketseg.data.layouts.usual import usual_folders
from pocketseg.errors import Problem

NAME = "folders"
WEIGHTS = "weights"
LOOKS_LIKE = "images/NAME.png + masks/NAME.png (or NAME_mask.png …; imgs, labels, gt and other usual names)"


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    return bool(usual_folders(root))


def find(root: Path, naming: Sequence[Naming] = (), images: str | None = None, masks: str | None = None) -> Listing:
    """Cases of two folders: given, relative to the root or absolute, or those in the root."""
    if images is not None and masks is not None:
        return _weighted(pair_folders(root / images, root / masks, naming), (root / images).parent)
    found = usual_folders(root)
    if len(found.images) > 1 or len(found.masks) > 1:
        several = found.masks if len(found.masks) > 1 else found.images
        what = f"holds several folders of {'masks' if several is found.masks else 'images'}: "
        first, other = (folder.name for folder in (found.images[0], found.masks[0]))
        fix = f"say which: --set 'data.images={first}' --set 'data.masks={other}'"
        return Listing(problems=[Problem(str(root), what + ", ".join(folder.name for folder in several), fix)])
    one, other_folder = (found.images[0], found.masks[0]) if found else (root / "images", root / "masks")
    return _weighted(pair_folders(one, other_folder, naming), one.parent)


def _weighted(listing: Listing, parent: Path) -> Listing:
    """The cases with the weights of their pixels, where a folder `weights` beside the images has NAME.npy."""
    if (parent / WEIGHTS).is_dir():
        files = [parent / WEIGHTS / f"{case.name}.npy" for case in listing.cases]
        listing.cases = [
            replace(case, weights=file) if file.is_file() else case
            for case, file in zip(listing.cases, files, strict=True)
        ]
    return listing
