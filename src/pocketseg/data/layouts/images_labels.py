"""`images/` and `labels/` side by side, paired by stem."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data.layouts.listing import Listing, images_and_series, pair_folders

NAME = "images-labels"
LOOKS_LIKE = "images/NAME.nii.gz + labels/NAME.nii.gz"


def matches(root: Path) -> bool:
    return (root / "images").is_dir() and (root / "labels").is_dir() and bool(images_and_series(root / "labels"))


def find(root: Path) -> Listing:
    return pair_folders(root / "images", root / "labels")
