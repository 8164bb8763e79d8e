"""What metadata say of the pages of a TIFF file: which are channels, and which are slices or moments of one series.

Two kinds of metadata are read: OME-XML, and the lines that ImageJ writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.annotations.reading import parse_xml
from pocketseg.data.volumes.base import MAX_CONTRASTS
from pocketseg.errors import DataError

UNITS_MM = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "µm": 1e-3, "μm": 1e-3, "um": 1e-3, "micron": 1e-3, "nm": 1e-6}
AXES = "CZT"
SPLIT = "split it into stacks of slices or of moments, a file each (Fiji: Image > Hyperstacks > Reduce Dimensionality)"
AGAIN = "save it again as one OME-TIFF (Fiji, or bfconvert)"


@dataclass(frozen=True, eq=False)
class Pages:
    """How the pages of a file belong together.

    Attributes:
        numbers: (slices, channels), which page holds each.
        spacing_mm: (x, y) of a pixel, where the metadata tell it.
    """

    numbers: NDArray[np.int64]
    spacing_mm: tuple[float, float] | None = None


def pages_of(path: Path, count: int, description: str, resolution: tuple[float, float] | None) -> Pages:
    """How the pages of a file belong together; slices where no metadata say so.

    Args:
        path: the file.
        count: how many pages it has.
        description: the text of its first page, as Pillow gives it.
        resolution: (x, y) pixels in a unit of length, as the first page says.

    Raises:
        DataError: metadata that are damaged or do not fit the pages; slices and moments at once; too many channels.
    """
    if description.startswith("ImageJ="):
        found = _imagej(path, count, description, resolution)
    elif "<OME" in description:
        found = _ome(path, count, description.encode("latin-1", "replace"))
    else:
        found = Pages(np.arange(count)[:, None])
    if found.numbers.shape[1] > MAX_CONTRASTS:
        what = f"holds {found.numbers.shape[1]} channels; {MAX_CONTRASTS} can be read"
        raise DataError(str(path), what, "save those that matter")
    return found


def _imagej(path: Path, count: int, text: str, resolution: tuple[float, float] | None) -> Pages:
    fields = dict(re.findall(r"^(\w+)=(.*?)\r?$", text, re.MULTILINE))
    sizes = {
        axis: _count(fields.get(name, "1")) for axis, name in zip(AXES, ("channels", "slices", "frames"), strict=True)
    }
    planes = sizes["C"] * sizes["Z"] * sizes["T"]
    if planes == 1:  # a plain stack says how many images it has and nothing else
        sizes["Z"] = planes = count
    if planes != count:
        what = f"has {count} pages, but ImageJ says {planes} ({_shown(sizes)})"
        raise DataError(str(path), what, AGAIN)
    unit = UNITS_MM.get(fields.get("unit", "").replace("\\u00B5", "µ").replace("Âµ", "µ"))
    spacing = None
    if unit is not None and resolution is not None and min(resolution) > 0:
        spacing = unit / resolution[0], unit / resolution[1]
    order = np.arange(count).reshape(sizes["T"], sizes["Z"], sizes["C"]).transpose(2, 1, 0)
    return Pages(_slices_and_channels(path, order), spacing)


def _ome(path: Path, count: int, content: bytes) -> Pages:
    images: list[dict[str, str]] = []
    channels: list[dict[str, str]] = []
    parts: list[dict[str, str]] = []
    files: set[str] = set()

    def start(name: str, attributes: dict[str, str]) -> None:
        kind = name.rpartition(":")[2]
        if kind == "Pixels":
            images.append(attributes)
        elif kind == "Channel":
            channels.append(attributes)
        elif kind == "TiffData":
            parts.append(attributes)
        elif kind == "UUID" and "FileName" in attributes:
            files.add(attributes["FileName"])

    parse_xml(content.rstrip(b"\0"), path, start)
    if len(images) != 1 or len(files) > 1:
        what = f"is one of {len(files)} files of an OME-TIFF" if len(files) > 1 else f"holds {len(images)} images (OME)"
        raise DataError(str(path), what, "save each image as one OME-TIFF of its own (Fiji, or bfconvert)")
    pixels = images[0]
    sizes = {axis: _count(pixels.get(f"Size{axis}", "1")) for axis in AXES}
    samples = max((_count(each.get("SamplesPerPixel", "1")) for each in channels), default=1)
    sizes["C"] = sizes["C"] // samples if samples else 0
    order = [axis for axis in pixels.get("DimensionOrder", "XYCZT") if axis in AXES]
    planes = sizes["C"] * sizes["Z"] * sizes["T"]
    if planes != count or sorted(order) != sorted(AXES):
        what = f"has {count} pages, but its OME metadata say {planes} ({_shown(sizes)})"
        raise DataError(str(path), what, AGAIN)
    numbers = _places(path, parts, sizes, order)
    spacing = tuple(_size_mm(pixels, axis) for axis in "XY")
    known = (spacing[0], spacing[1]) if all(0 < size < np.inf for size in spacing) else None
    return Pages(_slices_and_channels(path, numbers), known)


def _places(path: Path, parts: list[dict[str, str]], sizes: Mapping[str, int], order: list[str]) -> NDArray[np.int64]:
    """(channels, slices, moments): which page each is, as the elements TiffData say."""
    count = sizes["C"] * sizes["Z"] * sizes["T"]
    # In the order in which pages follow each other, the fastest first.
    ordered = [dict(zip(order[::-1], at, strict=True)) for at in product(*(range(sizes[axis]) for axis in order[::-1]))]
    numbers = np.full([sizes[axis] for axis in AXES], -1)
    for part in parts or [{}]:
        page = _count(part.get("IFD", "0"))
        length = _count(part.get("PlaneCount", "1" if "IFD" in part else str(count)))
        first = {axis: _count(part.get(f"First{axis}", "0")) for axis in AXES}
        begin = ordered.index(first) if first in ordered else count
        for at, place in enumerate(ordered[begin : begin + length]):
            numbers[place["C"], place["Z"], place["T"]] = page + at
    if sorted(numbers.ravel()) != list(range(count)):
        raise DataError(str(path), "has OME metadata that do not place each page once", AGAIN)
    return numbers


def _slices_and_channels(path: Path, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """(slices, channels) of (channels, slices, moments); moments are slices where there are no others."""
    channels, slices, moments = numbers.shape
    if slices > 1 and moments > 1:
        raise DataError(str(path), f"holds {slices} slices at {moments} moments", SPLIT)
    return numbers.reshape(channels, slices * moments).T


def _size_mm(pixels: Mapping[str, str], axis: str) -> float:
    unit = UNITS_MM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"), np.nan)
    try:
        return float(pixels.get(f"PhysicalSize{axis}", "nan")) * unit
    except ValueError:
        return np.nan


def _count(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,9}", text.strip()) else 0


def _shown(sizes: Mapping[str, int]) -> str:
    return f"channels {sizes['C']}, slices {sizes['Z']}, moments {sizes['T']}"
