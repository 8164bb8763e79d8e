"""Nuclei of the 2018 Data Science Bowl: a folder an image, with one mask an object; the masks are united."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data.case import Case, FileSource
from pocketseg.data.layouts.listing import Listing, image_files, subfolders
from pocketseg.errors import Problem

NAME = "dsb2018"
LOOKS_LIKE = "ID/images/ID.png + ID/masks/*.png"


def matches(root: Path) -> bool:
    if not root.is_dir():
        return False
    return any(_is_case(folder) for folder in subfolders(root))


def _is_case(folder: Path) -> bool:
    images, masks = folder / "images", folder / "masks"
    if not images.is_dir() or not masks.is_dir():
        return False
    return [path.stem for path in image_files(images)] == [folder.name]


def find(root: Path) -> Listing:
    listing = Listing()
    for folder in subfolders(root):
        if not _is_case(folder):
            what = "is not a folder of one image of the same name and its masks"
            listing.problems.append(Problem(str(folder), what, "move it elsewhere"))
            continue
        masks = tuple(FileSource(path) for path in image_files(folder / "masks"))
        if not masks:
            listing.problems.append(Problem(str(folder / "masks"), "holds no mask", "add the masks of the objects"))
            continue
        listing.cases.append(Case(folder.name, FileSource(image_files(folder / "images")[0]), masks))
    return listing
