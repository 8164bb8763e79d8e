"""NIfTI volumes: read whole, written back on the same grid."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.data.readers import DEFLATE_LIMIT, size_of
from pocketseg.data.volumes.base import MAX_CONTRASTS, VolumeFile, layers
from pocketseg.data.volumes.grid import Grid, Pixels
from pocketseg.errors import DataError, missing_package
from pocketseg.files import open_regular, write_atomically
from pocketseg.memory import MAX_VOLUME

SUFFIXES = (".nii", ".nii.gz")
HEADER_BYTES = 540
CHUNK = 2**20
# Of what `xyzt_units` says, in millimeters; where it says nothing, millimeters are meant.
UNITS_MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
UNITS = 0b111
# Fields that people write free text into.
FREE_TEXT = ("descrip", "db_name", "aux_file", "intent_name")


@dataclass(frozen=True, eq=False)
class Nifti(VolumeFile):
    """A NIfTI file of one volume; the contrasts of a scan in a fourth dimension are its channels."""

    measured = True

    def voxels(self) -> Pixels:
        _, header = _header(self.path)
        shape = (*self.grid.shape, self.contrasts) if self.contrasts else self.grid.shape
        try:
            with _unpacked(self.path) as file:
                plain = not isinstance(file, gzip.GzipFile)
                proxy = _nibabel().arrayproxy.ArrayProxy(file, header, mmap=plain)
                values = proxy.get_unscaled()
                _to_the_end(file, memory.max_decoded(size_of(self.path)))
        except (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error) as error:
            what = f"the volume is damaged or cut off ({error})"
            raise memory.explained(error, DataError(str(self.path), what, "copy it again from its source")) from error
        values = _scaled(values.reshape(shape), proxy.slope, proxy.inter)
        kind = np.dtype(np.float32) if values.dtype.kind == "f" else values.dtype.newbyteorder("=")
        with np.errstate(over="ignore"):  # what is infinite is found by whoever uses it
            native: Pixels = values.astype(kind, copy=False)
        return native


def _scaled(values: Pixels, slope: float, inter: float) -> Pixels:
    """Voxels in the file's units: in f64, as nibabel has them, but a layer at a time and kept as f32."""
    if (slope, inter) == (1, 0):
        return values
    slowest_first = layers(values)
    scaled = np.empty(slowest_first.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for layer, stored in zip(scaled, slowest_first, strict=True):
            layer[...] = _nibabel().volumeutils.apply_read_scaling(stored, np.float64(slope), np.float64(inter))
    return scaled if slowest_first is values else scaled.T


def _nibabel() -> Any:
    try:
        import nibabel
    except Exception as error:
        raise missing_package("nibabel", "medical", error) from error
    return nibabel


def _to_the_end(file: io.BufferedIOBase, most: int) -> None:
    """Read what is behind the voxels of a compressed file: at its end gzip holds its check sum against all of it."""
    while most > 0 and isinstance(file, gzip.GzipFile) and (block := file.read(CHUNK)):
        most -= len(block)


@contextmanager
def _unpacked(path: Path) -> Iterator[io.BufferedIOBase]:
    with open_regular(path) as file:
        yield gzip.GzipFile(fileobj=file) if path.name.lower().endswith(".gz") else file


def _header(path: Path, *, corrected: bool = True) -> tuple[Any, Any]:
    """The class of image that a file holds, and its header, as it is stored or with zeros corrected.

    The extensions behind the header are never read: they may be of any size, and nothing here needs them.
    """
    nibabel = _nibabel()
    nibabel.imageglobals.logger.disabled = True
    try:
        with _unpacked(path) as file:
            start = file.read(HEADER_BYTES)
        for image in (nibabel.Nifti1Image, nibabel.Nifti2Image):
            kind = image.header_class
            if kind.may_contain_header(start):
                return image, kind.from_fileobj(io.BytesIO(start[: kind.sizeof_hdr]), check=corrected)
    except Exception as error:  # truncated headers raise what their parsing raises
        what = f"is not a readable {'gzip' if isinstance(error, gzip.BadGzipFile) else 'NIfTI'} file"
        otherwise = DataError(str(path), f"{what} ({type(error).__name__})", "copy it again from its source")
        raise memory.explained(error, otherwise) from error
    raise DataError(str(path), "is not a NIfTI file", "convert it to NIfTI")


def open_nifti(path: Path) -> Nifti:
    """The header of a file, checked before any voxel is read.

    Raises:
        DataError: no NIfTI, a series of volumes, color voxels, dimensions that the file cannot hold, voxel sizes of
            zero or below, a unit that is none, directions that are not directions, or two that disagree.
    """
    size = size_of(path)
    _, header = _header(path)
    if not 1 <= header["dim"][0] <= 7:
        raise DataError(str(path), f"declares {header['dim'][0]} dimensions", "copy it again from its source")
    shape, dtype = tuple(int(side) for side in header.get_data_shape()), header.get_data_dtype()
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    shape = shape + (1,) * (3 - len(shape))
    if len(shape) > 4 or (len(shape) == 4 and shape[3] > MAX_CONTRASTS):
        what = f"holds a series of {'×'.join(map(str, shape[3:]))} volumes; {MAX_CONTRASTS} are read as channels"
        fix = "save each as a file of its own; channels of one image are NAME_0000.nii.gz, NAME_0001.nii.gz, …"
        raise DataError(str(path), what, fix)
    if dtype.kind not in "uif":
        raise DataError(str(path), f"has voxels of the type {dtype}", "save it with one number a voxel")
    _check_size(path, size, header, shape, dtype.itemsize)
    grid = _grid(path, header, (shape[0], shape[1], shape[2]))
    return Nifti(path, (path,), grid, contrasts=shape[3] if len(shape) == 4 else 0)


def _check_size(path: Path, size: int, header: Any, shape: tuple[int, ...], itemsize: int) -> None:
    """Refuse voxels that the file cannot hold, or that are too many for the memory."""
    begin, count = float(header["vox_offset"]), int(np.prod(shape, dtype=object))
    compressed = path.name.lower().endswith(".gz")
    held = size * DEFLATE_LIMIT if compressed else size
    if min(shape) < 1 or not 0 <= begin <= held or begin + count * itemsize > held:
        sides = "×".join(map(str, shape))
        what = (
            f"declares {sides} voxels ({count * itemsize:,} bytes) from byte {begin:.0f}, more than the file can hold"
        )
        raise DataError(str(path), what, "copy it again from its source")
    try:
        scaled = header.get_slope_inter() not in ((1.0, 0.0), (None, None))
    except Exception as error:  # an infinite intercept
        what = f"scales its voxels by numbers that are not finite ({error})"
        raise DataError(str(path), what, "repair the header's scl_slope and scl_inter") from None
    needed = int(begin) + count * (itemsize + (4 if scaled else 0))
    if needed > MAX_VOLUME:
        what = f"unpacks to {needed:,} bytes, the limit is {MAX_VOLUME:,}"
        raise DataError(str(path), what, "cut it into parts")
    if compressed and needed > memory.max_decoded(size):
        what = f"unpacks to {needed:,} bytes, {needed // size:,} times its size; the limit is {memory.MAX_TIMES}"
        raise DataError(str(path), what, "unpack it with gunzip, or save it with a smaller type of voxels")


def _grid(path: Path, header: Any, shape: tuple[int, int, int]) -> Grid:
    """Where the voxels lie, in millimeters, whatever unit the header states."""
    unit = UNITS_MM.get(int(header["xyzt_units"]) & UNITS)
    if unit is None:
        what = f"states the unit {int(header['xyzt_units']) & UNITS} in xyzt_units, which NIfTI does not have"
        raise DataError(str(path), what, "repair the header's xyzt_units: 1 is meters, 2 millimeters, 3 microns")
    # As it is stored: nibabel fixes zeros in silence.
    declared = np.asarray(_header(path, corrected=False)[1]["pixdim"][1:4], np.float64)
    if not np.isfinite(declared).all() or (declared[: int(header["dim"][0])] <= 0).any():
        sizes = ", ".join(f"{size:g}" for size in declared)
        raise DataError(str(path), f"declares voxels of {sizes}", "repair the header's pixdim")
    pixel = tuple(float(size or 1.0) * unit for size in declared)
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if not sform and not qform:
        return Grid(shape, (pixel[0], pixel[1], pixel[2]))
    try:
        affine = np.asarray(header.get_sform() if sform else header.get_qform(), np.float64)
        other = np.asarray(header.get_qform(), np.float64) if qform else affine
    except Exception as error:  # a quaternion that is none
        raise DataError(str(path), "the header's quaternion is not a rotation", "repair the header's qform") from error
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:  # in the header's unit
        raise DataError(str(path), "the header's affine is singular or not finite", "repair the header's sform")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]).T
    apart = float(np.abs((affine - other) @ corners).max() / sizes.min())
    if not apart < 0.1:
        what = f"sform and qform place the voxels differently, by up to {apart:.1f} voxels"
        raise DataError(str(path), what, "decide which is right and make the other equal to it")
    affine[:3] *= unit
    sizes *= unit
    return Grid(shape, (float(sizes[0]), float(sizes[1]), float(sizes[2])), affine)


