"""What a layout returns, and the pairing that most of them share."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from pocketseg.data.case import Case, FileSource
from pocketseg.data.layouts.naming import STEM, Match, Naming, hint, match
from pocketseg.data.readers import SUFFIXES, is_picture, stem_of
from pocketseg.data.volumes import DETACHED, detached_files, dicom_files, is_dicom
from pocketseg.data.volumes import SUFFIXES as VOLUMES
from pocketseg.errors import DataError, Problem
from pocketseg.text import counted

# With more folders inside of images and masks each is a patient, not a class.
MAX_CLASSES = 3
IGNORED_NAMES = {"thumbs.db", "desktop.ini"}


@dataclass
class Listing:
    """Cases found by a layout, and everything that is wrong with them, reported together.

    Attributes:
        cases: what pairs.
        problems: what does not.
        rule: how masks are called after their images, such as {stem}_mask; empty where names are not what pairs them.
        classes: names of the foreground classes 1, 2, … that the data set itself gives.
    """

    cases: list[Case] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    rule: str = ""
    classes: tuple[str, ...] = ()


class Layout(Protocol):
    """A way that a data set lies on disk."""

    def matches(self, root: Path) -> bool: ...

    def find(self, root: Path) -> Listing: ...


class NamedLayout(Protocol):
    """A layout that pairs by names, found by itself or given."""

    def matches(self, root: Path, naming: Sequence[Naming] = ()) -> bool: ...

    def find(self, root: Path, naming: Sequence[Naming] = ()) -> Listing: ...


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
    return sorted(filter(_is_image, _entries(folder)), key=lambda path: natural_key(path.name))


def _is_image(path: Path) -> bool:
    litter = path.name.startswith(".") or path.name.lower() in IGNORED_NAMES
    return not litter and has_pixels(path) and not path.is_dir()


def holds_images(folder: Path) -> bool:
    """Whether there is an image file or a folder of DICOM files directly in a folder."""
    entries = _entries(folder)
    return any(map(_is_image, entries)) or any(dicom_files(inside) for inside in subfolders(folder))


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


def unread_files(root: Path, *, below: bool = True) -> list[Path]:
    """All files in a folder and below it but hidden ones, litter, and those that nobody takes for images."""
    found: list[Path] = []
    for place, folders, names in os.walk(root):
        found += [Path(place, name) for name in sorted(folders) if _is_array(name)]
        folders[:] = sorted(name for name in folders if below and not name.startswith(".") and not _is_array(name))
        for name in sorted(names):
            litter = name.lower() in IGNORED_NAMES or name.upper() == "DICOMDIR"
            bare = litter or ("." not in name and not is_picture(Path(place, name)))
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
    kinds = Counter(map(_kind, files))
    return ", ".join(counted(count, kind) for kind, count in kinds.most_common())


def _kind(path: Path) -> str:
    ending = "".join(path.suffixes[-2:]) if path.name.lower().endswith(".gz") else path.suffix
    if ending or is_dicom(path):
        return f"{ending.lower() or 'DICOM'} file"
    return "image file[|s] without an ending"


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
    """Files by stem; stems that appear twice (a.png and a.tif) are a problem."""
    groups: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    twice = [same for same in groups.values() if len(same) > 1]
    if twice:
        names = " and ".join(path.name for path in twice[0])
        more = f", and {len(twice) - 1:,} more" if len(twice) > 1 else ""
        files = [str(same[0]) for same in twice]
        problems.append(Problem.at(files, f"the same stem twice: {names}{more}", "keep one of them"))
    return {stem: same[0] for stem, same in groups.items()}


def pair_folders(images: Path, masks: Path, naming: Sequence[Naming] = ()) -> Listing:
    """Pair the entries of two folders by their stems; whatever stays single is a problem.

    Args:
        images, masks: the folders.
        naming: how masks are called; empty: as `naming.match` finds it.
    """
    listing = Listing()
    for folder in (images, masks):
        if not folder.is_dir():
            listing.problems.append(Problem(str(folder), "the folder does not exist", "check the name"))
    if listing.problems:
        return listing
    mirrored = mirrored_folders(images, masks)
    if mirrored:
        return _pair_mirrored(images, masks, mirrored, naming)
    ours = by_stem(images_and_series(images), listing.problems)
    theirs = by_stem(images_and_series(masks), listing.problems)
    return matched(ours, theirs, match(ours, theirs, naming), listing.problems, (images, masks))


def matched(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    found: Match,
    problems: Sequence[Problem] = (),
    places: tuple[Path, Path] | None = None,
) -> Listing:
    """The cases of images and masks by their stems, and what is wrong with the rest, one problem a kind.

    Args:
        images, masks: files by stem.
        found: which belong together.
        problems: what was wrong before.
        places: their folders, where they lie in two.
    """
    listing = Listing(problems=list(problems), rule=found.rule)
    if found.doubt:
        where = places[1] if places else next(iter(images.values())).parent
        listing.problems.append(Problem(str(where), *found.doubt))
        if not found.masks:
            return listing
    lacking: list[str] = []
    for stem, path in images.items():
        mine = found.masks.get(stem, ())
        if mine and found.raters and len(mine) != len(found.raters):
            lacking.append(str(path))
        elif mine:
            sources = tuple(FileSource(masks[mask]) for mask in mine)
            listing.cases.append(Case(stem, FileSource(path), sources, raters=found.raters))
    if lacking:
        what = f"of {counted(len(images), 'image')} lack the mask of one of the raters {', '.join(found.raters)}"
        listing.problems.append(Problem.at(lacking, f"{len(lacking)} {what}", "add it, or leave the image out"))
    used = {mask for image in images for mask in found.masks.get(image, ())}
    alone = {stem: path for stem, path in images.items() if stem not in found.masks and stem not in found.beside}
    lost = {stem: path for stem, path in masks.items() if stem not in used and stem not in found.beside}
    listing.problems += _unpaired(alone, lost, (len(images), len(masks)), found, places)
    return listing


def _unpaired(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    counts: tuple[int, int],
    found: Match,
    places: tuple[Path, Path] | None,
) -> Iterator[Problem]:
    """What has no partner, one problem for images and one for masks, with what would pair them."""
    closest, fix = hint(images, masks)
    also = f"; {closest}" if closest else ""
    if places and images:
        strange = [file for file in unread_files(places[1]) if not has_pixels(file)]
        also += f"; {places[1].name} holds {kinds_text(strange)}, which cannot be read" if strange else ""
    for kind, other, files, count, place in (
        ("image", "mask", images, counts[0], places and places[1]),
        ("mask", "image", masks, counts[1], places and places[0]),
    ):
        if not files:
            continue
        stem, path = next(iter(files.items()))
        inside = f" in {place}" if place else ""
        wanted = found.rule.replace(STEM, stem) if kind == "image" and not places and STEM in found.rule else ""
        if len(files) == 1:
            what = f"has no {other}{inside}{also}"
            add = f"add {wanted}{path.suffix}" if wanted else f"add a mask with the stem {stem!r}"
            add = add if kind == "image" else "add the image"
        else:
            what = f"{len(files):,} of {counted(count, kind)} have no {other}{inside}{also}"
            add = f"add the {other}s"
        way = fix or f"{add}, or remove the {kind}{'s' if len(files) > 1 else ''}"
        yield Problem.at([str(file) for file in files.values()], what, way)
        also = ""


def mirrored_folders(images: Path, masks: Path) -> list[str]:
    """Folders of the same names inside of two folders that hold no images themselves: one a patient, or a class."""
    if not images.is_dir() or not masks.is_dir() or holds_images(images) or holds_images(masks):
        return []
    theirs = {folder.name for folder in subfolders(masks) if any(map(_is_image, _entries(folder)))}
    ours = (folder for folder in subfolders(images) if folder.name in theirs)
    return [folder.name for folder in ours if any(map(_is_image, _entries(folder)))]


def _pair_mirrored(images: Path, masks: Path, names: Sequence[str], naming: Sequence[Naming]) -> Listing:
    """The pairs of mirrored folders: few are classes, more are patients and become groups."""
    whole = Listing()
    others = {folder.name: folder for place in (images, masks) for folder in subfolders(place)}
    for name in others.keys() - set(names):
        what = f"is a folder that {images.name} and {masks.name} do not both have with images"
        whole.problems.append(Problem(str(others[name]), what, "add the other, or move it away"))
    for name in names:
        listing = pair_folders(images / name, masks / name, naming)
        if len(names) <= MAX_CLASSES:
            cases = [replace(case, label=name) for case in listing.cases]
        else:
            cases = [replace(case, group=name, subject=name) for case in listing.cases]
        whole.cases += [replace(case, name=f"{name}/{case.name}") for case in cases]
        whole.problems += listing.problems
        whole.rule = listing.rule
    return whole


def pair_parts(folders: Mapping[str, tuple[Path, Path]], naming: Sequence[Naming] = ()) -> Listing:
    """Pairs of several folders, each a part of the data's own split; a stem in two of them gets the part before it."""
    return join_parts({part: pair_folders(images, masks, naming) for part, (images, masks) in folders.items()})


def join_parts(listings: Mapping[str, Listing]) -> Listing:
    """The cases of several listings, each a part of the data's own split; a name in two gets its part before it."""
    whole = Listing()
    for part, listing in listings.items():
        whole.cases += [replace(case, part=part) for case in listing.cases]
        whole.problems += listing.problems
        whole.rule, whole.classes = listing.rule, listing.classes
    twice = {name for name, count in Counter(case.name for case in whole.cases).items() if count > 1}
    whole.cases = [
        replace(case, name=f"{case.part}/{case.name}") if case.name in twice else case for case in whole.cases
    ]
    return whole
