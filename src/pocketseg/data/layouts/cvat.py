"""CVAT for images: one XML of polygons, masks, boxes and ellipses; labels are the classes, z_order the order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pocketseg.data.annotations.drawing import Drawing, Runs, Shape, corners_of, rectangle, turned
from pocketseg.data.annotations.images import Annotated, cases_of, files_of, first_matching
from pocketseg.data.annotations.reading import head_of, number_of, read_xml, size_of_image, whole_number
from pocketseg.data.annotations.rle import counts_from_list
from pocketseg.data.layouts.listing import Listing
from pocketseg.data.polygons import ellipse
from pocketseg.errors import DataError

NAME = "cvat"
LOOKS_LIKE = "annotations.xml (CVAT for images) + images/NAME.png"
NO_INSIDE = {"polyline", "points"}
AREAS = {"polygon", "mask", "box", "ellipse"}
# What has an inside and is not read.
OTHERS = {"cuboid", "skeleton"}


def matches(root: Path) -> bool:
    return first_matching(root, ".xml", _fits)


def _fits(path: Path) -> bool:
    head = head_of(path)
    return b"<annotations" in head and (b"<image " in head or b"<meta>" in head or b"<track " in head)


def find(root: Path) -> Listing:
    files = [path for path in files_of(root, ".xml") if path == root or _fits(path)]
    return cases_of(files, lambda file: _Reading(file).images(), root, "holds no XML file of CVAT for images")


class _Reading:
    """One file: its images in turn, each with its shapes and the order in which they are painted."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.found: list[Annotated] = []
        self.orders: list[list[tuple[int, Shape]]] = []
        self.refused: Counter[str] = Counter()

    def images(self) -> list[Annotated]:
        """Images with their shapes, sorted by z_order.

        Raises:
            DataError: the file is damaged, or holds what is not read.
        """
        read_xml(self.file, self._start)
        if self.refused:
            shown = ", ".join(f"{count} {name}" for name, count in sorted(self.refused.items()))
            fix = "export `CVAT for images`, with polygons, masks, boxes or ellipses"
            raise DataError(str(self.file), f"holds elements that are not read: {shown}", fix)
        for each, order in zip(self.found, self.orders, strict=True):
            each.drawing.shapes = [shape for _, shape in sorted(order, key=lambda pair: pair[0])]
        return self.found

    def _start(self, name: str, given: dict[str, str]) -> None:
        if name == "image":
            size = size_of_image(given.get("height"), given.get("width"))
            self.found.append(Annotated(self.file, given["name"], Drawing(size=size)))
            self.orders.append([])
        elif name == "track" or name in OTHERS:
            self.refused[name] += 1
        elif name in AREAS and not self.refused:
            if not self.found:
                raise ValueError(f"a {name} outside of an image")
            drawing, before = self.found[-1].drawing, len(self.found[-1].drawing.shapes)
            _draw(drawing, name, given)
            order = whole_number(given.get("z_order", 0))
            self.orders[-1] += [(order, shape) for shape in drawing.shapes[before:]]
        elif name in NO_INSIDE and self.found:
            self.found[-1].drawing.lines += 1


def _draw(drawing: Drawing, kind: str, given: dict[str, str]) -> None:
    label = given["label"]
    if kind == "polygon":
        pairs = [pair.split(",") for pair in given["points"].split(";")]
        drawing.add(label, corners_of([[number_of(value) for value in pair] for pair in pairs]))
    elif kind == "mask":
        part = [whole_number(given[name]) for name in ("top", "left", "height", "width")]
        counts = counts_from_list([number_of(word) for word in given["rle"].split(",")])
        drawing.shapes.append(Shape(label, Runs(counts, (part[0], part[1], part[2], part[3]), by_rows=True)))
    elif kind == "box":
        corners = rectangle(*(number_of(given[name]) for name in ("xtl", "ytl", "xbr", "ybr")))
        drawing.add(label, turned(corners, number_of(given.get("rotation", "0"))))
    else:
        column, row, across, down = (number_of(given[name]) for name in ("cx", "cy", "rx", "ry"))
        corners_of([column, row, across, down])
        line = ellipse((row, column), (abs(down), abs(across)))
        drawing.add(label, turned(line, number_of(given.get("rotation", "0"))))
