"""DICOM images: single files, series of files, several frames in one file.

Nothing a file says about a person is shown, logged or kept: errors tell the file's name and the kind of fault only.
"""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.data.readers import size_of
from pocketseg.data.volumes.base import VolumeFile
from pocketseg.data.volumes.grid import Grid, Pixels
from pocketseg.errors import DataError, PocketsegError, Problem, missing_package
from pocketseg.files import open_regular
from pocketseg.memory import MAX_VOLUME

Rest = ParamSpec("Rest")
Result = TypeVar("Result")

SUFFIXES = (".dcm", ".dicom", ".ima")
SEGMENTATION, STRUCTURES = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.3"
MASKS = (SEGMENTATION, STRUCTURES)
DEFLATED = "1.2.840.10008.1.2.1.99"
CHUNK = 2**20
MAX_SIDE = 32_768
# Distances between slices may differ by this share before one counts as missing.
EVEN = 0.1
# What decodes a transfer syntax that pydicom does not decode by itself; of other syntaxes no package is known.
JPEG, JPEG_2000 = "python-gdcm, or pylibjpeg with pylibjpeg-libjpeg", "pylibjpeg with pylibjpeg-openjpeg"
DECODERS = {
    "1.2.840.10008.1.2.4.50": JPEG,
    "1.2.840.10008.1.2.4.51": JPEG,
    "1.2.840.10008.1.2.4.57": JPEG,
    "1.2.840.10008.1.2.4.70": JPEG,
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": JPEG_2000,
    "1.2.840.10008.1.2.4.91": JPEG_2000,
    "1.2.840.10008.1.2.4.201": JPEG_2000,
    "1.2.840.10008.1.2.4.202": JPEG_2000,
    "1.2.840.10008.1.2.4.203": JPEG_2000,
    "1.2.840.10008.1.2.5": "pylibjpeg with pylibjpeg-rle",
}
# Of ultrasound regions: those that show a plane and not time or velocity, what is drawn beside, and centimeters.
PLANE_REGION, DRAWN_REGION, CENTIMETERS = 1, 5, 3
# Pixel sizes that differ by a larger share are not one.
SAME_PIXEL = 0.01
COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "PALETTE COLOR")


@dataclass(frozen=True, eq=False)
class Dicom(VolumeFile):
    """A series, or the frames of one file; `uids` are its SOP instances in the order of the slices.

    `frames` is the order of the frames of a single file, None for a series.
    """

    uids: tuple[str, ...] = ()
    frames: tuple[int, ...] | None = None
    measured = True

    def voxels(self) -> Pixels:
        if self.frames is not None:
            stack = _decoded(self.files[0])[list(self.frames)]
        else:
            stack = np.concatenate([_decoded(path) for path in self.files])
        return stack.swapaxes(0, 2)


@dataclass(frozen=True, eq=False)
class DicomPicture(Dicom):
    """DICOM whose pixels are a picture: color, or gray of 8 bits."""

    measured = False


def is_dicom(path: Path) -> bool:
    """Whether a file is one by its suffix, or by its mark where it has none."""
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdecimal():
        return False
    try:
        with open_regular(path) as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, ValueError):
        return False


@contextmanager
def quiet() -> Iterator[Any]:
    """pydicom, without its warnings: they cite values."""
    try:
        import pydicom
    except Exception as error:
        raise missing_package("pydicom", "medical", error) from error
    logger = logging.getLogger("pydicom")
    before = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield pydicom
    finally:
        logger.disabled = before


def read_dataset(path: Path, *, pixels: bool) -> Any:
    """A pydicom data set.

    Raises:
        DataError: no DICOM, or one that unpacks to more than the limit.
    """
    size_of(path)
    with quiet() as pydicom:
        try:
            _refuse_bomb(path, pydicom)
            with open_regular(path) as file:
                found = pydicom.dcmread(file, stop_before_pixels=not pixels, force=True)
        except DataError:
            raise
        except Exception as error:  # damaged files raise what their parsing raises, with values in the message
            what = f"is not a readable DICOM file ({type(error).__name__})"
            raise memory.explained(error, DataError(str(path), what, "export it again from its source")) from None
    if "SOPClassUID" not in found:
        raise DataError(str(path), "is not a DICOM file (it names no SOP class)", "export it again from its source")
    return found


