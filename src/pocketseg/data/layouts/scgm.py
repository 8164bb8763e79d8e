"""Spinal cord gray matter challenge: one volume, masks of four raters; the subject is the group."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from pocketseg.data.case import Case, FileSource
from pocketseg.data.layouts.listing import Listing, image_files
from pocketseg.data.readers import stem_of
from pocketseg.errors import Problem

NAME = "scgm"
LOOKS_LIKE = "siteS-scNN-image.nii.gz + siteS-scNN-mask-r1.nii.gz … -r4"
STEM = re.compile(r"(?P<name>(?P<site>site\w+)-(?P<subject>sc\w+))-(image|mask-r(?P<rater>\w+))")


def matches(root: Path) -> bool:
    return any(STEM.fullmatch(stem_of(path)) for path in image_files(root))


def find(root: Path) -> Listing:
    """Volumes of the challenge; volumes of its test part have no masks and are left out."""
    listing = Listing()
    images: dict[str, Path] = {}
    masks: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in image_files(root):
        match = STEM.fullmatch(stem_of(path))
        if match is None:
            continue
        if match["rater"]:
            masks[match["name"]][match["rater"]] = path
        else:
            images[match["name"]] = path
    for name, of_raters in masks.items():
        match = STEM.fullmatch(f"{name}-image")
        if name not in images or match is None:
            first = next(iter(of_raters.values()))
            listing.problems.append(Problem(str(first), "has no image", f"add {name}-image, or remove the mask"))
            continue
        listing.cases.append(
            Case(
                name,
                FileSource(images[name]),
                tuple(FileSource(path) for path in of_raters.values()),
                group=name,
                raters=tuple(of_raters),
                site=match["site"],
                subject=match["subject"],
            )
        )
    return listing
