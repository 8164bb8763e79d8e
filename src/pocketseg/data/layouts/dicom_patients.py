"""A folder a patient, as treatment planning and archives export DICOM: the slices of a series and, anywhere beside or
below them, a structure set (RTSTRUCT) or segmentation (SEG) that was drawn on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pocketseg.data.case import Case, FileSource, SeriesSource
from pocketseg.data.layouts.listing import Listing, subfolders
from pocketseg.data.volumes import dicom_files, header_text, mask_references, series_in
from pocketseg.errors import DataError, Problem
from pocketseg.files import by_parts
from pocketseg.text import counted

NAME = "dicom-patients"
LOOKS_LIKE = "PATIENT/…/*.dcm: slices of a series, and their structure set (RTSTRUCT) or segmentation (SEG)"
# Folders that are looked into to know the layout.
LOOKED_AT = 3


def matches(root: Path) -> bool:
    folders = subfolders(root) if root.is_dir() else []
    return any(len(_masks(_files(folder), [])) == 1 for folder in folders[:LOOKED_AT])


def find(root: Path) -> Listing:
    listing = Listing()
    for folder in subfolders(root):
        files = _files(folder)
        unread: list[Problem] = []
        masks = _masks(files, unread)
        series = series_in([file for file in files if file not in masks])
        unread += _of_no_series(series)
        if unread:  # a slice that is missing may be the first or the last, which nothing else would tell
            listing.problems += unread
            continue
        drawn_on = {uid for mask in masks.values() for uid in mask}
        fitting = [slices for uid, slices in series.items() if uid in drawn_on] or list(series.values())
        if len(masks) == 1 and len(fitting) == 1:
            image = SeriesSource(fitting[0][0].parent, tuple(fitting[0]))
            mask = FileSource(next(iter(masks)))
            listing.cases.append(Case(folder.name, image, (mask,), group=folder.name, subject=folder.name))
        elif files:
            drawn = counted(len(masks), "structure set[|s] or segmentation[|s]")
            what = f"holds {len(series)} series and {drawn}, which are not one series and what was drawn on it"
            listing.problems.append(Problem(str(folder), what, "move away what is not meant"))
    return listing


def _files(folder: Path) -> list[Path]:
    below = by_parts(inside for inside in folder.rglob("*") if inside.is_dir() and not inside.name.startswith("."))
    return [file for place in (folder, *below) for file in dicom_files(place)]


def _of_no_series(series: Mapping[str, list[Path]]) -> list[Problem]:
    """What is wrong with files that can be read and name no series, as those that were cut off."""
    alone = [slices[0] for uid, slices in series.items() if uid == str(slices[0])]
    what, fix = "names no series of which it is a slice", "export it again from its source, or move it away"
    return [Problem(str(file), what, fix, "volume") for file in alone if not header_text(file, "SeriesInstanceUID")]


def _masks(files: list[Path], unread: list[Problem]) -> dict[Path, frozenset[str]]:
    """Structure sets and segmentations, with the series that each names; `unread` gets what cannot be read."""
    found: dict[Path, frozenset[str]] = {}
    for file in files:
        try:
            named = mask_references(file)
        except DataError as error:
            unread += error.coded("volume").problems
            continue
        if named is not None:
            found[file] = named
    return found
