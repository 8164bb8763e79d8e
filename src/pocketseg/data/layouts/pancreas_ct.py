"""Pancreas-CT as published: one folder of DICOM a patient, `labelNNNN.nii.gz` beside them.

The label is never used to choose what is cut out of an image: `data.fit: crop` takes the center.
"""

from __future__ import annotations

import re
from pathlib import Path

from pocketseg.data.case import Case, FileSource
from pocketseg.data.layouts.listing import Listing, image_files, subfolders
from pocketseg.data.readers import stem_of
from pocketseg.data.volumes import dicom_files
from pocketseg.errors import Problem

NAME = "pancreas-ct"
LOOKS_LIKE = "PANCREAS_NNNN/…/*.dcm + labelNNNN.nii.gz"
PATIENT = re.compile(r"pancreas_(\d+)", re.IGNORECASE)
LABEL = re.compile(r"label(\d+)")


def matches(root: Path) -> bool:
    return bool(_patients(root)) and bool(_labels(root))


def find(root: Path) -> Listing:
    listing = Listing()
    labels = _labels(root)
    for number, folder in _patients(root).items():
        series = [inside for inside in (folder, *_below(folder)) if dicom_files(inside)]
        if len(series) != 1:
            what = f"holds {len(series)} folders with DICOM files"
            listing.problems.append(Problem(str(folder), what, "keep one series a patient"))
        elif number not in labels:
            what = "has no label"
            listing.problems.append(Problem(str(folder), what, f"add label{number}.nii.gz, or remove the patient"))
        else:
            case = Case(folder.name, FileSource(series[0]), (FileSource(labels[number]),), subject=number)
            listing.cases.append(case)
    return listing


def _patients(root: Path) -> dict[str, Path]:
    found = ((PATIENT.fullmatch(folder.name), folder) for folder in (*_folders(root), *_inside(root)))
    return {match[1]: folder for match, folder in found if match}


def _labels(root: Path) -> dict[str, Path]:
    places = [root, *_folders(root)] if root.is_dir() else []
    files = (path for folder in places for path in image_files(folder))
    found = ((LABEL.fullmatch(stem_of(path)), path) for path in files)
    return {match[1]: path for match, path in found if match}


def _folders(root: Path) -> list[Path]:
    return subfolders(root) if root.is_dir() else []


def _inside(root: Path) -> list[Path]:
    return [inside for folder in _folders(root) for inside in subfolders(folder)]


def _below(folder: Path) -> list[Path]:
    return [place for inside in subfolders(folder) for place in (inside, *_below(inside))]
