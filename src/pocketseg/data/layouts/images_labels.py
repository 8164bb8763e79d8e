"""`images/` and `labels/` side by side, paired by stem."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data.layouts.listing import Listing, images_and_series, mirrored_folders, pair_folders

NAME = "images-labels"
LOOKS_LIKE = "images/NAME.nii.gz + labels/NAME.nii.gz"


def matches(root: Path) -> bool:
    images, labels = root / "images", root / "labels"
    if not images.is_dir() or not labels.is_dir():
        return False
    return bool(images_and_series(labels) or mirrored_folders(images, labels))


def find(root: Path) -> Listing:
    return pair_folders(root / "images", root / "labels")
