"""Arrays (B, H, W, 1): one `.npz` with `images, masks` or `arr_0, arr_1`, or `images.npy` and `masks.npy`.

An `.npz` may also hold, for each row: `names` (unique) and `groups`, both text or integers, and `spacing_mm` (B, 2; nan
is unknown).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pocketseg.data.case import ArraySource, Case, array_names, open_array
from pocketseg.data.layouts.listing import Listing
from pocketseg.errors import DataError, Problem
from pocketseg.text import counted

NAME = "npz"
LOOKS_LIKE = "FILE.npz with arrays images, masks (or arr_0, arr_1), or images.npy + masks.npy"
DESCRIBED: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("names", "Uiu", ()),
    ("groups", "Uiu", ()),
    ("spacing_mm", "f", (2,)),
)
# Of a file system, in bytes.
LONGEST_PART = 255
MEMBERS = (("images", "masks"), ("arr_0", "arr_1"))


def matches(root: Path) -> bool:
    return root.suffix == ".npz" or ((root / "images.npy").is_file() and (root / "masks.npy").is_file())


def find(root: Path, images: str | None = None, masks: str | None = None) -> Listing:
    """Cases of a file `root.npz`, or of two `.npy` files in the folder `root`."""
    if root.suffix == ".npz":
        held = array_names(root)
        return _with_members(_pair((root, root), _members(root, held)), root, held)
    files = root / (images or "images.npy"), root / (masks or "masks.npy")
    missing = [Problem(str(file), "the file does not exist", "check the name") for file in files if not file.is_file()]
    return Listing(problems=missing) if missing else _pair(files, (None, None))


def _members(path: Path, names: set[str]) -> tuple[str, str]:
    for pair in MEMBERS:
        if names.issuperset(pair):
            return pair
    raise DataError(
        str(path),
        f"holds the arrays {', '.join(sorted(names)) or '(none)'}",
        "name them `images` and `masks`",
    )


def _with_members(listing: Listing, path: Path, held: set[str]) -> Listing:
    """The cases with the names, groups and pixel sizes that the file holds for them."""
    count = len(listing.cases)
    for member, kinds, shape in DESCRIBED:
        if not count or member not in held:
            continue
        found = open_array(path, member)
        if found.dtype.kind not in kinds or found.shape != (count, *shape):
            wanted = f"{'floats' if kinds == 'f' else 'text or integers'} of the shape {(count, *shape)}"
            what = f"holds {member} of the type {found.dtype} and shape {found.shape}; needed are {wanted}"
            return Listing(problems=[Problem(str(path), what, f"correct {member}, or leave it out")])
        listing.cases = [_with_fact(case, member, value) for case, value in zip(listing.cases, found, strict=True)]
    twice = [name for name, times in Counter(case.name for case in listing.cases).items() if times > 1]
    faults = [f"the name {name!r} appears twice" for name in twice]
    faults += [f"the name {case.name!r} is not a name of a file" for case in listing.cases if not is_name(case.name)]
    faults += [f"{case.name!r} has no pixel size above 0" for case in listing.cases if not _is_size(case.spacing_mm)]
    return Listing(problems=[Problem(str(path), what, "correct it") for what in faults]) if faults else listing


def _with_fact(case: Case, member: str, value: Any) -> Case:
    if member == "names":
        return replace(case, name=str(value))
    if member == "groups":
        return replace(case, group=str(value))
    return case if np.isnan(value).all() else replace(case, spacing_mm=(float(value[0]), float(value[1])))


def is_name(name: str) -> bool:
    """Whether it is a relative path that leads downward, as names of cases are: they become names of files."""
    parts = name.split("/")
    return "\0" not in name and all(
        part not in ("", ".", "..") and len(part.encode("utf-8", "surrogateescape")) <= LONGEST_PART for part in parts
    )


def _is_size(spacing_mm: tuple[float, float] | None) -> bool:
    return spacing_mm is None or all(0 < size < np.inf for size in spacing_mm)


def _pair(files: tuple[Path, Path], members: tuple[str | None, str | None]) -> Listing:
    images, masks = (open_array(file, member) for file, member in zip(files, members, strict=True))
    for file, array in zip(files, (images, masks), strict=True):
        if array.ndim not in (3, 4) or 0 in array.shape[1:]:
            what = f"has the shape {array.shape}; needed is (cases, height, width[, channels])"
            return Listing(problems=[Problem(str(file), what, "reshape it before saving")])
        if array.dtype.kind not in "buif":
            what = f"holds {array.dtype}; needed are integers, floats or booleans"
            return Listing(problems=[Problem(str(file), what, "convert it before saving")])
    if len(images) != len(masks):
        what = f"{counted(len(images), 'image')} and {counted(len(masks), 'mask')}"
        return Listing(problems=[Problem(str(files[0]), what, "save as many masks as images")])
    digits = len(str(len(images) - 1))
    return Listing(
        [
            Case(
                f"{row:0{digits}d}",
                ArraySource(files[0], members[0], row),
                (ArraySource(files[1], members[1], row),),
            )
            for row in range(len(images))
        ]
    )
