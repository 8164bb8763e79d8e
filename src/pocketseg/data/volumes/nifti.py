"""NIfTI volumes: read whole, written back on the same grid."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketseg.data.volumes.base import LARGEST_BYTES, VolumeFile, regular_file
from pocketseg.data.volumes.grid import Grid, Pixels
from pocketseg.errors import DataError, missing_package
from pocketseg.files import write_atomically

SUFFIXES = (".nii", ".nii.gz")
# No gzip file unpacks to more than this many times its size.
DEFLATE_LIMIT = 1032
HEADER_BYTES = 540
# Fields that people write free text into.
FREE_TEXT = ("descrip", "db_name", "aux_file", "intent_name")


@dataclass(frozen=True, eq=False)
class Nifti(VolumeFile):
    """A NIfTI file of one volume."""

    measured = True

    def voxels(self) -> Pixels:
        proxy = _opened(self.path).dataobj
        try:
            values = np.asanyarray(proxy)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            what = f"the volume is damaged or cut off ({error})"
            raise DataError(str(self.path), what, "copy it again from its source") from error
        values = values.reshape(self.grid.shape)
        kind = np.dtype(np.float32) if values.dtype.kind == "f" else values.dtype.newbyteorder("=")
        native: Pixels = values.astype(kind, copy=False)
        return native


def _nibabel() -> Any:
    try:
        import nibabel
    except Exception as error:
        raise missing_package("nibabel", "medical", error) from error
    return nibabel


def _opened(path: Path) -> Any:
    nibabel = _nibabel()
    nibabel.imageglobals.logger.disabled = True
    compressed = path.name.lower().endswith(".gz")
    try:
        if compressed:
            with gzip.open(path) as file:
                file.read(HEADER_BYTES)
        return nibabel.load(path)
    except Exception as error:  # torn headers raise what their parsing raises
        kind = "gzip file" if compressed and isinstance(error, gzip.BadGzipFile) else "NIfTI file"
        what = f"is no readable {kind} ({type(error).__name__})"
        raise DataError(str(path), what, "copy it again from its source") from error


def open_nifti(path: Path) -> Nifti:
    """The header of a file, checked before any voxel is read.

    Raises:
        DataError: no NIfTI, more than one volume, colour voxels, dimensions that the file cannot hold, voxel sizes of
            zero or below, directions that are no directions, or two that disagree.
    """
    size = regular_file(path)
    image = _opened(path)
    if not isinstance(image, _nibabel().Nifti1Image):  # Nifti2Image is one
        raise DataError(str(path), "is no NIfTI file", "convert it to NIfTI")
    shape, dtype = tuple(int(side) for side in image.shape), image.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    shape = shape + (1,) * (3 - len(shape))
    if len(shape) > 3:
        raise DataError(str(path), f"holds a series of {shape[3]} volumes", "save each as a file of its own")
    if dtype.kind not in "uif":
        raise DataError(str(path), f"has voxels of the type {dtype}", "save it with one number a voxel")
    needed = int(np.prod(shape, dtype=object)) * dtype.itemsize
    held = size * DEFLATE_LIMIT if path.name.lower().endswith(".gz") else size
    if min(shape) < 1 or needed > held:
        sides = "×".join(map(str, shape))
        what = f"declares {sides} voxels ({needed:,} bytes), more than the file can hold"
        raise DataError(str(path), what, "copy it again from its source")
    if needed > LARGEST_BYTES:
        raise DataError(str(path), f"unpacks to {needed:,} bytes, the limit is {LARGEST_BYTES:,}", "cut it into parts")
    return Nifti(path, (path,), _grid(path, image.header, (shape[0], shape[1], shape[2])))


def _grid(path: Path, header: Any, shape: tuple[int, int, int]) -> Grid:
    # As it is stored: nibabel mends zeros in silence.
    with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as file:
        declared = np.asarray(type(header).from_fileobj(file, check=False)["pixdim"][1:4], np.float64)
    if not np.isfinite(declared).all() or (declared[: int(header["dim"][0])] <= 0).any():
        sizes = ", ".join(f"{size:g}" for size in declared)
        raise DataError(str(path), f"declares voxels of {sizes} mm", "repair the header's pixdim")
    pixel = (float(declared[0]) or 1.0, float(declared[1]) or 1.0, float(declared[2]) or 1.0)
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if not sform and not qform:
        return Grid(shape, pixel)
    try:
        affine = np.asarray(header.get_sform() if sform else header.get_qform(), np.float64)
        other = np.asarray(header.get_qform(), np.float64) if qform else affine
    except Exception as error:  # a quaternion that is none
        raise DataError(str(path), "the header's quaternion is no rotation", "repair the header's qform") from error
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(str(path), "the header's affine is singular or not finite", "repair the header's sform")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]).T
    apart = float(np.abs((affine - other) @ corners).max() / sizes.min())
    if not apart < 0.1:
        what = f"sform and qform place the voxels differently, by up to {apart:.1f} voxels"
        raise DataError(str(path), what, "decide which is right and make the other equal to it")
    return Grid(shape, (float(sizes[0]), float(sizes[1]), float(sizes[2])), affine)


def write_nifti(path: Path, voxels: Pixels, like: VolumeFile) -> Path:
    """Write voxels in stored order on the grid of a volume.

    Where that is a NIfTI file its header is kept, but for the fields that may hold free text.
    """
    nibabel = _nibabel()
    grid = like.grid
    if isinstance(like, Nifti):
        source = _opened(like.path)
        header = source.header.copy()
        header.extensions.clear()
        for key in FREE_TEXT:
            header[key] = b""
        header.set_data_dtype(voxels.dtype)
        header["cal_min"] = header["cal_max"] = 0
        made = type(source)(voxels.reshape(source.shape), source.affine, header)
    else:
        affine = grid.affine
        if affine is None:
            sizes = [size if np.isfinite(size) else 1.0 for size in grid.spacing_mm or (1.0, 1.0, 1.0)]
            affine = np.diag([-sizes[0], -sizes[1], sizes[2], 1.0])
        made = nibabel.Nifti1Image(voxels, affine)
        made.header.set_xyzt_units("mm")
    content = made.to_bytes()
    # A fixed time stamp: equal masks are equal bytes.
    write_atomically(path, gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)
    return path
