"""Fetal head circumference: outlines that are filled, pixel sizes from a table, examinations as groups."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pocketseg.data.case import Case, FileSource, OutlineSource
from pocketseg.data.layouts.listing import Listing, image_files
from pocketseg.errors import DataError, Problem
from pocketseg.files import read_text

NAME = "hc18"
LOOKS_LIKE = "NNN_HC.png + NNN_HC_Annotation.png, pixel sizes in training_set_pixel_size_and_HC.csv"
ENDING = "_Annotation"
TABLE = "*pixel_size*.csv"


def matches(root: Path) -> bool:
    return any(path.stem.endswith(ENDING) for path in image_files(root))


def find(root: Path) -> Listing:
    listing = Listing()
    files = {path.stem: path for path in image_files(root)}
    sizes = _pixel_sizes(root)
    for stem, path in files.items():
        if stem.endswith(ENDING):
            if stem.removesuffix(ENDING) not in files:
                listing.problems.append(Problem(str(path), "has no image", "add it, or remove the annotation"))
        elif stem + ENDING not in files:
            listing.problems.append(Problem(str(path), "has no annotation", f"add {stem}{ENDING}.png"))
        else:
            size = sizes.get(path.name)
            examination = stem.split("_")[0]
            mask = OutlineSource(files[stem + ENDING])
            spacing = (size, size) if size else None
            case = Case(stem, FileSource(path), (mask,), group=examination, subject=examination, spacing_mm=spacing)
            listing.cases.append(case)
    return listing


def _pixel_sizes(root: Path) -> dict[str, float]:
    """Millimeters a pixel by file name, from the table in the folder or beside it."""
    tables = [*sorted(root.glob(TABLE)), *sorted(root.parent.glob(TABLE))]
    if not tables:
        return {}
    try:
        rows = list(csv.reader(io.StringIO(read_text(tables[0]), newline="")))
        return {row[0]: float(row[1]) for row in rows[1:] if len(row) > 1}
    except (OSError, csv.Error, ValueError) as error:
        what = f"is not a table of file names and pixel sizes ({error})"
        raise DataError(str(tables[0]), what, "restore it from a copy") from error
