"""The electron microscopy challenge as usually packed: `train/image` and `train/label`."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data.layouts.listing import Listing, pair_folders

NAME = "isbi-em"
LOOKS_LIKE = "train/image/NAME.png + train/label/NAME.png"


def matches(root: Path) -> bool:
    return (root / "train/image").is_dir() and (root / "train/label").is_dir()


def find(root: Path) -> Listing:
    return pair_folders(root / "train/image", root / "train/label")
