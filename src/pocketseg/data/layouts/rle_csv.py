"""Run lengths in a CSV file, as Kaggle's competitions have them: `ImageId,EncodedPixels`, several rows an image.

Pixels are numbered down the columns from 1, as in most competitions; `rle-csv-rows` numbers them along the rows. A file
does not say which: for images that are not square the runs do, and what is read the wrong way is an error.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from pocketseg.data.annotations.drawing import Drawing, Pairs, Shape
from pocketseg.data.annotations.images import Annotated, cases_of, files_of, first_matching
from pocketseg.data.annotations.reading import faults_of, head_of, read_table, size_of_image
from pocketseg.data.annotations.rle import pairs_from_text
from pocketseg.data.layouts.listing import Listing
from pocketseg.errors import DataError

log = logging.getLogger("pocketseg")

NAME = "rle-csv"
LOOKS_LIKE = "NAME.csv with image_id,rle (Kaggle), pixels numbered down the columns, + images/NAME.png"
IDS = ("imageid", "image", "img", "id", "filename", "file", "imagename")
RUNS = ("rle", "encodedpixels", "rlemask", "segmentation", "pixels", "annotation", "rleencoding", "mask", "masks")
CLASSES = ("classid", "class", "classname", "label", "category")
HEIGHTS, WIDTHS = ("height", "imgheight", "imageheight"), ("width", "imgwidth", "imagewidth")
EMPTY = {"", "-1", "nan", "none", "[]"}
# A cell that begins with a start and a length: other tables have such columns too, with names of files.
A_RUN = re.compile(rb'[,"\n]\d+ +\d+[ ,"\r\n]')
# Where a table has no column of classes.
MASK = "mask"
HINT = "if its pixels are numbered along the rows, --set data.layout=rle-csv-rows; else export it again"
HINT_ROWS = "if its pixels are numbered down the columns, --set data.layout=rle-csv; else export it again"


def matches(root: Path) -> bool:
    return first_matching(root, ".csv", _fits)


def _fits(path: Path) -> bool:
    head = head_of(path)
    names = head.split(b"\n")[0].decode("utf-8-sig", "replace").split(",")
    return _column(names, IDS) is not None and _column(names, RUNS) is not None and A_RUN.search(head) is not None


def _column(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The column of a meaning, by the first of its usual names that is there."""
    plain = {"".join(filter(str.isalnum, name)).lower(): name for name in reversed(names)}
    return next((plain[name] for name in known if name in plain), None)


def find(root: Path, *, by_rows: bool = False) -> Listing:
    files = [path for path in files_of(root, ".csv") if path == root or _fits(path)]
    missing = "holds no CSV file with image_id and rle"
    listing = cases_of(
        files, lambda file: _read(file, by_rows=by_rows), root, missing, hint=HINT_ROWS if by_rows else HINT
    )
    if listing.cases and not by_rows:
        notice = (
            "its pixels are taken as numbered down the columns; --set data.layout=rle-csv-rows is for those along rows"
        )
        log.warning("%s: %s", files[0], notice)
    return listing


def drawings_in(file: Path, *, by_rows: bool = False) -> dict[str, Drawing]:
    """What the rows of a table draw on each image, by the name that they give it.

    Raises:
        DataError: it holds no run lengths.
    """
    names, rows = read_table(file)
    image, runs, of_class = (_column(names, known) for known in (IDS, RUNS, CLASSES))
    height, width = _column(names, HEIGHTS), _column(names, WIDTHS)
    if image is None or runs is None:
        what = f"has the columns {', '.join(names[:10])}; needed are image_id and rle"
        raise DataError(str(file), what, "name them so")
    found: dict[str, Drawing] = {}
    for number, row in enumerate(rows, start=2):
        with faults_of(file, f"CSV, row {number}"):
            drawing = found.setdefault(row[image].strip(), Drawing())
            if height and width:
                drawing.size = size_of_image(row[height], row[width])
            if row[runs].strip().lower() not in EMPTY:
                category = row[of_class].strip() if of_class else MASK
                drawing.shapes.append(Shape(category, Pairs(pairs_from_text(row[runs]), by_rows)))
    return found


def _read(file: Path, *, by_rows: bool) -> list[Annotated]:
    return [Annotated(file, name, drawing) for name, drawing in drawings_in(file, by_rows=by_rows).items()]
