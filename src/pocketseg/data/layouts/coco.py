"""COCO JSON: polygons and run lengths of many images in one file; images anywhere below the data set, found by name.

The parts of a shape of several polygons are united, as COCO does; crowds are foreground as every other shape.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from pocketseg.data.annotations.drawing import Drawing, Runs, Shape, corners_of
from pocketseg.data.annotations.images import Annotated, cases_of, files_of, first_matching
from pocketseg.data.annotations.reading import faults_of, holds, image_name, read_json, size_of_image
from pocketseg.data.annotations.rle import counts_from_list
from pocketseg.data.layouts.listing import Listing
from pocketseg.errors import DataError, Problem, named

NAME = "coco"
LOOKS_LIKE = "annotations/*.json (COCO) + images/NAME.png"
MARKS = b'"annotations"', b'"images"', b'"categories"'
NO_IMAGE = "is of no image in the file", "export the annotations again, or remove it"
NO_CATEGORY = "has a category that the file does not name", "name it under categories"
NO_SHAPE = "has a box and no segmentation", "export polygons or masks; a box is not a mask"
WHICH = {NO_IMAGE: "image_id", NO_CATEGORY: "category_id", NO_SHAPE: "id"}


def matches(root: Path) -> bool:
    return first_matching(root, ".json", lambda path: holds(path, *MARKS))


def find(root: Path) -> Listing:
    files = [path for path in files_of(root, ".json") if path == root or holds(path, *MARKS)]
    wrong: list[Problem] = []
    missing = "holds no COCO JSON: none with images, annotations and categories"
    listing = cases_of(files, lambda file: _read(file, wrong), root, missing)
    listing.problems = [*wrong, *listing.problems]
    return listing


def _read(file: Path, wrong: list[Problem]) -> list[Annotated]:
    """The images of one file; what is wrong with its annotations is added to `wrong`, one problem a kind."""
    content = read_json(file)
    faults: Counter[tuple[tuple[str, str], str]] = Counter()
    with faults_of(file, "COCO"):
        categories = {_key(each["id"]): str(each["name"]) for each in content["categories"]}
        images = {_key(each["id"]): each for each in content["images"]}
        sizes = {key: size_of_image(each.get("height"), each.get("width")) for key, each in images.items()}
        drawn = {key: Drawing(size=size) for key, size in sizes.items()}
        for number, each in enumerate(content["annotations"]):
            drawing, category = drawn.get(_key(each["image_id"])), categories.get(_key(each["category_id"]))
            fault = NO_IMAGE if drawing is None else NO_CATEGORY if category is None else None
            if drawing is None or category is None:
                pass
            elif not each.get("segmentation"):
                fault = NO_SHAPE
            else:
                with faults_of(file, f"annotation {each.get('id', number)}"):
                    _draw(drawing, category, each["segmentation"])
            if fault is not None:
                faults[fault, str(each.get(WHICH[fault], number))[:40]] += 1
        found = [Annotated(file, image_name(images[key]["file_name"]), drawing) for key, drawing in drawn.items()]
    if len(drawn) < len(content["images"]):
        raise DataError(str(file), "gives the same id to several images", "give each its own")
    wrong += [_summed(file, fault, faults) for fault in WHICH if any(kind == fault for kind, _ in faults)]
    return found


def _summed(file: Path, fault: tuple[str, str], faults: Counter[tuple[tuple[str, str], str]]) -> Problem:
    places = {place: count for (kind, place), count in faults.items() if kind == fault}
    what = f"{sum(places.values())} annotations: each {fault[0]} ({WHICH[fault]} {named(list(places))})"
    return Problem(str(file), what, fault[1])


def _key(value: Any) -> str:
    """An id as text: 1 and "1" are one."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{str(value)[:40]} is not an id")
    return str(value)


def _draw(drawing: Drawing, category: str, segmentation: Any) -> None:
    """Add one annotation: a list of polygons, or run lengths as a list or a string."""
    if isinstance(segmentation, dict):
        size = size_of_image(*segmentation["size"])
        if drawing.size is None:
            drawing.size = size
        if size != drawing.size:
            raise ValueError(f"run lengths of {size} pixels on an image of {drawing.size} (rows, columns)")
        counts = segmentation["counts"]
        drawing.shapes.append(Shape(category, Runs(counts if isinstance(counts, str) else counts_from_list(counts))))
        return
    if not isinstance(segmentation, list):
        raise ValueError("a segmentation that is neither polygons nor run lengths")
    for corners in map(corners_of, segmentation):
        drawing.add(category, corners)
