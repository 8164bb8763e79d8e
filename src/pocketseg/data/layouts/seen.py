"""What lies in a folder that no layout fits, what it comes closest to, and the command that would read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from pocketseg.data.layouts.listing import NO_IMAGES, has_pixels, kinds_text, of_other_formats, subfolders, unread_files
from pocketseg.data.layouts.naming import closest as of_one_folder
from pocketseg.data.layouts.naming import hint, match
from pocketseg.data.layouts.paths_csv import header
from pocketseg.data.layouts.usual import IMAGES, MASKS, words_of
from pocketseg.data.readers import stem_of
from pocketseg.data.unread import ways_out

# Folders that are named, and levels that are looked into.
NAMED, DEPTH = 8, 4
# What folders' names say: that one holds masks, and that the other holds images too.
MASKS_NAMED, BOTH_NAMED = 2, 3
TABLE = "give a table: --data cases.csv with the columns image,mask"


@dataclass(frozen=True)
class Place:
    """A folder with the files that are directly in it."""

    folder: Path
    files: list[Path]

    @property
    def images(self) -> list[Path]:
        """Those that can be read."""
        return [file for file in self.files if has_pixels(file)]

    @property
    def stems(self) -> set[str]:
        return {stem_of(path) for path in self.images}

    @property
    def words(self) -> set[str]:
        return {self.folder.name.lower(), *words_of(self.folder.name)}

    @property
    def bytes(self) -> int:
        """Of the first file: masks take less."""
        try:
            return self.images[0].stat().st_size
        except OSError:
            return 0


def seen(root: Path) -> str:
    """Formats, counts and the name of a file, by folder; formats that are not read are called so."""
    places = _places(root)
    described = [
        ("" if place.folder == root else f"{_name(place.folder, root)}: ") + _kinds(place.files)
        for place in places[:NAMED]
    ]
    if len(places) > NAMED:
        described.append(f"and {len(places) - NAMED:,} folders more")
    others = [path for path in sorted(root.iterdir()) if path.name.lower().endswith(NO_IMAGES)]
    if others:
        kinds = sorted(Counter(path.suffix.lower() for path in others).items())
        beside = ("beside them " if described else "") + ", ".join(f"{count:,} {kind}" for kind, count in kinds)
        described.append(beside)
    described += [
        f"{path.name} has the columns {', '.join(header(path)[:NAMED])}, a table of paths has image and mask"
        for path in [each for each in others if each.suffix.lower() == ".csv"][:1]
    ]
    return "; ".join(described)


def closest(root: Path) -> str:
    """What comes closest, and the command that would do it; empty where nothing does."""
    places = _places(root)
    strange = [file for place in places for file in of_other_formats(place.files)]
    ways = [f"of what is not read, {ways_out(strange)}"] if strange else []
    found = _closest(root, [place for place in places if place.images][:NAMED])
    return "; or ".join([*ways, *([found, TABLE] if found else [])])


def _closest(root: Path, places: Sequence[Place]) -> str:
    best = max(permutations(places, 2), key=lambda both: _likeness(*both), default=None)
    if best is not None and _plausible(*best):
        images, masks = (_name(place.folder, root) for place in best)
        ours, theirs = (place.stems for place in best)
        found = match(ours, theirs)
        why = f"{len(found.masks):,} of {len(ours):,} names pair" if found.masks else hint(ours, theirs)[0]
        command = f"--set 'data.images={images}' --set 'data.masks={masks}'"
        return f"closest are two folders, {images} and {masks} ({why}): {command}"
    for place in places:
        naming, count = of_one_folder(place.stems, place.stems)
        if naming is not None and count > 1:
            name = _name(place.folder, root)
            return f"closest: {count:,} files in {name} are called as another, {naming}: {naming.command}"
    return ""


def _plausible(images: Place, masks: Place) -> bool:
    """Whether that may be images and masks: most names pair, or the folders are called so; not equal counts alone."""
    pairs, named, alike, *_ = _likeness(images, masks)
    return 2 * pairs >= len(images.stems) or named == BOTH_NAMED or (named >= MASKS_NAMED and alike)


def _likeness(images: Place, masks: Place) -> tuple[int, int, bool, bool, int]:
    """How much two places look like images and masks: by names of files and folders, counts, formats, and sizes."""
    named = bool(images.words & set(IMAGES)) + MASKS_NAMED * bool(masks.words & set(MASKS))
    no_jpeg = all(path.suffix.lower() not in (".jpg", ".jpeg") for path in masks.images)
    alike = len(images.stems) == len(masks.stems)
    return len(match(images.stems, masks.stems).masks), named, alike, no_jpeg, -masks.bytes


def _places(root: Path) -> list[Place]:
    """The folder and those below it that hold files that somebody may take for images."""
    found, level = [], [root]
    for _ in range(DEPTH):
        for folder in level:
            files = unread_files(folder, below=False)
            if files:
                found.append(Place(folder, files))
        level = [inside for folder in level for inside in subfolders(folder)][:1000]
    return found


def _name(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix()


def _kinds(files: Sequence[Path]) -> str:
    """Formats and counts, with the name of one file, by which people know which folder it is."""
    read, strange = [file for file in files if has_pixels(file)], of_other_formats(files)
    kinds = [*([kinds_text(read)] if read else []), *([f"{kinds_text(strange)} (not read)"] if strange else [])]
    return f"{', '.join(kinds)}, {'such as ' if len(files) > 1 else ''}{min(files).name}"
