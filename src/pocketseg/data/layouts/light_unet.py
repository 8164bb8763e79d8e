"""`train`, `val` and `test`, each with `images/` and `mask/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketseg.data.layouts.listing import Listing, pair_parts
from pocketseg.data.layouts.naming import Naming

NAME = "light-unet"
LOOKS_LIKE = "train/images/NAME.png + train/mask/NAME.png, and the same in val/ and test/"
PARTS = {"train": "train", "validation": "val", "test": "test"}


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    return (root / "train/images").is_dir() and (root / "train/mask").is_dir()


def find(root: Path, naming: Sequence[Naming] = ()) -> Listing:
    there = {part: root / name for part, name in PARTS.items() if part == "train" or (root / name).is_dir()}
    return pair_parts({part: (folder / "images", folder / "mask") for part, folder in there.items()}, naming)
