"""The layout of nested U-Net projects: `images/` and one folder a class in `masks/`; here `masks/0`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketseg.data.layouts.listing import Listing, pair_folders, subfolders
from pocketseg.data.layouts.naming import Naming
from pocketseg.errors import Problem

NAME = "nested-unet"
LOOKS_LIKE = "images/NAME.png + masks/0/NAME.png"


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    return (root / "images").is_dir() and (root / "masks/0").is_dir()


def find(root: Path, naming: Sequence[Naming] = ()) -> Listing:
    others = [folder.name for folder in subfolders(root / "masks") if folder.name != "0"]
    if others:
        what = f"holds one folder a class (0, {', '.join(others)}); one class is read from this layout"
        return Listing(
            problems=[Problem(str(root / "masks"), what, "merge the masks into one folder of class indices")]
        )
    return pair_folders(root / "images", root / "masks/0", naming)
