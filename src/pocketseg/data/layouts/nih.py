"""Slices of the NIH pancreas CT as the fixed-point study wrote them: `img`, `mask`, `val_img`, `val_mask`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketseg.data.layouts.listing import Listing, pair_parts
from pocketseg.data.layouts.naming import Naming

NAME = "nih"
LOOKS_LIKE = "img/NAME.png + mask/NAME.png, val_img/NAME.png + val_mask/NAME.png"


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    return all((root / name).is_dir() for name in ("img", "mask", "val_img", "val_mask"))


def find(root: Path, naming: Sequence[Naming] = ()) -> Listing:
    return pair_parts(
        {"train": (root / "img", root / "mask"), "validation": (root / "val_img", root / "val_mask")}, naming
    )
