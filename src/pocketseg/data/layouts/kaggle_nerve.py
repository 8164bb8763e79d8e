"""Ultrasound Nerve Segmentation: `<subject>_<n>.tif` and `_mask.tif`; the subject is the group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pocketseg.data.layouts import suffix
from pocketseg.data.layouts.listing import Listing, image_files
from pocketseg.data.layouts.naming import Naming

NAME = "kaggle-nerve"
LOOKS_LIKE = "SUBJECT_N.tif + SUBJECT_N_mask.tif"
STEM = re.compile(r"(?P<subject>\d+)_\d+(_mask)?")


def matches(root: Path, naming: Sequence[Naming] = ()) -> bool:
    files = [path for path in image_files(root) if path.suffix.lower() == ".tif"]
    return bool(files) and all(STEM.fullmatch(path.stem) for path in files) and suffix.matches(root, naming)


def find(root: Path, naming: Sequence[Naming] = ()) -> Listing:
    listing = suffix.find(root, naming)
    listing.cases = [replace(case, group=_subject(case.name), subject=_subject(case.name)) for case in listing.cases]
    return listing


def _subject(name: str) -> str:
    match = STEM.fullmatch(name)
    return match["subject"] if match else name
