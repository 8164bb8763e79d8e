"""Slices of volumes as images and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pocketseg.data.mask_colors import ColorRule, refuse_colors
from pocketseg.data.volumes.base import VolumeFile, canonical_image, canonical_labels
from pocketseg.data.volumes.dicom import MASKS, SEGMENTATION, header_text, is_dicom, open_dicom, open_series
from pocketseg.data.volumes.grid import PLANES, Pixels, plane
from pocketseg.data.volumes.metaimage import SUFFIXES as METAIMAGE
from pocketseg.data.volumes.metaimage import open_metaimage
from pocketseg.data.volumes.nifti import SUFFIXES as NIFTI
from pocketseg.data.volumes.nifti import open_nifti
from pocketseg.data.volumes.nrrd import SUFFIXES as NRRD
from pocketseg.data.volumes.nrrd import open_nrrd
from pocketseg.data.volumes.regions import NamedRegions
from pocketseg.data.volumes.segmentation import open_segmentation
from pocketseg.data.volumes.stack import SUFFIXES as TIFF
from pocketseg.data.volumes.stack import open_stack, page_count
from pocketseg.data.volumes.structures import open_structures
from pocketseg.errors import DataError
from pocketseg.files import by_parts
from pocketseg.pipeline.reading import Reading

# Files that are volumes whatever is in them.
SUFFIXES = (*NIFTI, *NRRD, *METAIMAGE)
# Headers whose voxels may be in a file beside them.
DETACHED = (".nhdr", ".mhd")


@dataclass(frozen=True)
class SliceSource:
    """One slice of a volume, across a canonical axis; `planes` tells a mask to give its channels."""

    volume: VolumeFile
    axis: int
    index: int
    reading: Reading
    planes: bool = False

    @property
    def where(self) -> str:
        return f"{self.volume.path} ({PLANES[self.axis]} slice {self.index})"

    @property
    def path(self) -> Path:
        return self.volume.path

    @property
    def files(self) -> tuple[Path, ...]:
        return self.volume.files

    @property
    def contrasts(self) -> bool:
        return self.volume.contrasts > 0

    def image(self) -> Pixels:
        if isinstance(self.volume, NamedRegions):
            raise DataError(str(self.path), "is a segmentation, not an image", "give it as a mask, with its image")
        values, scale = canonical_image(self.volume, self.reading)
        flat = plane(values, self.axis, self.index)
        return flat if scale is None else scale(flat)

    def mask(self, *, gray: bool, colors: ColorRule = "look") -> Pixels:
        refuse_colors(colors, self.where)
        flat = plane(canonical_labels(self.volume, planes=self.planes), self.axis, self.index)
        return np.moveaxis(flat, -1, 0) if flat.ndim > 2 else flat


def is_volume(path: Path) -> bool:
    """Whether a file, or a folder (a DICOM series), is read as a volume."""
    name = path.name.lower()
    if path.is_dir():
        return bool(dicom_files(path))
    return name.endswith(SUFFIXES) or is_dicom(path) or (name.endswith(TIFF) and page_count(path) > 1)


def dicom_files(folder: Path) -> list[Path]:
    """DICOM files directly in a folder; DICOMDIR, which only points to others, is none of them."""
    files = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name.upper() != "DICOMDIR")
    return by_parts(path for path in files if path.is_file() and is_dicom(path))


def open_volume(path: Path, images: VolumeFile | None = None, files: Sequence[Path] = ()) -> VolumeFile:
    """A volume from a file, from a folder that holds one DICOM series, or from the files of one.

    Args:
        path: NIfTI, NRRD, MetaImage, DICOM or TIFF file, or folder.
        images: what a segmentation or structure set was drawn on.
        files: those of one DICOM series, where its folder holds others beside; `path` is what it is called.

    Raises:
        DataError: no volume, or a damaged one.
    """
    name = path.name.lower()
    if path.is_dir() and not files:
        files = dicom_files(path)
        if len(files) == 1 and _kind(files[0]) in MASKS:
            return open_volume(files[0], images)
    if files or path.is_dir():
        return open_series(path, files)
    if name.endswith(NIFTI):
        return open_nifti(path)
    if name.endswith(NRRD):
        return open_nrrd(path, images)
    if name.endswith(METAIMAGE):
        return open_metaimage(path)
    if not is_dicom(path):
        return open_stack(path)
    kind = _kind(path)
    if kind in MASKS:
        return (open_segmentation if kind == SEGMENTATION else open_structures)(path, images)
    return open_dicom(path)


def detached_files(header: Path) -> tuple[Path, ...]:
    """The files that a header names for its voxels; none of one that cannot be read, which whoever reads it says."""
    try:
        return tuple(file for file in open_volume(header).files if file != header)
    except DataError:
        return ()


def _kind(path: Path) -> str:
    return header_text(path, "SOPClassUID")


def slices_of(volume: VolumeFile, reading: Reading, like: VolumeFile | None = None) -> Sequence[SliceSource]:
    """All slices of a volume in the planes that a reading wants, in order; those of a mask follow its image."""
    axis = (like or volume).grid.axis(reading.axis)
    return [SliceSource(volume, axis, index, reading) for index in range(volume.grid.canonical_shape[axis])]
