"""What is drawn on an image, and the mask that it becomes.

Shapes are painted in their order, so that a later one covers an earlier one of another class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.annotations import rle
from pocketseg.data.case import FileSource, Pixels, single
from pocketseg.data.mask_colors import ColorRule, refuse_colors
from pocketseg.data.polygons import Corners, Place, fill_box
from pocketseg.data.readers import size_in_header
from pocketseg.errors import DataError
from pocketseg.memory import MAX_PIXELS

# A corner this far from the image lies outside of it, and nobody meant it so; nearer ones come from rounding.
BESIDE = 1.0
# Farther away lies nothing that was drawn.
MOST = 1e6
CORNERS = 3
WHITE = 255


class Area(Protocol):
    """What a shape covers."""

    def box(self, shape: tuple[int, int]) -> tuple[Place, NDArray[np.bool_]]:
        """Where it lies in a picture (h, w), and which pixels there are inside."""

    def beyond(self, shape: tuple[int, int]) -> bool:
        """Whether it reaches out of the picture."""


@dataclass(frozen=True, eq=False)
class Polygon:
    """One closed line (n, 2) of row and column."""

    corners: Corners

    def box(self, shape: tuple[int, int]) -> tuple[Place, NDArray[np.bool_]]:
        return fill_box([self.corners], shape)

    def beyond(self, shape: tuple[int, int]) -> bool:
        return bool((self.corners < -BESIDE).any() or (self.corners > np.add(shape, BESIDE)).any())


@dataclass(frozen=True, eq=False)
class Shares:
    """One closed line, whose corners are shares of the image's height and width."""

    corners: Corners

    def box(self, shape: tuple[int, int]) -> tuple[Place, NDArray[np.bool_]]:
        return Polygon(self.corners * shape).box(shape)

    def beyond(self, shape: tuple[int, int]) -> bool:
        return Polygon(self.corners * shape).beyond(shape)


@dataclass(frozen=True, eq=False)
class Runs:
    """Run lengths of a part of the picture (top, left, height, width), or of all of it; by rows or by columns.

    Attributes:
        counts: the runs, or the string of COCO that tells them.
    """

    counts: rle.Counts | str
    part: tuple[int, int, int, int] | None = None
    by_rows: bool = False

    def box(self, shape: tuple[int, int]) -> tuple[Place, NDArray[np.bool_]]:
        top, left, height, width = self.part or (0, 0, *shape)
        counts = rle.counts_from_text(self.counts) if isinstance(self.counts, str) else self.counts
        if min(height, width) < 0 or height * width > MAX_PIXELS:
            raise ValueError(f"run lengths of {height}×{width} pixels")
        inside = rle.mask_of_counts(counts, (height, width), by_rows=self.by_rows)
        up, before = max(0, -top), max(0, -left)
        rows, columns = slice(max(0, top), max(0, top + height)), slice(max(0, left), max(0, left + width))
        return (rows, columns), inside[up : max(up, shape[0] - top), before : max(before, shape[1] - left)]

    def beyond(self, shape: tuple[int, int]) -> bool:
        top, left, height, width = self.part or (0, 0, *shape)
        return top < 0 or left < 0 or top + height > shape[0] or left + width > shape[1]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Kaggle's run lengths of a whole picture."""

    pairs: rle.Pairs
    by_rows: bool = False

    def box(self, shape: tuple[int, int]) -> tuple[Place, NDArray[np.bool_]]:
        other = self.pairs, (shape[::-1] if self.by_rows else shape)
        if rle.goes_by_rows(*other):
            raise ValueError(f"run lengths that go {'down the columns' if self.by_rows else 'along the rows'}")
        return (slice(0, shape[0]), slice(0, shape[1])), rle.mask_of_pairs(self.pairs, shape, by_rows=self.by_rows)

    def beyond(self, shape: tuple[int, int]) -> bool:
        return False


@dataclass(frozen=True, eq=False)
class Shape:
    """An area and the category that its file gives it."""

    category: str
    area: Area