def write_nifti(path: Path, voxels: Pixels, like: VolumeFile) -> Path:
    """Write voxels (i, j, k), or with channels (i, j, k, c), in stored order on the grid of a volume.

    Where that is a NIfTI file its header is kept, but for the fields that may hold free text.
    """
    grid = like.grid
    if isinstance(like, Nifti):
        kind, header = _header(like.path)
        shape, affine = header.get_data_shape(), header.get_best_affine()
        shape = voxels.shape if like.contrasts or voxels.ndim > len(grid.shape) else shape
        header["vox_offset"] = 0  # the voxels follow at once, wherever they were
        for key in set(FREE_TEXT) & set(header.keys()):  # version 2 has fewer
            header[key] = b""
        header.set_data_dtype(voxels.dtype)
        header["cal_min"] = header["cal_max"] = 0
        made = kind(voxels.reshape(shape), affine, header)
        _save(path, made)
        return path
    if grid.affine is not None:
        _save(path, _in_mm(voxels, grid.affine))
        return path
    x, y, z = (size if np.isfinite(size) else 1.0 for size in grid.spacing_mm or (1.0, 1.0, 1.0))
    return write_new_nifti(path, voxels, (x, y, z))


def write_new_nifti(path: Path, voxels: Pixels, spacing_mm: tuple[float, float, float]) -> Path:
    """Write voxels (x, y, z) that run from right to left, front to back and feet to head, with their size."""
    x, y, z = spacing_mm
    _save(path, _in_mm(voxels, np.diag([-x, -y, z, 1.0])))
    return path


def _in_mm(voxels: Pixels, affine: NDArray[np.float64]) -> Any:
    made = _nibabel().Nifti1Image(voxels, affine)
    made.header.set_xyzt_units("mm")
    return made


def _save(path: Path, made: Any) -> None:
    """With a fixed time stamp: equal voxels are equal bytes."""
    content = made.to_bytes()
    write_atomically(path, gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)
