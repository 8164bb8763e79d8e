"""What a layout returns, and the pairing that most of them share."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from pocketseg.data.case import Case, FileSource
from pocketseg.data.readers import SUFFIXES, stem_of
from pocketseg.data.volumes import DETACHED, detached_files, dicom_files, is_dicom
from pocketseg.data.volumes import SUFFIXES as VOLUMES
from pocketseg.errors import DataError, Problem
from pocketseg.text import counted

# With more folders inside of images and masks each is a patient, not a class.
MAX_CLASSES = 3
IGNORED_NAMES = {"thumbs.db", "desktop.ini"}


@dataclass
class Listing:
    """Cases found by a layout, and everything that is wrong with them, reported together."""

    cases: list[Case] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


@lru_cache(maxsize=2**17)
def natural_key(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key that puts 2 before 10.

    Example:
        >>> sorted(["10", "2", "1"], key=natural_key)
        ['1', '2', '10']
    """
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts], text


def has_pixels(path: Path) -> bool:
    """Whether a file counts as an image or volume, by its suffix, or as DICOM by its mark where it has none."""
    return path.name.lower().endswith((*SUFFIXES, *VOLUMES)) or is_dicom(path)


def image_files(folder: Path) -> list[Path]:
    """Image files directly in a folder, in natural order, without hidden files and the litter of file browsers."""
    found = [
        path
        for path in _entries(folder)
        if not path.name.startswith(".")
        and path.name.lower() not in IGNORED_NAMES
        and has_pixels(path)
        and not path.is_dir()
    ]
    return sorted(found, key=lambda path: natural_key(path.name))


def images_and_series(folder: Path) -> list[Path]:
    """Image files directly in a folder, and its subfolders that hold DICOM files: each is one series."""
    series = [inside for inside in subfolders(folder) if dicom_files(inside)]
    return sorted([*image_files(folder), *series], key=lambda path: natural_key(path.name))


# Tables, notes and programs, which nobody takes for images.
NO_IMAGES = (
    ".csv", ".tsv", ".txt", ".md", ".rst", ".json", ".yaml", ".yml", ".xml", ".html", ".htm", ".pdf", ".log", ".py",
    ".ipynb", ".xls", ".xlsx", ".ods", ".doc", ".docx", ".npy", ".npz", ".pseg", ".onnx", ".safetensors", ".pth",
)  # fmt: skip
MAX_FILES = 1_000_000
# A folder that is one array.
ARRAY_FOLDER = ".zarr"


def unread_files(root: Path) -> list[Path]:
    """All files below a folder but hidden ones, litter, and those that nobody takes for images."""
    found: list[Path] = []
    for place, folders, names in os.walk(root):
        found += [Path(place, name) for name in sorted(folders) if _is_array(name)]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _is_array(name))
        for name in sorted(names):
            bare = "." not in name or name.lower() in IGNORED_NAMES or name.upper() == "DICOMDIR"
            if not name.startswith(".") and not name.lower().endswith(NO_IMAGES):
                path = Path(place, name)
                if not bare or is_dicom(path):
                    found.append(path)
        if len(found) > MAX_FILES:
            break
    return found


def _is_array(folder: str) -> bool:
    return folder.lower().endswith(ARRAY_FOLDER)


def of_other_formats(files: Sequence[Path]) -> list[Path]:
    """Those of some files whose formats are not read, without voxels that the header in another of them names."""
    named = {voxels for file in files if file.name.lower().endswith(DETACHED) for voxels in detached_files(file)}
    return [file for file in files if not has_pixels(file) and file not in named]


def kinds_text(files: Sequence[Path]) -> str:
    """Files counted by their ending, the most first.

    Example:
        >>> kinds_text([Path("a.czi"), Path("b.foo"), Path("c.czi")])
        '2 .czi files, 1 .foo file'
    """
    kinds = Counter("".join(path.suffixes[-2:]) if path.name.lower().endswith(".gz") else path.suffix for path in files)
    return ", ".join(counted(count, f"{kind.lower() or 'DICOM'} file") for kind, count in kinds.most_common())


