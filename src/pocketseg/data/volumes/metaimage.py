"""MetaImage files of ITK: `.mha`, and `.mhd` with its voxels in a file beside it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketseg.data.volumes.base import MAX_CONTRASTS
from pocketseg.data.volumes.grid import Grid, Pixels
from pocketseg.data.volumes.stored import (
    AGAIN,
    HeadedVolume,
    Packing,
    Stored,
    beside,
    header_lines,
    numbers,
    placed,
    to_ras,
)
from pocketseg.errors import DataError
from pocketseg.files import write_atomically

SUFFIXES = (".mha", ".mhd")
TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
# Which stands for a field of the format under other names too.
SAME = {
    "Position": "Offset", "Origin": "Offset", "Rotation": "TransformMatrix", "Orientation": "TransformMatrix",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}  # fmt: skip
VOXELS = "ElementDataFile"
COLORS = (3, 4)
# Its millimeters run to the left, to the back and to the head.
LPS = (-1, -1, 1)


@dataclass(frozen=True, eq=False)
class MetaImage(HeadedVolume):
    """A MetaImage file."""


def open_metaimage(path: Path) -> MetaImage:
    """The header of a file, checked before any voxel is read.

    Raises:
        DataError: no MetaImage, or a kind that is not read: more than one file of voxels, a series, a scale of its
            values; dimensions that the file cannot hold; directions that are none.
    """
    fields, end = _header(path)
    sizes = tuple(numbers(path, "DimSize", _need(path, fields, "DimSize"), whole=True))
    channels = int(numbers(path, "ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1)[0])
    kind = _need(path, fields, "ElementType").removesuffix("_ARRAY")
    if kind not in TYPES:
        raise DataError(str(path), f"has voxels of the type {kind}", "save it with one number a voxel")
    for key, usual in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if key in fields and numbers(path, key, fields[key], 1) != [usual]:
            what = f"scales its values by {key}, which programs read differently"
            raise DataError(str(path), what, "save it with the values that are meant")
    declared = numbers(path, "NDims", _need(path, fields, "NDims"), 1, whole=True)[0]
    if declared != len(sizes) or not 2 <= declared <= 4:
        raise DataError(str(path), f"declares {declared} dimensions of {len(sizes)} sizes", AGAIN)
    series = sizes[3] if len(sizes) > 3 else 1
    if channels < 1 or max(series, channels) > MAX_CONTRASTS or min(series, channels) > 1:
        what = f"holds a series of {max(series, channels)} volumes; {MAX_CONTRASTS} are read as channels"
        raise DataError(str(path), what, "save each as a file of its own")
    stored = _stored(path, fields, end, (channels, *sizes), np.dtype(TYPES[kind]))
    stored.check()
    colors = channels if channels in COLORS and kind == "MET_UCHAR" else 0
    parts = max(series, channels)
    component = None if parts == 1 else 0 if channels > 1 else 4
    files = (path,) if stored.path == path else (path, stored.path)
    return MetaImage(
        path, files, _grid(path, fields, sizes),
        stored=stored, component=component, colors=colors, contrasts=0 if parts == 1 or colors else parts,
    )  # fmt: skip


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Its fields, and where the next byte after them is; the field that names the voxels is the last one."""
    fields: dict[str, str] = {}
    for line, end in header_lines(path):
        key, sign, value = (part.strip() for part in line.partition("="))
        if not sign and line.strip():
            raise DataError(str(path), "is not a MetaImage file, or its header is damaged", AGAIN)
        key = SAME.get(key, key)
        if key in fields:
            raise DataError(str(path), f"its header says {key} twice", AGAIN)
        if key:
            fields[key] = value
        if key == VOXELS:
            return fields, end
    raise DataError(str(path), f"is not a MetaImage file (its header has no {VOXELS})", AGAIN)


def _need(path: Path, fields: Mapping[str, str], key: str) -> str:
    if key not in fields:
        raise DataError(str(path), f"its header has no {key}", AGAIN)
    return fields[key]


