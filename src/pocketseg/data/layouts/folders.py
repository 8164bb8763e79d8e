"""`images/` and `masks/` side by side, paired by stem; any two names through --images and --masks."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data.layouts.listing import Listing, images_and_series, mirrored_folders, pair_folders

NAME = "folders"
LOOKS_LIKE = "images/NAME.png + masks/NAME.png"


def matches(root: Path) -> bool:
    images, masks = root / "images", root / "masks"
    if not images.is_dir() or not masks.is_dir():
        return False
    return bool(images_and_series(masks) or mirrored_folders(images, masks))


def find(root: Path, images: str | None = None, masks: str | None = None) -> Listing:
    """Cases of two folders, given relative to the root or absolute."""
    return pair_folders(root / (images or "images"), root / (masks or "masks"))
