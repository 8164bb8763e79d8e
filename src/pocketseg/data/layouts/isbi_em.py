"""The electron microscopy challenge as usually packed: `train/image` and `train/label`, or `data`, `mask`, `val_…`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketseg.data.layouts.listing import Listing, pair_folders, pair_parts
from pocketseg.data.layouts.naming import Naming

NAME = "isbi-em"
LOOKS_LIKE = "train/image/NAME.png + train/label/NAME.png, or data/ + mask/ + val_img/ + val_mask/"


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    return _challenge(root) or all((root / name).is_dir() for name in ("data", "mask", "val_img", "val_mask"))


def find(root: Path, naming: Sequence[Naming] = ()) -> Listing:
    if _challenge(root):
        return pair_folders(root / "train/image", root / "train/label", naming)
    return pair_parts(
        {"train": (root / "data", root / "mask"), "validation": (root / "val_img", root / "val_mask")}, naming
    )


def _challenge(root: Path) -> bool:
    return (root / "train/image").is_dir() and (root / "train/label").is_dir()