def subfolders(folder: Path) -> list[Path]:
    """Visible folders directly in a folder, in natural order."""
    found = [path for path in _entries(folder) if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except PermissionError:
        what = "the folder cannot be read (permission denied)"
        raise DataError(str(folder), what, "make it readable") from None
    except FileNotFoundError:
        raise DataError(str(folder), "the folder does not exist", "check the name") from None
    except NotADirectoryError:
        raise DataError(str(folder), "is a file, not a folder", "give a folder, or an .npz file") from None


def by_stem(paths: Iterable[Path], problems: list[Problem], key: Callable[[Path], str] = stem_of) -> dict[str, Path]:
    """Files by stem; a stem that appears twice (a.png and a.tif) is a problem."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    for same in groups.values():
        if len(same) > 1:
            names = " and ".join(path.name for path in same)
            problems.append(Problem(str(same[0]), f"the same stem twice: {names}", "keep one of them"))
    return {stem: same[0] for stem, same in groups.items()}


def pair_folders(images: Path, masks: Path, key: Callable[[Path], str] = stem_of) -> Listing:
    """Pair the entries of two folders by exact stem; whatever stays single is a problem.

    Args:
        images, masks: the folders.
        key: the stem of an image, by which it finds its mask.
    """
    listing = Listing()
    for folder in (images, masks):
        if not folder.is_dir():
            listing.problems.append(Problem(str(folder), "the folder does not exist", "check the name"))
    if listing.problems:
        return listing
    mirrored = mirrored_folders(images, masks)
    if mirrored:
        return _pair_mirrored(images, masks, mirrored, key)
    image_by_stem = by_stem(images_and_series(images), listing.problems, key)
    mask_by_stem = by_stem(images_and_series(masks), listing.problems)
    for stem, path in image_by_stem.items():
        if stem in mask_by_stem:
            listing.cases.append(Case(stem, FileSource(path), (FileSource(mask_by_stem[stem]),)))
        else:
            listing.problems.append(
                Problem(
                    str(path),
                    f"has no mask in {masks}",
                    f"add a mask with the stem {stem!r}, or remove the image",
                )
            )
    for stem, path in mask_by_stem.items():
        if stem not in image_by_stem:
            listing.problems.append(
                Problem(str(path), f"has no image in {images}", "add the image, or remove the mask")
            )
    return listing


def mirrored_folders(images: Path, masks: Path) -> list[str]:
    """Folders of the same names inside of two folders that hold no images themselves: one a patient, or a class."""
    if not images.is_dir() or not masks.is_dir() or images_and_series(images) or images_and_series(masks):
        return []
    theirs = {folder.name for folder in subfolders(masks) if image_files(folder)}
    return [folder.name for folder in subfolders(images) if folder.name in theirs and image_files(folder)]


def _pair_mirrored(images: Path, masks: Path, names: Sequence[str], key: Callable[[Path], str]) -> Listing:
    """The pairs of mirrored folders: few are classes, more are patients and become groups."""
    whole = Listing()
    others = {folder.name: folder for place in (images, masks) for folder in subfolders(place)}
    for name in others.keys() - set(names):
        what = f"is a folder that {images.name} and {masks.name} do not both have with images"
        whole.problems.append(Problem(str(others[name]), what, "add the other, or move it away"))
    for name in names:
        listing = pair_folders(images / name, masks / name, key)
        if len(names) <= MAX_CLASSES:
            cases = [replace(case, label=name) for case in listing.cases]
        else:
            cases = [replace(case, group=name, subject=name) for case in listing.cases]
        whole.cases += [replace(case, name=f"{name}/{case.name}") for case in cases]
        whole.problems += listing.problems
    return whole


def pair_parts(folders: Mapping[str, tuple[Path, Path]]) -> Listing:
    """Pairs of several folders, each a part of the data's own split; a stem in two of them gets the part before it."""
    return join_parts({part: pair_folders(images, masks) for part, (images, masks) in folders.items()})


def join_parts(listings: Mapping[str, Listing]) -> Listing:
    """The cases of several listings, each a part of the data's own split; a name in two gets its part before it."""
    whole = Listing()
    for part, listing in listings.items():
        whole.cases += [replace(case, part=part) for case in listing.cases]
        whole.problems += listing.problems
    twice = {name for name, count in Counter(case.name for case in whole.cases).items() if count > 1}
    whole.cases = [
        replace(case, name=f"{case.part}/{case.name}") if case.name in twice else case for case in whole.cases
    ]
    return whole