def _max_decoded(path: Path) -> int:
    """Half of what a file may unpack to, since a data set and its pixels lie in the memory side by side."""
    return memory.max_decoded(size_of(path)) // 2


def _refuse_bomb(path: Path, pydicom: Any) -> None:
    """Unpack a deflated file piece by piece and stop at the limit, before pydicom unpacks it whole."""
    with open_regular(path) as file:
        if file.read(132)[128:] != b"DICM":
            return
        # It stops where pydicom begins to unpack.
        meta = pydicom.filereader._read_file_meta_info(file)
        if meta.get("TransferSyntaxUID") != DEFLATED:
            return
        most = _max_decoded(path)
        inflate, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
        pending = file.read(CHUNK)
        while pending and not inflate.eof:
            total += len(inflate.decompress(pending, CHUNK))
            if total > most:
                what = f"unpacks to more than {most:,} bytes"
                raise DataError(str(path), what, "save it without the deflated transfer syntax")
            pending = inflate.unconsumed_tail or file.read(CHUNK)


def damage_reported(read: Callable[Concatenate[Path, Rest], Result]) -> Callable[Concatenate[Path, Rest], Result]:
    """The same, but values that are none become an error: pydicom converts a value when it is asked for.

    Such errors and warnings cite values, so only the error's kind is reported.
    """

    @wraps(read)
    def reading(path: Path, /, *rest: Rest.args, **named: Rest.kwargs) -> Result:
        try:
            with quiet():
                return read(path, *rest, **named)
        except PocketsegError:
            raise
        except Exception as error:
            what = f"has a damaged header ({type(error).__name__})"
            raise memory.explained(error, DataError(str(path), what, "export it again from its source")) from None

    return reading


def _check(path: Path, header: Any) -> None:
    """Refuse what holds no image, or dimensions that make no sense."""
    kind = _kind(header)
    if header.SOPClassUID == SEGMENTATION:
        raise DataError(str(path), "is a segmentation, not an image", "give it as a mask, with its images")
    if "Rows" not in header or "Columns" not in header:
        raise DataError(str(path), f"holds no image ({kind})", "give the images themselves")
    rows, columns, frames = (int(header.get(key) or 0) for key in ("Rows", "Columns", "NumberOfFrames"))
    samples = int(header.get("SamplesPerPixel") or 1)
    needed = rows * columns * max(frames, 1) * samples * (int(header.get("BitsAllocated") or 8) // 8 or 1)
    sides = f"{rows}×{columns}×{max(frames, 1)}"
    if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE) or needed > MAX_VOLUME:
        raise DataError(str(path), f"declares {sides} pixels", "export it again from its source")
    if needed > _max_decoded(path):
        what = f"declares {sides} pixels, {needed:,} bytes, more than {memory.MAX_TIMES // 2} times its size"
        raise DataError(str(path), what, "save it uncompressed")


def _kind(header: Any) -> str:
    """The name of a file's SOP class; what stands there in a truncated file may be anything, and is not shown."""
    name = str(header.SOPClassUID.name)
    return "an unknown SOP class" if name == str(header.SOPClassUID) else name


