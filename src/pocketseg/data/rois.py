"""ImageJ regions of interest (`.roi`, and sets of them in a `.zip`): read as masks, written from outlines.

The layout of the bytes is that of ImageJ's RoiDecoder: big-endian, a header of 64 bytes, then coordinates relative to
the upper left corner of the bounds. Corners lie on the edges of pixels, a pixel is inside where its center is.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg import archives, memory
from pocketseg.data.polygons import Corners, ellipse
from pocketseg.errors import DataError
from pocketseg.files import read_file, write_atomically

MAGIC = b"Iout"
VERSION = 228
POLYGON, RECTANGLE, OVAL, FREEHAND, TRACED = 0, 1, 2, 7, 8
SUBPIXEL = 128
HEADER_BYTES = 64
MOVE, LINE, CLOSE = 0, 1, 4
MAX_BYTES = 64 * 2**20
# A fixed time in zip archives, so that equal regions are equal bytes.
NO_TIME = (1980, 1, 1, 0, 0, 0)


def read_rois(path: Path) -> list[list[Corners]]:
    """The regions of a `.roi` or `.zip` file, each as closed lines; lines inside lines are holes.

    Raises:
        DataError: no such file, damaged, or a kind of region that has no inside.
    """
    try:
        if path.suffix.lower() != ".zip":
            return [_region(read_file(path, MAX_BYTES), str(path))]
        regions, left = [], MAX_BYTES
        with archives.opened(path) as archive:
            for entry in archive.infolist():
                if entry.filename.lower().endswith(".roi"):
                    content = archives.read_member(archive, entry, left)
                    left -= len(content)
                    regions.append(_region(content, f"{path} ({entry.filename})"))
        return regions
    except (OSError, ValueError, LookupError, struct.error, MemoryError) as error:
        what = f"is not a readable ImageJ ROI file ({error})"
        raise memory.explained(error, DataError(str(path), what, "save it again in ImageJ")) from error


def _region(content: bytes, where: str) -> list[Corners]:
    lines = _lines(content, where)
    if not all(np.isfinite(corners).all() for corners in lines):
        raise DataError(where, "has corners that are not finite", "draw it again in ImageJ")
    return lines


def _lines(content: bytes, where: str) -> list[Corners]:
    if content[:4] != MAGIC or len(content) < HEADER_BYTES:
        raise DataError(where, "is not an ImageJ ROI", "save it again in ImageJ")
    kind = content[6]
    top, left, bottom, right, count = struct.unpack(">hhhhH", content[8:18])
    shape_count = struct.unpack(">i", content[36:40])[0]
    if shape_count > 0:
        return _shape(np.frombuffer(content, ">f4", shape_count, HEADER_BYTES).astype(np.float64))
    if kind == RECTANGLE:
        return [np.array([[top, left], [top, right], [bottom, right], [bottom, left]], np.float64)]
    if kind == OVAL:
        center, radii = ((top + bottom) / 2, (left + right) / 2), ((bottom - top) / 2, (right - left) / 2)
        return [ellipse(center, radii)]
    if kind not in (POLYGON, FREEHAND, TRACED):
        raise DataError(where, f"is a region of kind {kind}, which has no inside", "draw an area")
    if struct.unpack(">h", content[50:52])[0] & SUBPIXEL:
        columns, rows = np.frombuffer(content, ">f4", 2 * count, HEADER_BYTES + 4 * count).reshape(2, count)
        return [np.stack([rows, columns], axis=1).astype(np.float64)]
    columns, rows = np.frombuffer(content, ">i2", 2 * count, HEADER_BYTES).reshape(2, count)
    return [np.stack([rows + np.float64(top), columns + np.float64(left)], axis=1)]


def _shape(numbers: NDArray[np.float64]) -> list[Corners]:
    """A region of several lines: MOVE x y, LINE x y …, CLOSE."""
    lines: list[list[tuple[float, float]]] = []
    at = 0
    while at < len(numbers):
        kind = numbers[at]
        if kind in (MOVE, LINE) and at + 2 < len(numbers):
            if kind == MOVE:
                lines.append([])
            if not lines:
                raise ValueError("a line without a beginning")
            lines[-1].append((numbers[at + 2], numbers[at + 1]))
            at += 3
        elif kind == CLOSE:
            at += 1
        else:
            raise ValueError("a region with curves; convert it to polygons in ImageJ")
    return [np.array(line) for line in lines if line]


def roi_bytes(lines: Sequence[Sequence[tuple[int, int]]]) -> bytes:
    """One region as a `.roi` file: a polygon, or with holes a region of several lines.

    Args:
        lines: closed lines of corners (row, column); the first is the outer one.
    """
    corners = np.array([corner for line in lines for corner in line])
    top, left = corners.min(axis=0)
    bottom, right = corners.max(axis=0)
    several = len(lines) > 1
    numbers = [number for line in lines for number in _segments(line)] if several else []
    header = bytearray(HEADER_BYTES)
    kind, count = (RECTANGLE, 0) if several else (POLYGON, len(corners))
    header[:18] = struct.pack(">4shBBhhhhH", MAGIC, VERSION, kind, 0, top, left, bottom, right, count)
    header[36:40] = struct.pack(">i", len(numbers))
    if several:
        return bytes(header) + struct.pack(f">{len(numbers)}f", *numbers)
    relative = [*(corners[:, 1] - left).tolist(), *(corners[:, 0] - top).tolist()]
    return bytes(header) + struct.pack(f">{len(relative)}h", *relative)


def _segments(line: Sequence[tuple[int, int]]) -> list[float]:
    numbers: list[float] = []
    for index, (row, column) in enumerate(line):
        numbers += [LINE if index else MOVE, column, row]
    return [*numbers, CLOSE]


def write_rois(path: Path, regions: Sequence[bytes]) -> Path:
    """A set of regions as a `.zip` that ImageJ's ROI manager opens."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, region in enumerate(regions, start=1):
            archive.writestr(zipfile.ZipInfo(f"{number:04d}.roi", NO_TIME), region)
    write_atomically(path, content.getvalue())
    return path