def _says(fields: Mapping[str, str], key: str) -> bool:
    return fields.get(key, "").lower() in ("true", "1", "yes")


def _stored(path: Path, fields: Mapping[str, str], end: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Stored:
    name, begin, file = fields[VOXELS], end, path
    if name.upper().startswith("LIST") or "%" in name:
        raise DataError(str(path), "has its voxels in several files", "save it as one .mha file")
    if name.upper() != "LOCAL":
        file, begin = beside(path, name), 0
    if not _says(fields, "BinaryData") and "BinaryData" in fields:
        packing: Packing = "text"
    else:
        packing = "zlib" if _says(fields, "CompressedData") else "raw"
    skip = int(numbers(path, "HeaderSize", fields.get("HeaderSize", "0"), 1, whole=True)[0])
    if skip and file == path:
        raise DataError(str(path), "states a HeaderSize before voxels of its own", AGAIN)
    if skip < -1 or (skip == -1 and packing != "raw"):
        raise DataError(str(path), f"states a HeaderSize of {skip}", AGAIN)
    dtype = dtype.newbyteorder(">" if _says(fields, "BinaryDataByteOrderMSB") else "<")
    return Stored(file, packing, dtype, shape, None if skip == -1 else begin + skip)


def _grid(path: Path, fields: Mapping[str, str], sizes: tuple[int, ...]) -> Grid:
    """Where the voxels lie; a picture of two dimensions has pixels of a size, and no place in a patient."""
    count = len(sizes)
    key = "ElementSpacing" if "ElementSpacing" in fields else "ElementSize"
    spacing = numbers(path, key, fields[key], count)[:3] if key in fields else None
    if count == 2 or not {"Offset", "TransformMatrix"} & fields.keys():
        return placed(path, sizes[:3], spacing, None)
    unturned = " ".join(str(value) for value in np.eye(count).ravel())
    # The numbers of one axis follow each other.
    turn = np.reshape(numbers(path, "TransformMatrix", fields.get("TransformMatrix", unturned), count**2), (count, -1))
    origin = np.array(numbers(path, "Offset", fields.get("Offset", "0 " * count), count))[:3]
    spacing = spacing or [1.0] * 3
    placed(path, sizes[:3], spacing, None)  # which refuses sizes of zero and below
    vectors = [turn[axis, :3] * spacing[axis] for axis in range(3)]
    return placed(path, sizes[:3], None, to_ras(vectors, origin, LPS))


def write_metaimage(path: Path, voxels: Pixels, grid: Grid) -> Path:
    """Write voxels (i, j, k) in stored order on a grid, compressed; equal voxels are equal bytes."""
    kind = next(name for name, kind in TYPES.items() if np.dtype(kind) == voxels.dtype.newbyteorder("="))
    content = zlib.compress(voxels.astype(voxels.dtype.newbyteorder("<"), copy=False).tobytes(order="F"))
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
    lines += ["CompressedData = True", f"CompressedDataSize = {len(content)}"]
    spacing = [size if np.isfinite(size) else 1.0 for size in grid.spacing_mm or (1.0, 1.0, 1.0)]
    if grid.affine is not None:
        lps = np.diag([-1.0, -1.0, 1.0]) @ grid.affine[:3]
        turn = lps[:, :3] / np.array(spacing)
        lines += [f"TransformMatrix = {_written(turn.T.ravel())}", f"Offset = {_written(lps[:, 3])}"]
    lines += [f"ElementSpacing = {_written(spacing)}"] if grid.spacing_mm is not None else []
    lines += [f"DimSize = {' '.join(map(str, voxels.shape))}", f"ElementType = {kind}", f"{VOXELS} = LOCAL", ""]
    write_atomically(path, "\n".join(lines).encode() + content)
    return path


def _written(values: object) -> str:
    return " ".join(repr(float(value) + 0.0) for value in np.asarray(values, np.float64))
