"""Slices of the NIH pancreas CT as the fixed-point study wrote them: `img`, `mask`, `val_img`, `val_mask`."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data.layouts.listing import Listing, pair_parts

NAME = "nih"
LOOKS_LIKE = "img/NAME.png + mask/NAME.png, val_img/NAME.png + val_mask/NAME.png"


def matches(root: Path) -> bool:
    return all((root / name).is_dir() for name in ("img", "mask", "val_img", "val_mask"))


def find(root: Path) -> Listing:
    return pair_parts({"train": (root / "img", root / "mask"), "validation": (root / "val_img", root / "val_mask")})
