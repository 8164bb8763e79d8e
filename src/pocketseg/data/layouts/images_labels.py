"""`images/` and `labels/` side by side, paired as those of `folders` are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pocketseg.data.layouts.listing import Listing, pair_folders
from pocketseg.data.layouts.naming import Naming
from pocketseg.data.layouts.usual import usual_folders

NAME = "images-labels"
LOOKS_LIKE = "images/NAME.nii.gz + labels/NAME.nii.gz"


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    found = usual_folders(root)
    return found.images == [root / "images"] and found.masks == [root / "labels"]


def find(root: Path, naming: Sequence[Naming] = ()) -> Listing:
    return pair_folders(root / "images", root / "labels", naming)
