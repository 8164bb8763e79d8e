"""What a model finds in one image: the mask, the probabilities, and each object with its size."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketseg import notebook
from pocketseg.data.masks import class_indices
from pocketseg.data.readers import decode_image, read_image, read_mask
from pocketseg.data.volumes import is_volume, open_volume, slices_of
from pocketseg.errors import DataError
from pocketseg.layers import grid_of, layer, overlaps
from pocketseg.pipeline.components import label_components
from pocketseg.pipeline.geometry import Spacing
from pocketseg.pipeline.given import as_image
from pocketseg.pipeline.intensity import check_contrasts
from pocketseg.pipeline.reading import Reading
from pocketseg.png import png_bytes, write_png
from pocketseg.reporting.overlay import enlarge, overlay
from pocketseg.text import brief


@dataclass(frozen=True, repr=False)
class SegmentedObject:
    """A connected region of one class (pixels that touch at a side or a corner).

    Attributes:
        class_name: of it.
        label: its number in `Segmentation.labels`, from 1 on.
        area_px: number of pixels.
        area_mm2: in square millimeters; None where the pixel size is not known.
        diameter_px: of the circle of the same area.
        diameter_mm: the same in millimeters.
        centroid: (row, column) in pixels.
        bbox: (top, left, bottom, right); the last two lie outside.
        peak: the highest probability of its class in it, 0 to 1.
    """

    class_name: str
    label: int
    area_px: int
    area_mm2: float | None
    diameter_px: float
    diameter_mm: float | None
    centroid: tuple[float, float]
    bbox: tuple[int, int, int, int]
    peak: float

    def __repr__(self) -> str:
        row, column = self.centroid
        return brief(self, f"{self.class_name} at ({row:.1f}, {column:.1f}), {_size(self)}, peak {self.peak:.2f}")


@dataclass(frozen=True)
class ClassMeasures:
    """What an image shows of one class.

    Attributes:
        class_name: of it.
        area_px: number of pixels of all objects.
        area_mm2: in square millimeters; None where the pixel size is not known.
        objects: how many there are.
        largest_px: pixels of the largest; 0 where there is none.
        peak: the highest probability of the class in the image, 0 to 1, whether there are objects or not.
    """

    class_name: str
    area_px: int
    area_mm2: float | None
    objects: int
    largest_px: int
    peak: float


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation:
    """What a model finds in one image.

    Attributes:
        mask: uint8 (h, w), class indices: 0 is background, 1 the first class. Of a model whose classes may overlap
            planes (k, h, w) of 0 and 1, one a class.
        probabilities: float32 (h, w, k), one plane a class, 0 to 1.
        classes: names of the k classes.
        image: the pixels, (h, w) or (h, w, c).
        spacing_mm: pixel size (row, column), where it is known.
    """

    mask: NDArray[np.uint8]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    image: NDArray[np.generic]
    spacing_mm: Spacing | None = None

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """int32 (h, w): the number of the object that a pixel belongs to, 0 for background; of planes (k, h, w)."""
        layers = []
        count = 0
        for index in range(1, len(self.classes) + 1):
            labels, found = label_components(layer(self.mask, index))
            layers.append(np.where(labels > 0, labels + np.int32(count), np.int32(0)))
            count += found
        # Of classes that exclude each other a pixel has one number at most.
        return np.stack(layers) if overlaps(self.mask) else np.maximum.reduce(layers)

    @cached_property
    def objects(self) -> tuple[SegmentedObject, ...]:
        """Every object, the largest of each class first."""
        found = sorted(self._objects(), key=lambda each: (self.classes.index(each.class_name), -each.area_px))
        return tuple(found)

    def _area_mm2(self, pixels: int) -> float | None:
        """What so many pixels cover, where their size is known."""
        return None if self.spacing_mm is None else pixels * (self.spacing_mm[0] * self.spacing_mm[1])

    def _objects(self) -> Iterator[SegmentedObject]:
        layers = self.labels if overlaps(self.mask) else self.labels[None]
        planes, rows, columns = np.nonzero(layers)
        numbers = layers[planes, rows, columns]
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers)[1:])
        for label, part in enumerate(np.split(order, ends[:-1]) if len(numbers) else [], start=1):
            y, x = rows[part], columns[part]
            index = int(planes[part[0]]) + 1 if overlaps(self.mask) else int(self.mask[y[0], x[0]])
            area_mm2 = self._area_mm2(len(part))
            yield SegmentedObject(
                self.classes[index - 1],
                label,
                len(part),
                area_mm2,
                _diameter(len(part)),
                None if area_mm2 is None else _diameter(area_mm2),
                (float(y.mean()), float(x.mean())),
                (int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1),
                float(self.probabilities[y, x, index - 1].max()),
            )

    @property
    def measures(self) -> tuple[ClassMeasures, ...]:
        """One for each class, in their order."""
        found = []
        for index, name in enumerate(self.classes):
            areas = [each.area_px for each in self.objects if each.class_name == name]
            whole = sum(areas)
            peak = float(self.probabilities[:, :, index].max())
            found.append(ClassMeasures(name, whole, self._area_mm2(whole), len(areas), max(areas, default=0), peak))
        return tuple(found)

    def overlay(self, alpha: float = 0.0) -> NDArray[np.uint8]:
        """The image with the contours of the mask, uint8 (h, w, 3).

        Args:
            alpha: 0 to 1, how strongly the regions are tinted.
        """
        return overlay(self.image, self.mask, alpha=alpha, classes=len(self.classes))

    def save(self, path: str | Path, *, overlay: str | Path | None = None) -> Path:
        """Write the mask as PNG, as `pocketseg predict` does: one class as 0 and 255, several as class indices.

        Of classes that may overlap each has a file as 0 and 255, NAME_CLASS.png for NAME.png.

        Args:
            path: of the mask, which ends in .png.
            overlay: of the picture with contours, which ends in .png too.

        Returns:
            The file of the mask, the first of several.

        Raises:
            DataError: another ending.
            EnvironmentProblem: a file cannot be written.
        """
        for each in (path, *([] if overlay is None else [overlay])):
            if Path(each).suffix.lower() != ".png":
                raise DataError(str(each), "is written as PNG", "give a name that ends in .png")
        files = {Path(path): self.mask * np.uint8(255 if len(self.classes) == 1 else 1)}
        if overlaps(self.mask):
            planes = zip(self.classes, self.mask, strict=True)
            files = {Path(path).with_stem(f"{Path(path).stem}_{name}"): plane * np.uint8(255) for name, plane in planes}
        for file, pixels in files.items():
            write_png(file, pixels)
        if overlay is not None:
            write_png(Path(overlay), self.overlay())
        return next(iter(files))

    def __repr__(self) -> str:
        height, width = grid_of(self.mask)
        counts = [(name, sum(each.class_name == name for each in self.objects)) for name in self.classes]
        found = ", ".join(f"{count} × {name}" for name, count in counts if count) or "nothing found"
        return brief(self, f"{height}×{width}, {found}")

    def _repr_html_(self) -> str:
        """The overlay and the objects, for notebooks."""
        rows = [[each.class_name, _size(each), f"{each.peak:.2f}"] for each in self.objects]
        objects = notebook.table(["class", "area, diameter", "peak"], rows) if rows else ""
        return picture_html(enlarge(self.overlay())) + notebook.paragraph(repr(self)[1:-1]) + objects


def read_given(
    given: Any, spacing_mm: Spacing | None, reading: Reading, channels: int | None = None
) -> tuple[NDArray[np.generic], Spacing | None]:
    """The pixels of an image and its pixel size (row, column) in millimeters, where one is known.

    Args:
        given: path of a picture, or of a volume of a single slice; the bytes of a picture; or what
            `pipeline.given.as_image` takes.
        spacing_mm: goes before what the file says.
        reading: how volumes are cut.
        channels: of the net that it is for.

    Raises:
        DataError: it is not an image, or holds several slices, or contrasts that the net does not take.
    """
    if isinstance(given, bytes | bytearray | memoryview):
        return decode_image(bytes(given), Path("the given bytes")), spacing_mm
    if not isinstance(given, str | os.PathLike):
        return as_image(given), spacing_mm
    path = Path(os.fsdecode(given))
    if not is_volume(path):
        if os.path.isdir(path):  # noqa: PTH112 - which is False for what no system takes as a name
            fix = "give the file of one image, or use `pocketseg predict`, which segments all images of a folder"
            raise DataError(str(path), "is a folder, and one image is segmented at a time", fix)
        return read_image(path), spacing_mm
    volume = open_volume(path)
    check_contrasts(volume.contrasts, channels or volume.contrasts, str(path))
    slices = slices_of(volume, reading)
    if len(slices) != 1:
        what = f"is a volume of {len(slices)} slices, and one image is segmented at a time"
        raise DataError(str(path), what, "use pocketseg.predict, which writes a mask of the whole volume")
    return slices[0].image(), spacing_mm or volume.grid.plane_spacing(slices[0].axis)


def picture_html(pixels: NDArray[np.uint8]) -> str:
    """A picture as an element of HTML."""
    return f'<img src="data:image/png;base64,{base64.b64encode(png_bytes(pixels)).decode()}">'


def _diameter(area: float) -> float:
    return 2 * math.sqrt(area / math.pi)


def _size(each: SegmentedObject) -> str:
    if each.area_mm2 is None or each.diameter_mm is None:
        return f"{each.area_px:,} px, {each.diameter_px:.0f} px"
    return f"{each.area_mm2:.1f} mm², {each.diameter_mm:.1f} mm"


def show(image: Any, mask: Any = None, *, alpha: float = 0.25) -> Image.Image:
    """An image, with the contours of a mask where one is given, as a Pillow picture that notebooks display.

    Args:
        image: path, bytes, array (h, w) or (h, w, c), or a Pillow picture.
        mask: the same; class indices (h, w), or one foreground value; or an array of planes (k, h, w) of 0 and 1.
        alpha: 0 to 1, how strongly regions are tinted.

    Raises:
        DataError: no image, or a mask of another size.
    """
    pixels, _ = read_given(image, None, Reading())
    drawn = np.zeros(pixels.shape[:2], np.uint8) if mask is None else _drawn(mask)
    if grid_of(drawn) != pixels.shape[:2]:
        sizes = "is {}×{}, its image {}×{}".format(*grid_of(drawn), *pixels.shape[:2])
        raise DataError("mask", sizes, "give the mask of this image")
    return Image.fromarray(enlarge(overlay(pixels, drawn, alpha=alpha)))


def _drawn(given: Any) -> NDArray[np.uint8]:
    """A mask as class indices, a single foreground value is class 1; or planes as they are given."""
    if isinstance(given, np.ndarray) and overlaps(given) and np.isin(given, (0, 1)).all():
        return given.astype(np.uint8)
    if isinstance(given, str | os.PathLike) and not is_volume(Path(os.fsdecode(given))):
        return class_indices(read_mask(Path(os.fsdecode(given))), "mask")
    stored, _ = read_given(given, None, Reading())
    if stored.ndim != 2:
        raise DataError("mask", f"has the shape {stored.shape}", "give class indices (h, w)")
    return class_indices(stored, "mask")
