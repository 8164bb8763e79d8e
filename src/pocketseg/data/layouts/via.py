"""VIA, the VGG image annotator (version 1 and 2): JSON or CSV of polygons, circles, ellipses and rectangles.

The class of a region is its one attribute; of several the one that is called class, label, name, type or category.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pocketseg.data.annotations.drawing import Drawing, corners_of, rectangle
from pocketseg.data.annotations.images import Annotated, cases_of, files_of, first_matching
from pocketseg.data.annotations.reading import faults_of, head_of, holds, image_name, read_json, read_table
from pocketseg.data.layouts.listing import Listing
from pocketseg.data.polygons import Corners, ellipse

NAME = "via"
LOOKS_LIKE = "via_region_data.json or .csv (VGG image annotator) + NAME.png"
MARKS = b'"shape_attributes"', b'"filename"'
COLUMNS = "filename", "region_shape_attributes", "region_attributes"
USUAL = ("class", "label", "name", "type", "category")
NO_INSIDE = {"point", "polyline"}
# Where a region has no attribute.
REGION = "region"


def matches(root: Path) -> bool:
    return first_matching(root, ".json", _is_json) or first_matching(root, ".csv", _is_table)


def _is_json(path: Path) -> bool:
    return holds(path, *MARKS) or holds(path, b'"_via_img_metadata"')


def _is_table(path: Path) -> bool:
    first = head_of(path).split(b"\n")[0]
    return all(name.encode() in first for name in COLUMNS)


def find(root: Path) -> Listing:
    files = [path for path in files_of(root, ".csv") if _is_table(path)]
    files += [path for path in files_of(root, ".json") if _is_json(path)]
    return cases_of(files, _read, root, "holds no JSON or CSV file of VIA")


def _read(file: Path) -> list[Annotated]:
    with faults_of(file, "VIA"):
        found = _of_table(file) if file.suffix.lower() == ".csv" else _of_json(file)
        return [Annotated(file, name, drawing) for name, drawing in found]


def _of_json(path: Path) -> Iterator[tuple[str, Drawing]]:
    content = read_json(path)
    for each in content.get("_via_img_metadata", content).values():
        drawing, regions = Drawing(), each["regions"]
        for region in regions.values() if isinstance(regions, dict) else regions:
            _draw(drawing, region["shape_attributes"], region.get("region_attributes") or {})
        yield image_name(each["filename"]), drawing


def _of_table(path: Path) -> Iterator[tuple[str, Drawing]]:
    names, rows = read_table(path)
    found: dict[str, Drawing] = {}
    for row in rows:
        name = row["filename"] if "filename" in names else row["#filename"]
        drawing = found.setdefault(image_name(name), Drawing())
        shape = json.loads(row["region_shape_attributes"] or "{}")
        if shape:
            _draw(drawing, shape, json.loads(row["region_attributes"] or "{}"))
    yield from found.items()


def _draw(drawing: Drawing, shape: dict[str, Any], attributes: dict[str, Any]) -> None:
    kind = shape["name"]
    if kind in NO_INSIDE:
        drawing.lines += 1
    else:
        drawing.add(_category(attributes), _corners(kind, shape))


def _corners(kind: str, shape: dict[str, Any]) -> Corners:
    if kind in ("polygon", "polyshape"):
        columns, rows = shape["all_points_x"], shape["all_points_y"]
        return corners_of([list(pair) for pair in zip(columns, rows, strict=True)])
    if kind == "rect":
        left, top, width, height = (_number(shape[key]) for key in ("x", "y", "width", "height"))
        return rectangle(left, top, left + width, top + height)
    if kind not in ("circle", "ellipse"):
        raise ValueError(f"a region of kind {str(kind)[:40]}; draw polygons, circles, ellipses or rectangles")
    center = _number(shape["cy"]), _number(shape["cx"])
    if kind == "circle":
        radius = _number(shape["r"])
        return ellipse(center, (radius, radius))
    return ellipse(center, (_number(shape["ry"]), _number(shape["rx"])), _number(shape.get("theta", 0)))


def _number(value: Any) -> float:
    return float(corners_of([value, value])[0, 0])


def _category(attributes: dict[str, Any]) -> str:
    """The value of the attribute that says what a region is; of a list of boxes the one that is ticked."""
    names = [name for name in attributes if name.lower() in USUAL] if len(attributes) > 1 else list(attributes)
    if not attributes:
        return REGION
    if len(names) != 1:
        raise ValueError(f"attributes {', '.join(attributes)}, none of which alone is called {', '.join(USUAL)}")
    value = attributes[names[0]]
    if isinstance(value, dict):
        ticked = [name for name, is_so in value.items() if is_so]
        if len(ticked) != 1:
            raise ValueError(f"a region with {len(ticked)} values of {names[0]}")
        value = ticked[0]
    return str(value).strip() or REGION