@damage_reported
def _decoded(path: Path) -> Pixels:
    """(frames, h, w) or (frames, h, w, 3): rescaled, palette applied, black at the low end."""
    found = read_dataset(path, pixels=True)
    _check(path, found)
    if not any(key in found for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        what = f"holds no pixels ({_kind(found)})"
        raise DataError(str(path), what, "export it again with its image")
    syntax = found.file_meta.get("TransferSyntaxUID") if hasattr(found, "file_meta") else None
    with quiet() as pydicom:
        pixels: Any = import_module("pydicom.pixels")
        try:
            if syntax is None:
                found.ensure_file_meta()
                implicit = found.original_encoding[0]
                uid = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
                found.file_meta.TransferSyntaxUID = uid
            values = pixels.pixel_array(found)
            if _is_palette(found):
                values = pixels.apply_color_lut(values, found)
                values = (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
        except (RuntimeError, NotImplementedError) as error:
            raise memory.explained(error, _no_decoder(path, syntax, error)) from None
        except Exception as error:
            what = f"the pixels are damaged or cut off ({type(error).__name__})"
            raise memory.explained(error, DataError(str(path), what, "export it again from its source")) from None
    if values.ndim == (2 if int(found.get("SamplesPerPixel") or 1) == 1 and not _is_palette(found) else 3):
        values = values[None]
    if int(found.get("SamplesPerPixel") or 1) == 1 and not _is_palette(found):
        values = _measured(path, found, values)
    native: Pixels = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native


def _no_decoder(path: Path, syntax: Any, error: Exception) -> DataError:
    """The package that decodes a transfer syntax, by name."""
    name = syntax.name if syntax is not None else "an unknown transfer syntax"
    package = DECODERS.get(str(syntax))
    what = f"is stored as {name}, which no installed decoder reads ({type(error).__name__})"
    if package is None:
        return DataError(str(path), what, "save it uncompressed; no package for Python is known to decode it")
    return DataError(str(path), what, f"install a decoder with pip ({package}), or save it uncompressed")


def _measured(path: Path, found: Any, stored: Pixels) -> Pixels:
    """Modality values (frames, h, w) of stored ones, black at the low end.

    They are what the modality LUT or, frame by frame, rescale slope and intercept make of the stored values. A window
    or another table for the display (VOI) changes nothing here.
    """
    if found.get("ModalityLUTSequence"):
        with quiet():
            values: Pixels = import_module("pydicom.pixels").apply_modality_lut(stored, found)
        bounds = 0.0, float(2 ** int(found.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
        return _mirrored(values, *bounds) if _white_is_low(found) else values
    lines = [_line(path, found, frame) for frame in range(len(stored))]
    if _white_is_low(found):
        stored = _mirrored(stored, *_stored_bounds(found))
    if all(line == (1, 0) for line in lines):
        return stored
    scaled = np.empty(stored.shape, np.float64)
    for frame, (slope, intercept) in enumerate(lines):
        scaled[frame] = stored[frame] * slope + intercept
    whole = (np.rint(scaled) == scaled).all() and np.abs(scaled).max(initial=0) < 2**31
    return scaled.astype(np.int32 if whole else np.float32)


def _line(path: Path, header: Any, frame: int) -> tuple[float, float]:
    """Slope and intercept from stored to modality values of a frame.

    Where a file says neither, its mapping to real-world values stands for it, if it has one and that is a line; beside
    a slope it is another unit of the same values, and is left alone.

    Raises:
        DataError: a slope of 0, numbers that are not finite, or a mapping that is not one line.
    """
    found = (_functional(header, frame, "PixelValueTransformationSequence", key) for key in RESCALE)
    slope, intercept = (None if value is None else value[0] for value in found)
    if slope is None and intercept is None:
        slope, intercept = _real_world(path, header, frame)
    line = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    if line[0] == 0 or not all(map(math.isfinite, line)):
        what = f"rescales its values by {line[0]:g} and {line[1]:g}"
        raise DataError(str(path), what, "export it again from its source")
    return line


RESCALE = ("RescaleSlope", "RescaleIntercept")


def _real_world(path: Path, header: Any, frame: int) -> tuple[float | None, float | None]:
    """The line of a mapping to real-world values; None where there is no such mapping."""
    items = next(iter(_items(header, frame, "RealWorldValueMappingSequence")), [])
    lines = {(item.get("RealWorldValueSlope"), item.get("RealWorldValueIntercept")) for item in items}
    if not lines:
        return None, None
    line = lines.pop()
    if lines or None in line:
        what = "maps its values to real-world values by a table, or in several ways, and has no rescale slope"
        raise DataError(str(path), what, "export it with rescale slope and intercept")
    return float(line[0]), float(line[1])


def _white_is_low(header: Any) -> bool:
    return bool(header.PhotometricInterpretation == "MONOCHROME1")


def _is_palette(header: Any) -> bool:
    return bool(header.PhotometricInterpretation == "PALETTE COLOR")


def _stored_bounds(header: Any) -> tuple[float, float]:
    """The lowest and highest value that the stored bits can mean."""
    bits, signed = int(header.BitsStored), int(header.get("PixelRepresentation") or 0)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _bounds(path: Path, header: Any) -> tuple[float, float]:
    """The same as modality values, of the first frame."""
    if header.get("ModalityLUTSequence"):  # what stands in the table, not what its indices are
        table = header.ModalityLUTSequence[0]
        return 0.0, float(2 ** int(table.LUTDescriptor[2]) - 1)
    slope, intercept = _line(path, header, 0)
    low, high = sorted(end * slope + intercept for end in _stored_bounds(header))
    return low, high


def _mirrored(values: Pixels, low: float, high: float) -> Pixels:
    """low for high and high for low: MONOCHROME1 stores white as the lowest value."""
    mirrored = (low + high) - values.astype(np.float64)
    return mirrored.astype(values.dtype if values.dtype.kind != "f" else np.float32)


@damage_reported
def open_dicom(path: Path) -> Dicom:
    """One file: a single image, or several frames."""
    header = read_dataset(path, pixels=False)
    _check(path, header)
    frames = int(header.get("NumberOfFrames") or 1)
    planes = [_plane(header, frame) for frame in range(frames)]
    order = sorted(range(frames), key=lambda frame: _along(planes[frame], planes[0]))
    grid = _grid(path, header, [planes[frame] for frame in order])
    return _make(header)(
        path, (path,), grid, _window(path, [header]), _patient(header), (str(header.SOPInstanceUID),), tuple(order)
    )


@damage_reported
def open_series(folder: Path, files: Sequence[Path]) -> Dicom:
    """The files of one series as a volume, ordered by their place in the patient.

    Raises:
        DataError: several series, slices that differ in kind or size, the same place twice, a missing slice; all
            faulty files are reported together.
    """
    headers: dict[Path, Any] = {}
    problems: list[Problem] = []
    for path in files:
        try:
            header = read_dataset(path, pixels=False)
            if header.SOPClassUID in MASKS and len(files) > 1:  # it lies beside the images that it was drawn on
                continue
            _check(path, header)
            headers[path] = header
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError.of(problems)
    files = list(headers)
    if not files:
        raise DataError(str(folder), "holds segmentations and no images", "give the images with them")
    if len(files) == 1 and int(headers[files[0]].get("NumberOfFrames") or 1) > 1:
        return open_dicom(files[0])
    series = {str(header.get("SeriesInstanceUID")) for header in headers.values()}
    if len(series) > 1:
        raise DataError(str(folder), f"holds {len(series)} series", "give each a folder of its own")
    if any(int(header.get("NumberOfFrames") or 1) > 1 for header in headers.values()):
        what = "holds several files of one series, of which some have several frames"
        raise DataError(str(folder), what, "give each a folder of its own")
    for key in ("Rows", "Columns", "PhotometricInterpretation", "BitsAllocated"):
        if len({str(header.get(key)) for header in headers.values()}) > 1:
            raise DataError(str(folder), f"its slices differ in {key}", "give each kind a folder of its own")
    planes = {path: _plane(header, 0) for path, header in headers.items()}
    first = next(iter(planes.values()))
    if all(plane is None for plane in planes.values()):
        order = sorted(files, key=lambda path: (int(headers[path].get("InstanceNumber") or 0), path.name))
    else:
        order = sorted(files, key=lambda path: _along(planes[path], first))
    header = headers[order[0]]
    grid = _grid(folder, header, [planes[path] for path in order])
    uids = tuple(str(headers[path].SOPInstanceUID) for path in order)
    window = _window(folder, [headers[path] for path in order])
    return _make(header)(folder, tuple(order), grid, window, _patient(header), uids)


def _make(header: Any) -> type[Dicom]:
    picture = header.get("PhotometricInterpretation") in COLOR or int(header.get("BitsAllocated") or 8) <= 8
    return DicomPicture if picture else Dicom


@dataclass(frozen=True, eq=False)
class _Plane:
    """Place of a slice in LPS millimeters: its first pixel, the steps along columns and rows, and the normal."""

    position: NDArray[np.float64]
    column_step: NDArray[np.float64]
    row_step: NDArray[np.float64]
    normal: NDArray[np.float64]


def _plane(header: Any, frame: int) -> _Plane | None:
    """Where a frame lies; None where the file does not say."""
    place, turn, pixel = (
        _functional(header, frame, *names)
        for names in (
            ("PlanePositionSequence", "ImagePositionPatient"),
            ("PlaneOrientationSequence", "ImageOrientationPatient"),
            ("PixelMeasuresSequence", "PixelSpacing"),
        )
    )
    several = int(header.get("NumberOfFrames") or 1) > 1 and "PerFrameFunctionalGroupsSequence" not in header
    if several or place is None or turn is None or pixel is None:
        return None
    row_direction, column_direction = np.array(turn[:3]), np.array(turn[3:])
    return _Plane(
        np.array(place),
        # The first spacing is that between rows.
        row_direction * pixel[1],
        column_direction * pixel[0],
        np.cross(row_direction, column_direction),
    )


def _functional(header: Any, frame: int, sequence: str, key: str) -> list[float] | None:
    """Numbers from the frame's or the shared functional groups, or from the file itself."""
    places = [*(item for items in _items(header, frame, sequence) for item in items), header]
    values = (place.get(key) for place in places)
    found = next((value for value in values if value is not None and value != "" and value != []), None)
    if found is None:
        return None
    return [float(number) for number in (found if isinstance(found, Sequence) else [found])]


def _items(header: Any, frame: int, sequence: str) -> Iterator[Sequence[Any]]:
    """A sequence of the frame's own functional groups, of the shared ones, and of the file itself, where it is there.

    Which comes first, holds.
    """
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        if groups in header and index < len(header[groups].value):
            group = header[groups].value[index]
            if group.get(sequence):
                yield list(group[sequence].value)
    if header.get(sequence):
        yield list(header[sequence].value)


def _along(plane: _Plane | None, first: _Plane | None) -> float:
    return 0.0 if plane is None or first is None else float(plane.position @ first.normal)


def _grid(path: Path, header: Any, planes: Sequence[_Plane | None]) -> Grid:
    shape = int(header.Columns), int(header.Rows), len(planes)
    placed = [plane for plane in planes if plane is not None]
    if len(placed) < len(planes):
        if placed:
            raise DataError(str(path), "only some of its slices have a position", "export the series again")
        pixel = _pixel_size(header)
        # Frames without a place have no distance: slices are never cut across them.
        return Grid(shape, (float(pixel[1]), float(pixel[0]), math.inf) if pixel else None)
    step = _slice_step(path, header, placed)
    affine = np.eye(4)
    affine[:3] = np.stack([placed[0].column_step, placed[0].row_step, step, placed[0].position], axis=1)
    affine[:2] *= -1  # from LPS to RAS
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3] / np.maximum(sizes, 1e-12))) < 1e-3:
        raise DataError(str(path), "its slices have no usable orientation", "export the series again")
    return Grid(shape, (float(sizes[0]), float(sizes[1]), float(sizes[2])), affine)


def _pixel_size(header: Any) -> list[float] | None:
    """[row, column] in mm of an image without a place; None where nothing says it, or two attributes disagree."""
    stated = _functional(header, 0, "PixelMeasuresSequence", "PixelSpacing")
    regions = _region_spacing(header)
    if stated and regions and not np.allclose(stated, regions, rtol=SAME_PIXEL, atol=0):
        return None
    return stated or regions or _functional(header, 0, "PixelMeasuresSequence", "ImagerPixelSpacing")


def _region_spacing(header: Any) -> list[float] | None:
    """[row, column] in mm as the regions of an ultrasound image are calibrated.

    None where there are none, where one shows time or velocity, or where they are not all of one pixel size in
    centimeters: no single size then holds for the whole image.
    """
    regions = [item for item in header.get("SequenceOfUltrasoundRegions") or [] if not _is_drawn(item)]
    sizes = [_region_size(region) for region in regions]
    first = sizes[0] if sizes else None
    if first is None or any(size is None or not np.allclose(size, first, rtol=SAME_PIXEL, atol=0) for size in sizes):
        return None
    return first


def _is_drawn(region: Any) -> bool:
    return int(region.get("RegionSpatialFormat") or 0) == DRAWN_REGION


def _region_size(region: Any) -> list[float] | None:
    units = (int(region.get(f"PhysicalUnits{axis}Direction") or 0) for axis in "YX")
    if int(region.get("RegionSpatialFormat") or 0) != PLANE_REGION or any(unit != CENTIMETERS for unit in units):
        return None
    row, column = (10 * abs(float(region.get(f"PhysicalDelta{axis}") or 0)) for axis in "YX")
    return [row, column] if 0 < row < math.inf and 0 < column < math.inf else None


def _slice_step(path: Path, header: Any, planes: Sequence[_Plane]) -> NDArray[np.float64]:
    """From one slice to the next in millimeters."""
    if len(planes) == 1:
        keys = ("SpacingBetweenSlices", "SliceThickness")
        apart = (_functional(header, 0, "PixelMeasuresSequence", key) for key in keys)
        return planes[0].normal * next((abs(found[0]) for found in apart if found and found[0]), 1.0)
    for plane in planes[1:]:
        for step, first in ((plane.column_step, planes[0].column_step), (plane.row_step, planes[0].row_step)):
            if np.abs(step - first).max() > 1e-3 * np.linalg.norm(first):
                what = "its slices are turned against one another, or differ in their pixel size"
                raise DataError(str(path), what, "give each stack its own folder")
    gaps = np.diff([float(plane.position @ planes[0].normal) for plane in planes])
    usual = float(np.median(gaps))
    if gaps.min() < 1e-3 * max(usual, 1e-3):
        number = int(gaps.argmin())
        what = f"slices {number + 1} and {number + 2} lie at the same place"
        several = int(header.get("NumberOfFrames") or 1) > 1
        fix = (
            "split the file by its moments or contrasts"
            if several
            else "keep one of them, or give each series its own folder"
        )
        raise DataError(str(path), what, fix)
    if np.abs(gaps - usual).max() > EVEN * usual:
        number = int(np.abs(gaps - usual).argmax())
        what = f"slices {number + 1} and {number + 2} are {gaps[number]:.3g} mm apart, most others {usual:.3g} mm"
        raise DataError(str(path), what, "complete the series, or split it where its spacing changes")
    return (planes[-1].position - planes[0].position) / (len(planes) - 1)


def _window(path: Path, headers: Sequence[Any]) -> tuple[float, float] | None:
    """The first window of every slice or frame, on the values as they are read; None where it is not one for all."""
    windows = {
        _window_of(path, header, frame)
        for header in headers
        for frame in range(int(header.get("NumberOfFrames") or 1) if len(headers) == 1 else 1)
    }
    return windows.pop() if len(windows) == 1 else None


def _window_of(path: Path, header: Any, frame: int) -> tuple[float, float] | None:
    center, width = (_functional(header, frame, "FrameVOILUTSequence", key) for key in ("WindowCenter", "WindowWidth"))
    shape = next(
        (item.get("VOILUTFunction") for items in _items(header, frame, "FrameVOILUTSequence") for item in items),
        header.get("VOILUTFunction"),
    )
    if not center or not width or width[0] <= 0 or shape == "SIGMOID":
        return None
    return sum(_bounds(path, header)) - center[0] if _white_is_low(header) else center[0], width[0]


def _patient(header: Any) -> str | None:
    identity = str(header.get("PatientID") or "")
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest() if identity else None


def series_in(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files of images by series; structure sets and segmentations are left out.

    Those of several frames are volumes by themselves, and those that cannot be read stand alone, so that their fault is
    reported later.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        try:
            series = _series_of(path)
        except DataError:
            series = ""
        if series is not None:
            found[series or str(path)].append(path)
    return found


@damage_reported
def mask_references(path: Path) -> frozenset[str] | None:
    """The series that a structure set or segmentation names as its images; None of a file that is neither."""
    header = read_dataset(path, pixels=False)
    if header.SOPClassUID not in MASKS:
        return None
    items = list(header.get("ReferencedSeriesSequence") or [])
    for frame in header.get("ReferencedFrameOfReferenceSequence") or []:
        for study in frame.get("RTReferencedStudySequence") or []:
            items += list(study.get("RTReferencedSeriesSequence") or [])
    return frozenset(str(item.get("SeriesInstanceUID") or "") for item in items) - {""}


@damage_reported
def _series_of(path: Path) -> str | None:
    """The series whose slice a file is; empty where it is alone, None where it is a mask."""
    header = read_dataset(path, pixels=False)
    if header.SOPClassUID in MASKS:
        return None
    return "" if int(header.get("NumberOfFrames") or 1) > 1 else str(header.get("SeriesInstanceUID") or "")


def says_annotated(path: Path) -> bool:
    """Whether a file says that text is burnt into its pixels."""
    try:
        return header_text(path, "BurnedInAnnotation").upper() == "YES"
    except DataError:  # what is not text says nothing
        return False


@damage_reported
def header_text(path: Path, key: str) -> str:
    """A value of the header as text; empty where there is none."""
    return str(read_dataset(path, pixels=False).get(key) or "")
