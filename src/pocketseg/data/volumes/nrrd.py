"""NRRD files of Teem and 3D Slicer: `.nrrd`, `.nhdr` with its voxels in a file beside it, `.seg.nrrd` with segments.

The format is described at https://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.readers import size_of
from pocketseg.data.volumes.base import MAX_CONTRASTS, VolumeFile
from pocketseg.data.volumes.grid import Grid, Pixels
from pocketseg.data.volumes.segments import Segment, SegmentFile
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

SUFFIXES = (".nrrd", ".nhdr")
SEGMENTATION = ".seg.nrrd"
MAGIC = re.compile(r"NRRD000[1-5]")
FIELD = re.compile(r"([^:]+?)(:=|:)\s*(.*)", re.DOTALL)
SEGMENT = re.compile(r"Segment(\d+)_(Name|LabelValue|Layer)")
TYPES = {
    name: kind
    for kind, names in {
        "i1": "signed char,int8,int8_t",
        "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t",
        "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(",")
}
ENCODINGS: dict[str, Packing] = {
    "raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2",
    "txt": "text", "text": "text", "ascii": "text",
}  # fmt: skip
# Signs that bring a space to RAS. Spaces that are not listed say nothing of a patient.
SPACES = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
OTHER_SPACES = ("scanner-xyz", "3d-right-handed", "3d-left-handed")
UNITS_MM = {
    "": 1.0, "???": 1.0, "mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "cm": 10.0, "m": 1000.0, "meter": 1000.0,
    "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "micron": 1e-3, "microns": 1e-3, "micrometer": 1e-3, "nm": 1e-6,
}  # fmt: skip
SPATIAL = ("domain", "space")
COLORS = ("rgb-color", "3-color", "rgba-color", "4-color")
UNKNOWN = ("none", "???")
VECTORS = ("vector", "2-vector", "3-vector", "4-vector")
PARTS = ("list", *VECTORS, *UNKNOWN, *COLORS)
# Colors of segments for Slicer, red, green and blue; they come again where there are more.
SHOWN_AS = ((0.90, 0.62, 0.0), (0.34, 0.71, 0.91), (0.0, 0.62, 0.45), (0.94, 0.89, 0.26), (0.8, 0.47, 0.65))


@dataclass(frozen=True, eq=False)
class Nrrd(HeadedVolume):
    """An NRRD file of one image."""


@dataclass(frozen=True)
class _Header:
    """What stands in front of the voxels: fields by their name in small letters without spaces, and texts by key."""

    path: Path
    fields: Mapping[str, str]
    texts: Mapping[str, str]
    end: int

    def need(self, name: str) -> str:
        if name not in self.fields:
            raise DataError(str(self.path), f"its header has no field {name!r}", AGAIN)
        return self.fields[name]

    def words(self, name: str, count: int) -> list[str] | None:
        """A word for each axis, in small letters; None where the field is not there."""
        if name not in self.fields:
            return None
        found = [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', self.fields[name])]
        if len(found) != count:
            raise DataError(str(self.path), f"its header's {name} has {len(found)} parts for {count} axes", AGAIN)
        return [word.lower() for word in found]


def _header(path: Path) -> _Header:
    fields: dict[str, str] = {}
    texts: dict[str, str] = {}
    lines = header_lines(path)
    first, end = next(lines)
    if not MAGIC.fullmatch(first):
        raise DataError(str(path), "is not an NRRD file", AGAIN)
    for number, (line, after) in enumerate(lines, start=2):
        end = after
        if not line:
            break
        if line.startswith("#"):
            continue
        match = FIELD.fullmatch(line)
        if match is None:
            raise DataError(str(path), f"line {number} of its header is damaged", AGAIN)
        key, sign, value = match.groups()
        kept, key = (texts, key) if sign == ":=" else (fields, key.lower().replace(" ", ""))
        if key in kept:
            raise DataError(str(path), f"its header says {key} twice", AGAIN)
        kept[key] = _unescaped(value) if sign == ":=" else value.strip()
    return _Header(path, fields, texts, end)


def _unescaped(text: str) -> str:
    return re.sub(r"\\([\\n])", lambda sign: "\n" if sign[1] == "n" else "\\", text)


@dataclass(frozen=True)
class _Axes:
    """Which axes of the file lie in space, and which one holds the parts of a voxel."""

    sizes: tuple[int, ...]
    space: tuple[int, ...]
    component: int | None
    kind: str


def open_nrrd(path: Path, images: VolumeFile | None = None) -> HeadedVolume | SegmentFile:
    """The header of a file, checked before any voxel is read; one with segments is a segmentation.

    Args:
        path: the file, or the header of a detached one.
        images: what a segmentation was drawn on, whose part it may cover.

    Raises:
        DataError: no NRRD, or a kind that is not read: more than one file of voxels, a series, numbers that are
            no image; dimensions that the file cannot hold; directions that are none.
    """
    header = _header(path)
    axes = _axes(header)
    stored = _stored(header, axes.sizes)
    stored.check()
    grid = _grid(header, axes)
    count = 0 if axes.component is None else axes.sizes[axes.component]
    files = (path,) if stored.path == path else (path, stored.path)
    if segments := _segments(header, several=axes.component is not None):
        labels = Nrrd(path, files, grid, stored=stored, component=axes.component, contrasts=count)
        return SegmentFile.of(labels, segments, images)
    # ITK writes colors as vectors of three or four bytes.
    is_color = axes.kind in COLORS or (axes.kind in VECTORS and stored.dtype == np.uint8 and count in (3, 4))
    colors = count if is_color else 0
    if count > MAX_CONTRASTS:
        what = f"holds a series of {count} volumes; {MAX_CONTRASTS} are read as channels"
        raise DataError(str(path), what, "save each as a file of its own")
    contrasts = 0 if colors else count
    return Nrrd(path, files, grid, stored=stored, component=axes.component, colors=colors, contrasts=contrasts)


def _axes(header: _Header) -> _Axes:
    path = header.path
    count = int(numbers(path, "dimension", header.need("dimension"), 1, whole=True)[0])
    if not 1 <= count <= 16:
        raise DataError(str(path), f"declares {count} dimensions", AGAIN)
    sizes = tuple(numbers(path, "sizes", header.need("sizes"), count, whole=True))
    kinds = header.words("kinds", count)
    directions = _directions(header, count)
    if directions is not None:
        space = [axis for axis, direction in enumerate(directions) if direction is not None]
    else:
        unknown = count <= 3 and all(kind in UNKNOWN for kind in kinds or ())
        space = [axis for axis in range(count) if unknown or (kinds is not None and kinds[axis] in SPATIAL)]
    others = [axis for axis in range(count) if axis not in space and sizes[axis] != 1]
    if len(space) not in (2, 3) or len(others) > 1:
        what = f"has {count} axes of the kinds {', '.join(kinds or ['unknown'])}, of which {len(space)} lie in space"
        raise DataError(str(path), what, "save one volume of two or three axes, with at most one more for channels")
    kind = kinds[others[0]] if others and kinds else "list"
    if kind not in PARTS:
        raise DataError(str(path), f"has an axis of the kind {kind!r}", "save each image as a file of its own")
    return _Axes(sizes, tuple(space), others[0] if others else None, kind)


def _directions(header: _Header, count: int) -> list[NDArray[np.float64] | None] | None:
    """The direction of each axis; None for one that does not lie in space, and where the file has no directions."""
    if "spacedirections" not in header.fields:
        return None
    found = re.findall(r"\([^()]*\)|none", header.fields["spacedirections"])
    if len(found) != count:
        what = f"its header's space directions are {len(found)} for {count} axes"
        raise DataError(str(header.path), what, AGAIN)
    return [None if text == "none" else _vector(header.path, "space directions", text) for text in found]


def _vector(path: Path, name: str, text: str) -> NDArray[np.float64]:
    return np.array(numbers(path, name, text.strip("()").replace(",", " ")), np.float64)


def _grid(header: _Header, axes: _Axes) -> Grid:
    path, count = header.path, len(axes.sizes)
    shape = [axes.sizes[axis] for axis in axes.space]
    directions = _directions(header, count)
    if directions is None:
        text = header.fields.get("spacings", "")
        spacings = numbers(path, "spacings", text, count) if text else None
        units = header.words("units", count) or [""] * count
        sizes = spacings and [spacings[axis] * _in_mm(path, units[axis]) for axis in axes.space]
        return placed(path, shape, sizes, None)
    space = header.fields.get("space", "").lower()
    dimension = 3 if space else int(numbers(path, "space dimension", header.need("spacedimension"), 1, whole=True)[0])
    vectors = [direction for direction in directions if direction is not None]
    if any(len(vector) != dimension for vector in vectors) or dimension not in (2, 3):
        raise DataError(str(path), f"has directions of another length than {dimension}", AGAIN)
    units = header.words("spaceunits", dimension) or [""] * dimension
    scale = np.array([_in_mm(path, unit) for unit in units])
    scaled = [vector * scale for vector in vectors]
    if space and space not in (*SPACES, *OTHER_SPACES):
        raise DataError(str(path), f"lies in the space {space!r}", "save it in left-posterior-superior, without time")
    if space not in SPACES:
        return placed(path, shape, [float(np.linalg.norm(vector)) for vector in scaled], None)
    origin = _vector(path, "space origin", header.fields.get("spaceorigin", "(0,0,0)"))
    if len(origin) != dimension:
        raise DataError(str(path), f"has an origin of {len(origin)} numbers", AGAIN)
    return placed(path, shape, None, to_ras(scaled, origin * scale, SPACES[space]))


def _in_mm(path: Path, unit: str) -> float:
    if unit not in UNITS_MM:
        what = f"states the unit {unit!r}, which is not a known length"
        raise DataError(str(path), what, "state mm, cm, m, um or nm in its header")
    return UNITS_MM[unit]


def _stored(header: _Header, sizes: tuple[int, ...]) -> Stored:
    path = header.path
    kind, encoding = header.need("type").lower(), header.need("encoding").lower()
    if kind not in TYPES:
        raise DataError(str(path), f"has voxels of the type {kind!r}", "save it with one number a voxel")
    if encoding not in ENCODINGS:
        what = f"is stored with the encoding {encoding!r}"
        raise DataError(str(path), what, "save it with the encoding gzip or raw")
    packing, dtype = ENCODINGS[encoding], np.dtype(TYPES[kind])
    if dtype.itemsize > 1 and packing != "text":
        endian = header.need("endian").lower()
        if endian not in ("little", "big"):
            raise DataError(str(path), f"states the byte order {endian!r}", "state little or big in its header")
        dtype = dtype.newbyteorder("<" if endian == "little" else ">")
    file, begin = path, header.end
    name = header.fields.get("datafile", "")
    if name:
        if name.startswith("LIST") or re.search(r"%\d*d", name):
            what = "has its voxels in several files"
            raise DataError(str(path), what, "save it as one .nrrd file")
        file, begin = beside(path, name), 0
    lines, skip = (
        int(numbers(path, key, header.fields.get(key, "0"), 1, whole=True)[0]) for key in ("lineskip", "byteskip")
    )
    if lines:
        begin = _after_lines(file, begin, lines)
    if skip == -1 and packing == "raw":
        return Stored(file, packing, dtype, sizes, None)
    if packing == "raw":
        return Stored(file, packing, dtype, sizes, begin + max(skip, 0))
    return Stored(file, packing, dtype, sizes, begin, skip)


def _after_lines(path: Path, begin: int, count: int) -> int:
    """Where the bytes begin after so many lines, of those that begin at a place."""
    ends = [end for _, end in header_lines(path) if end > begin] if 0 < count < size_of(path) else []
    if len(ends) < count:
        raise DataError(str(path), f"has no {count} lines to be skipped", AGAIN)
    return ends[count - 1]


def _segments(header: _Header, *, several: bool) -> tuple[Segment, ...]:
    """The segments that 3D Slicer describes in texts named Segment0_Name, Segment0_LabelValue, Segment0_Layer.

    Where no text says so, a segment has the label 1 in a layer of its own, as versions before 4.11 wrote them.
    """
    found: dict[int, dict[str, str]] = {}
    for key, value in header.texts.items():
        if match := SEGMENT.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = value
    made = []
    for order, number in enumerate(sorted(found)):
        of = found[number]
        name = of.get("Name", "").strip() or f"Segment_{number + 1}"
        label, layer = (
            int(numbers(header.path, f"Segment{number}_{key}", of.get(key, usual), 1, whole=True)[0])
            for key, usual in (("LabelValue", "1"), ("Layer", str(order * several)))
        )
        made.append(Segment(name, label, layer))
    return tuple(made)


def write_nrrd(path: Path, voxels: Pixels, grid: Grid, classes: Sequence[str] = ()) -> Path:
    """Write voxels (i, j, k) in stored order on a grid, gzipped; equal voxels are equal bytes.

    Args:
        path: of the new file.
        voxels: class indices, or numbers of another meaning.
        grid: where they lie.
        classes: names of class indices from 1 on, which become segments of 3D Slicer.
    """
    kind = next(name for name, kind in TYPES.items() if np.dtype(kind) == voxels.dtype.newbyteorder("="))
    lines = ["NRRD0004", f"type: {kind}", "dimension: 3"]
    lines += ["space: left-posterior-superior"] * (grid.affine is not None)
    lines += [f"sizes: {' '.join(map(str, voxels.shape))}"]
    if grid.affine is not None:
        lps = np.diag([-1.0, -1.0, 1.0]) @ grid.affine[:3]
        lines += [f"space directions: {' '.join(_written(lps[:, axis]) for axis in range(3))}"]
    elif grid.spacing_mm is not None:
        shown = (repr(size) if np.isfinite(size) else "nan" for size in grid.spacing_mm)
        lines += [f"spacings: {' '.join(shown)}", 'units: "mm" "mm" "mm"']
    lines += ["kinds: domain domain domain", "endian: little", "encoding: gzip"]
    lines += [f"space origin: {_written(lps[:, 3])}"] if grid.affine is not None else []
    lines += _described(classes, voxels.shape) if classes else []
    little = voxels.astype(voxels.dtype.newbyteorder("<"), copy=False)
    content = gzip.compress(little.tobytes(order="F"), mtime=0)
    write_atomically(path, "\n".join([*lines, "", ""]).encode() + content)
    return path


def _written(vector: NDArray[np.float64]) -> str:
    return f"({','.join(repr(float(value) + 0.0) for value in vector)})"


def _described(classes: Sequence[str], shape: tuple[int, ...]) -> list[str]:
    """The texts by which 3D Slicer knows segments."""
    extent = " ".join(f"0 {side - 1}" for side in shape)
    lines = []
    for number, name in enumerate(classes):
        escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
        color = " ".join(map(str, SHOWN_AS[number % len(SHOWN_AS)]))
        texts = {
            "Color": color, "Extent": extent, "ID": f"Segment_{number + 1}", "LabelValue": number + 1, "Layer": 0,
            "Name": escaped, "NameAutoGenerated": 0,
        }  # fmt: skip
        lines += [f"Segment{number}_{key}:={value}" for key, value in texts.items()]
    lines += ["Segmentation_ContainedRepresentationNames:=Binary labelmap|"]
    lines += ["Segmentation_MasterRepresentation:=Binary labelmap", "Segmentation_ReferenceImageExtentOffset:=0 0 0"]
    return lines
