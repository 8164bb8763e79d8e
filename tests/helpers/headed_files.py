"""NRRD and MetaImage files made for tests, by hand and not by the code that is tested."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

NRRD_TYPES = {
    "u1": "unsigned char", "i1": "int8", "i2": "short", "u2": "uint16", "i4": "int", "f4": "float", "f8": "double"
}  # fmt: skip
META_TYPES = {"u1": "MET_UCHAR", "i2": "MET_SHORT", "u2": "MET_USHORT", "f4": "MET_FLOAT", "f8": "MET_DOUBLE"}
LPS = "left-posterior-superior"
SIGNS = {LPS: (-1, -1, 1), "RAS": (1, 1, 1), "left-anterior-superior": (-1, 1, 1)}
PACKED = {
    "raw": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
}


def nrrd_head(voxels: Any, affine: Any = None, *, space: str = "", encoding: str = "gzip", **fields: str) -> str:
    """A header for voxels (fastest, …, slowest) with an affine in RAS; fields are changed, or left out where empty."""
    values = np.asarray(voxels)
    head = {"type": NRRD_TYPES[values.dtype.str[1:]], "dimension": str(values.ndim)}
    if affine is not None:
        turned = np.diag([*SIGNS.get(space, SIGNS[LPS]), 1]) @ affine
        head["space"] = space or LPS
        head["space directions"] = " ".join(f"({a},{b},{c})" for a, b, c in turned[:3, :3].T)
        head["space origin"] = "({},{},{})".format(*turned[:3, 3])
    else:
        head["space"] = space
    head["sizes"] = " ".join(map(str, values.shape))
    head |= {"endian": "big" if values.dtype.byteorder == ">" else "little", "encoding": encoding}
    head |= {key.replace("_", " "): value for key, value in fields.items()}
    return "NRRD0005\n# by hand\n" + "".join(f"{key}: {value}\n" for key, value in head.items() if value)


def write_nrrd(
    path: Path, voxels: Any, affine: Any = None, *, texts: str = "", encoding: str = "gzip", **options: str
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(voxels)
    if encoding == "text":
        content = " ".join(map(str, values.ravel(order="F").tolist())).encode()
    else:
        content = PACKED.get(encoding, bytes)(values.tobytes(order="F"))
    head = nrrd_head(values, affine, encoding=encoding, **options) + texts
    path.write_bytes(head.encode() + b"\n" + content)
    return path


def segments(*found: tuple[str, int, int]) -> str:
    """Lines of 3D Slicer for segments of a name, a label and a layer."""
    return "".join(
        f"Segment{number}_ID:=Segment_{number + 1}\nSegment{number}_LabelValue:={label}\n"
        f"Segment{number}_Layer:={layer}\nSegment{number}_Name:={name}\n"
        for number, (name, label, layer) in enumerate(found)
    )


def meta_head(voxels: Any, affine: Any = None, *, file: str = "LOCAL", **fields: str) -> str:
    """A header for voxels (i, j, k) with an affine in RAS."""
    values = np.asarray(voxels)
    head = {"ObjectType": "Image", "NDims": str(values.ndim), "BinaryData": "True"}
    head |= {"BinaryDataByteOrderMSB": str(values.dtype.byteorder == ">"), "CompressedData": "False"}
    if affine is not None:
        turned = np.diag([-1, -1, 1, 1]) @ affine
        sizes = np.linalg.norm(turned[:3, :3], axis=0)
        head["TransformMatrix"] = _words((turned[:3, :3] / sizes).T.ravel())
        head |= {"Offset": _words(turned[:3, 3]), "ElementSpacing": _words(sizes)}
    head |= {"DimSize": _words(values.shape), "ElementType": META_TYPES[values.dtype.str[1:]]} | fields
    return "".join(f"{key} = {value}\n" for key, value in head.items() if value) + f"ElementDataFile = {file}\n"


def write_meta(path: Path, voxels: Any, affine: Any = None, *, packed: bool = False, **fields: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = np.asarray(voxels).tobytes(order="F")
    content = zlib.compress(content) if packed else content
    path.write_bytes(meta_head(voxels, affine, CompressedData=str(packed), **fields).encode() + content)
    return path


def _words(values: Sequence[Any] | Any) -> str:
    return " ".join(map(str, np.asarray(values).tolist()))
