"""Arrays (B, H, W, 1): one `.npz` with `images, masks` or `arr_0, arr_1`, or `images.npy` and `masks.npy`."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data.case import ArraySource, Case, array_names, open_array
from pocketseg.data.layouts.listing import Listing
from pocketseg.errors import DataError, Problem

NAME = "npz"
LOOKS_LIKE = "FILE.npz with arrays images, masks (or arr_0, arr_1), or images.npy + masks.npy"
MEMBERS = (("images", "masks"), ("arr_0", "arr_1"))


def matches(root: Path) -> bool:
    return root.suffix == ".npz" or ((root / "images.npy").is_file() and (root / "masks.npy").is_file())


def find(root: Path, images: str | None = None, masks: str | None = None) -> Listing:
    """Cases of a file `root.npz`, or of two `.npy` files in the folder `root`."""
    if root.suffix == ".npz":
        return _pair((root, root), _members(root))
    files = root / (images or "images.npy"), root / (masks or "masks.npy")
    missing = [Problem(str(file), "the file does not exist", "check the name") for file in files if not file.is_file()]
    return Listing(problems=missing) if missing else _pair(files, (None, None))


def _members(path: Path) -> tuple[str, str]:
    names = array_names(path)
    for pair in MEMBERS:
        if names.issuperset(pair):
            return pair
    raise DataError(
        str(path),
        f"holds the arrays {', '.join(sorted(names)) or '(none)'}",
        "name them `images` and `masks`",
    )


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
        what = f"{len(images)} images and {len(masks)} masks"
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
