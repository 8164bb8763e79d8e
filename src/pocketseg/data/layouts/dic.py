"""Microscopy of cells: `<id>.tif`, `<id>_mask.tif`, and `<id>_weights.npy`, the weight of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pocketseg.data.layouts import suffix
from pocketseg.data.layouts.listing import Listing
from pocketseg.data.layouts.naming import Naming

NAME = "dic"
LOOKS_LIKE = "ID.tif + ID_mask.tif + ID_weights.npy"


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    return any(root.glob("*_weights.npy")) and suffix.matches(root, naming)


def find(root: Path, naming: Sequence[Naming] = ()) -> Listing:
    listing = suffix.find(root, naming)
    weights = {path.name.removesuffix("_weights.npy"): path for path in root.glob("*_weights.npy")}
    listing.cases = [replace(case, weights=weights.get(case.name)) for case in listing.cases]
    return listing