@dataclass(eq=False)
class Drawing:
    """All shapes of one image, in the order in which they are painted.

    Attributes:
        shapes: what is painted.
        size: of the image (rows, columns), where the file tells.
        lines: how many shapes were left out because they have no inside.
        cut, covered: how many shapes reached out of the image, and pixels of one class that another covers, once it was
            painted.
    """

    shapes: list[Shape] = field(default_factory=list)
    size: tuple[int, int] | None = None
    lines: int = 0
    cut: int = 0
    covered: int = 0

    def add(self, category: str, corners: Corners) -> None:
        """A closed line; one of less than three corners has no inside."""
        if len(corners) < CORNERS:
            self.lines += 1
        else:
            self.shapes.append(Shape(category, Polygon(corners)))

    def paint(self, classes: Sequence[tuple[str, int]], shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Class indices (h, w); categories without a class are left out.

        Raises:
            ValueError: a shape that cannot be painted.
        """
        mask, index_of = np.zeros(shape, np.uint8), dict(classes)
        cut = covered = 0
        for each in self.shapes:
            index = index_of.get(each.category)
            if index is None:
                continue
            cut += each.area.beyond(shape)
            place, inside = each.area.box(shape)
            held = mask[place]
            covered += int(np.count_nonzero(inside & (held != 0) & (held != index)))
            held[inside] = index
        self.cut, self.covered = cut, covered
        return mask

    def paint_planes(self, classes: Sequence[tuple[str, int]], shape: tuple[int, int], count: int) -> NDArray[np.bool_]:
        """A plane (h, w) for each of `count` classes, which may overlap; categories without a class are left out.

        Raises:
            ValueError: a shape that cannot be painted.
        """
        planes, index_of = np.zeros((count, *shape), bool), dict(classes)
        cut = 0
        for each in self.shapes:
            index = index_of.get(each.category)
            if index is not None:
                cut += each.area.beyond(shape)
                place, inside = each.area.box(shape)
                planes[index - 1][place] |= inside
        self.cut, self.covered = cut, 0
        return planes


@dataclass(frozen=True)
class AnnotationSource(FileSource):
    """The mask of one image from a file of annotations; `planes` tells it to give one a class.

    Attributes:
        drawing: what is drawn on the image.
        picture: the image.
        classes: categories and the indices of their classes.
        stored: value of each class, from 0 for background on, as masks of other files store them.
        hint: what to do where a shape cannot be painted.
    """

    drawing: Drawing
    picture: FileSource
    classes: tuple[tuple[str, int], ...] = ()
    stored: tuple[int, ...] = (0, 255)
    hint: str = "correct it, or export the annotations again"

    @property
    def where(self) -> str:
        return f"{self.path} ({self.picture.path.name})"

    def mask(self, *, gray: bool, colors: ColorRule = "look") -> Pixels:
        refuse_colors(colors, self.where)
        shape = self._shape()
        try:
            if self.planes:
                painted = self.drawing.paint_planes(self.classes, shape, len(self.stored) - 1)
                return painted * np.uint8(WHITE)
            indices = self.drawing.paint(self.classes, shape)
        except ValueError as error:
            raise DataError(self.where, f"holds a shape that cannot be painted ({error})", self.hint) from None
        values = np.array(self.stored)
        return values.astype(np.min_scalar_type(values.max()) if values.min() >= 0 else np.int64)[indices]

    def _shape(self) -> tuple[int, int]:
        """Rows and columns, as the file of annotations tells; else as the image has them."""
        declared = self.drawing.size
        if declared is None:
            image = self.picture.image()
            return image.shape[0], image.shape[1]
        try:
            found = size_in_header(self.picture.path)
        except OSError:  # no picture, or none that can be read, which whoever reads the image says
            found = declared
        if found != declared:  # it may be stored on its side
            found = self.picture.image().shape[:2]
        if found != declared:
            what = "was drawn on an image of {}×{} (rows×columns), but the image has {}×{}".format(*declared, *found)
            raise DataError(self.where, what, "put the image there that was annotated").coded("size")
        if declared[0] * declared[1] > MAX_PIXELS:
            raise DataError(self.where, f"is larger than {MAX_PIXELS:,} pixels", "cut the image into parts")
        return declared


def corners_of(numbers: Any) -> Corners:
    """A line given as x, y, x, y, … or as pairs of x and y.

    Raises:
        ValueError: these are no coordinates.
    """
    try:
        found = np.asarray(numbers, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("coordinates that are not numbers") from None
    if found.ndim > 2 or found.size % 2 or (found.ndim == 2 and found.shape[1] != 2):
        raise ValueError("coordinates that are not pairs of x and y")
    if not np.isfinite(found).all() or (abs(found) > MOST).any():
        raise ValueError("coordinates that are not finite, or far outside of any image")
    return np.ascontiguousarray(found.reshape(-1, 2)[:, ::-1])


def rectangle(left: Any, top: Any, right: Any, bottom: Any) -> Corners:
    """The corners of a box."""
    return corners_of([left, top, right, top, right, bottom, left, bottom])


def turned(corners: Corners, degrees: float) -> Corners:
    """Corners turned clockwise, as it is seen, around their center."""
    center, angle = corners.mean(axis=0), np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found: Corners = center + (corners - center) @ turn
    return found


def drawings(sources: Iterable[object]) -> list[AnnotationSource]:
    """Those of some sources that are annotations."""
    return [source for source in single(sources) if isinstance(source, AnnotationSource)]
