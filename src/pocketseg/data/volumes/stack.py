"""TIFF files of several pages as volumes whose slices are the pages."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pocketseg import memory
from pocketseg.data import readers
from pocketseg.data.volumes.base import VolumeFile
from pocketseg.data.volumes.grid import Grid, Pixels
from pocketseg.errors import DataError
from pocketseg.files import open_regular, write_atomically
from pocketseg.memory import MAX_VOLUME

SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Stack(VolumeFile):
    """A TIFF file of several pages of one size."""

    def voxels(self) -> Pixels:
        pages = readers.read_pages(self.path)
        if len({(page.shape, page.dtype) for page in pages}) > 1:
            what = "its pages differ in size, channels or type of numbers"
            raise DataError(str(self.path), what, "save each as a file of its own")
        return np.stack(pages).swapaxes(0, 2)


def page_count(path: Path) -> int:
    """Pages of a TIFF file; one for a file that cannot be read, so that its fault is reported when it is."""
    try:
        return _pages(path)[0]
    except Exception:  # whatever is wrong, reading it tells
        return 1


def _pages(path: Path) -> tuple[int, tuple[int, int]]:
    """How many pages a file has, and (width, height) of the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_regular(path) as file, Image.open(file, formats=["TIFF"]) as picture:
            return readers.page_count(picture), picture.size


def open_stack(path: Path) -> Stack:
    """The pages of a file, counted and measured by the first."""
    readers.size_of(path)
    try:
        pages, (width, height) = _pages(path)
    except Exception as error:  # Pillow raises many kinds of errors on damaged files
        what = f"the TIFF file is damaged or cut off ({error})"
        raise memory.explained(error, DataError(str(path), what, "copy it again from its source")) from error
    if width * height * pages > MAX_VOLUME // 4:
        raise DataError(str(path), f"declares {pages} pages of {height}×{width} pixels", "cut it into parts")
    return Stack(path, (path,), Grid((width, height, pages)))


def write_stack(path: Path, voxels: Pixels) -> Path:
    """Write voxels (i, j, k) in stored order as pages, losslessly compressed."""
    content = io.BytesIO()
    first, *rest = (Image.fromarray(np.ascontiguousarray(page)) for page in voxels.transpose(2, 1, 0))
    first.save(content, format="TIFF", save_all=True, append_images=rest, compression="tiff_deflate")
    write_atomically(path, content.getvalue())
    return path
