"""LabelMe: a JSON for each image, of polygons, rectangles and circles; labels are the classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pocketseg.data.annotations.drawing import Drawing, corners_of, rectangle
from pocketseg.data.annotations.images import Annotated, cases_of, files_of, first_matching
from pocketseg.data.annotations.reading import faults_of, holds, image_name, read_json, size_of_image
from pocketseg.data.layouts.listing import Listing, image_files
from pocketseg.data.polygons import ellipse
from pocketseg.data.readers import stem_of
from pocketseg.errors import Problem, named
from pocketseg.files import by_parts
from pocketseg.text import counted

NAME = "labelme"
LOOKS_LIKE = "NAME.png + NAME.json (LabelMe)"
MARKS = b'"shapes"', b'"imagePath"'
NO_INSIDE = {"line", "linestrip", "point", "points"}


def matches(root: Path) -> bool:
    return first_matching(root, ".json", lambda path: holds(path, *MARKS))


def find(root: Path) -> Listing:
    """Cases of all JSON files; an image beside them without one is a problem: nobody says that it is empty."""
    files = [path for path in files_of(root, ".json") if holds(path, *MARKS)]
    listing = cases_of(files, lambda file: [_read(file)], root, "holds no JSON file of LabelMe")
    listing.problems += _left_over(root, files, listing)
    return listing


def _left_over(root: Path, files: list[Path], listing: Listing) -> list[Problem]:
    if not root.is_dir():
        return []
    known = {case.image.path for case in listing.cases}
    stems = {stem_of(file) for file in files}
    folders = by_parts({path.parent for path in known})
    bare = [path for folder in folders for path in image_files(folder) if path not in known]
    names = [str(path) for path in bare if stem_of(path) not in stems]
    if not names:
        return []
    fix = 'annotate them; where nothing is to be seen, save a JSON with "shapes": []'
    return [Problem(named(names), counted(len(names), "image[ has|s have] no JSON file"), fix)]


def _read(file: Path) -> Annotated:
    content = read_json(file)
    with faults_of(file, "LabelMe"):
        drawing = Drawing(size=size_of_image(content.get("imageHeight"), content.get("imageWidth")))
        for each in content["shapes"]:
            _draw(drawing, str(each["label"]), each.get("shape_type") or "polygon", each["points"])
        name = image_name(content.get("imagePath") or file.stem)
    return Annotated(file, name, drawing)


def _draw(drawing: Drawing, label: str, kind: str, points: Any) -> None:
    corners = corners_of(points)
    if kind == "polygon":
        drawing.add(label, corners)
    elif kind == "rectangle" and len(corners) in (2, 4):
        (top, left), (bottom, right) = corners.min(axis=0), corners.max(axis=0)
        drawing.add(label, rectangle(left, top, right, bottom))
    elif kind == "circle" and len(corners) == 2:
        radius = float(np.hypot(*(corners[1] - corners[0])))
        drawing.add(label, ellipse((float(corners[0, 0]), float(corners[0, 1])), (radius, radius)))
    elif kind in NO_INSIDE:
        drawing.lines += 1
    else:
        raise ValueError(f"a shape of kind {kind} with {len(corners)} points; draw polygons, rectangles or circles")
