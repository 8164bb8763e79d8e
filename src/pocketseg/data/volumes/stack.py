"""TIFF files of several pages as volumes whose slices are the pages, or groups of pages that are channels."""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pocketseg import memory
from pocketseg.data import readers
from pocketseg.data.volumes.base import VolumeFile
from pocketseg.data.volumes.grid import Grid, Pixels
from pocketseg.data.volumes.pages import Pages, pages_of
from pocketseg.errors import DataError
from pocketseg.files import open_regular, whole_file, write_atomically
from pocketseg.memory import MAX_VOLUME

SUFFIXES = (".tif", ".tiff")


# X and Y resolution.
RESOLUTION = (282, 283)


@dataclass(frozen=True, eq=False, kw_only=True)
class Stack(VolumeFile):
    """A TIFF file of several pages of one size; `pages` says which of them are channels."""

    pages: Pages

    def voxels(self) -> Pixels:
        pages = readers.read_pages(self.path)
        if len({(page.shape, page.dtype) for page in pages}) > 1:
            what = "its pages differ in size, channels or type of numbers"
            fix = "save each as a file of its own; of an image stored in several sizes, save the largest"
            raise DataError(str(self.path), what, fix)
        if self.contrasts and pages[0].ndim > 2:
            raise DataError(str(self.path), "has channels in color", "save each channel in gray")
        slices, channels = self.pages.numbers.shape
        stack = np.stack([pages[number] for number in self.pages.numbers.ravel()])
        if channels == 1:
            return stack.swapaxes(0, 2)
        return stack.reshape(slices, channels, *stack.shape[1:]).transpose(3, 2, 0, 1)


def page_count(path: Path) -> int:
    """Pages of a TIFF file; one for a file that cannot be read, so that its fault is reported when it is."""
    try:
        return _head(path)[0]
    except Exception:  # whatever is wrong, reading it tells
        return 1


def _head(path: Path) -> tuple[int, tuple[int, int], str, tuple[float, float] | None]:
    """How many pages a file has; (width, height), the text and the pixels in a unit of length of the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_regular(path) as file, Image.open(file, formats=["TIFF"]) as picture:
            tags: Any = getattr(picture, "tag_v2", {})
            text, found = str(tags.get(readers.TIFF_DESCRIPTION) or ""), [tags.get(tag) for tag in RESOLUTION]
            resolution = None if None in found else (float(found[0]), float(found[1]))
            return readers.page_count(picture), picture.size, text, resolution


def open_stack(path: Path) -> Stack:
    """The pages of a file, counted and measured by the first; metadata say which are channels."""
    readers.size_of(path)
    try:
        count, (width, height), text, resolution = _head(path)
    except Exception as error:  # Pillow raises many kinds of errors on damaged files
        what = f"the TIFF file is damaged or cut off ({error})"
        raise memory.explained(error, DataError(str(path), what, "copy it again from its source")) from error
    if width * height * count > MAX_VOLUME // 4:
        raise DataError(str(path), f"declares {count} pages of {height}×{width} pixels", "cut it into parts")
    pages = pages_of(path, count, text, resolution)
    slices, channels = pages.numbers.shape
    # Without a place in a patient, the stored slices are those that are seen.
    spacing = None if pages.spacing_mm is None else (*pages.spacing_mm, math.inf)
    grid = Grid((width, height, slices), spacing)
    return Stack(path, (path,), grid, pages=pages, contrasts=channels if channels > 1 else 0)


def write_stack(path: Path, voxels: Pixels) -> Path:
    """Write voxels (i, j, k) in stored order as pages, losslessly compressed."""
    content = io.BytesIO()
    first, *rest = (Image.fromarray(np.ascontiguousarray(page)) for page in voxels.transpose(2, 1, 0))
    first.save(content, format="TIFF", save_all=True, append_images=rest, compression="tiff_deflate")
    write_atomically(path, content.getvalue())
    return path


@contextmanager
def writing_stack(path: Path) -> Iterator[Callable[[Pixels], None]]:
    """A file of pages that takes one, uint8 (h, w), after the other; it appears whole where the block ends well.

    Pillow goes through all pages that are there for each new one; a video has many.
    """
    with whole_file(path) as part, part.open("wb") as file:
        file.write(b"II*\0" + bytes(4))
        link = 4  # where the place of the next page is to stand

        def add(page: Pixels) -> None:
            nonlocal link
            place = file.tell()
            height, width = page.shape
            stored = zlib.compress(np.ascontiguousarray(page, np.uint8).tobytes())
            file.write(stored + bytes(len(stored) % 2))
            here = file.tell()
            # Width, height, bits, deflate, black is 0, place, samples, rows and bytes of the only strip.
            tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 273: place, 277: 1, 278: height, 279: len(stored)}
            entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
            file.write(struct.pack("<H", len(tags)) + entries + bytes(4))
            file.seek(link)
            file.write(struct.pack("<I", here))
            link = here + 2 + len(entries)
            file.seek(0, os.SEEK_END)

        yield add
