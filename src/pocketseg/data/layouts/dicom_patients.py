"""A folder a patient, as treatment planning and archives export DICOM: the slices of a series and, anywhere beside or
below them, a structure set (RTSTRUCT) or segmentation (SEG) that was drawn on them.
"""

from __future__ import annotations

from pathlib import Path

from pocketseg.data.case import Case, FileSource, SeriesSource
from pocketseg.data.layouts.listing import Listing, subfolders
from pocketseg.data.volumes import dicom_files, mask_references, series_in
from pocketseg.errors import DataError, Problem
from pocketseg.text import counted

NAME = "dicom-patients"
LOOKS_LIKE = "PATIENT/…/*.dcm: slices of a series, and their structure set (RTSTRUCT) or segmentation (SEG)"
# Folders that are looked into to know the layout.
LOOKED_AT = 3


def matches(root: Path) -> bool:
    folders = subfolders(root) if root.is_dir() else []
    return any(len(_masks(_files(folder))) == 1 for folder in folders[:LOOKED_AT])


def find(root: Path) -> Listing:
    listing = Listing()
    for folder in subfolders(root):
        files = _files(folder)
        masks = _masks(files)
        series = series_in([file for file in files if file not in masks])
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
    below = sorted(inside for inside in folder.rglob("*") if inside.is_dir() and not inside.name.startswith("."))
    return [file for place in (folder, *below) for file in dicom_files(place)]


def _masks(files: list[Path]) -> dict[Path, frozenset[str]]:
    """Structure sets and segmentations, with the series that each names."""
    found: dict[Path, frozenset[str]] = {}
    for file in files:
        try:
            named = mask_references(file)
        except DataError:  # whoever reads it says so
            continue
        if named is not None:
            found[file] = named
    return found
