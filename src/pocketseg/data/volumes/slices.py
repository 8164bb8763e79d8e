"""Slices of volumes as images and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketseg.data.mask_colors import ColorRule, refuse_colors
from pocketseg.data.volumes.base import VolumeFile, canonical_image, canonical_labels
from pocketseg.data.volumes.dicom import is_dicom, open_dicom, open_series
from pocketseg.data.volumes.grid import PLANES, Pixels, plane
from pocketseg.data.volumes.nifti import SUFFIXES as NIFTI
from pocketseg.data.volumes.nifti import open_nifti
from pocketseg.data.volumes.segmentation import is_segmentation, open_segmentation
from pocketseg.data.volumes.stack import SUFFIXES as TIFF
from pocketseg.data.volumes.stack import open_stack, page_count
from pocketseg.pipeline.reading import Reading


@dataclass(frozen=True)
class SliceSource:
    """One slice of a volume, across a canonical axis."""

    volume: VolumeFile
    axis: int
    index: int
    reading: Reading

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
        values, scale = canonical_image(self.volume, self.reading)
        flat = plane(values, self.axis, self.index)
        return flat if scale is None else scale(flat)

    def mask(self, *, gray: bool, colors: ColorRule = "look") -> Pixels:
        refuse_colors(colors, self.where)
        return plane(canonical_labels(self.volume), self.axis, self.index)


def is_volume(path: Path) -> bool:
    """Whether a file, or a folder (a DICOM series), is read as a volume."""
    name = path.name.lower()
    if path.is_dir():
        return bool(dicom_files(path))
    return name.endswith(NIFTI) or is_dicom(path) or (name.endswith(TIFF) and page_count(path) > 1)


def dicom_files(folder: Path) -> list[Path]:
    """DICOM files directly in a folder; DICOMDIR, which only points to others, is none of them."""
    files = (path for path in folder.iterdir() if not path.name.startswith(".") and path.name.upper() != "DICOMDIR")
    return sorted(path for path in files if path.is_file() and is_dicom(path))


def open_volume(path: Path, images: VolumeFile | None = None, files: Sequence[Path] = ()) -> VolumeFile:
    """A volume from a file, from a folder that holds one DICOM series, or from the files of one.

    Args:
        path: NIfTI, DICOM or TIFF file, or folder.
        images: what a DICOM segmentation was drawn on.
        files: those of one DICOM series, where its folder holds others beside; `path` is what it is called.

    Raises:
        DataError: no volume, or a damaged one.
    """
    name = path.name.lower()
    if files or path.is_dir():
        return open_series(path, files or dicom_files(path))
    if name.endswith(NIFTI):
        return open_nifti(path)
    if is_dicom(path):
        return open_segmentation(path, images) if is_segmentation(path) else open_dicom(path)
    return open_stack(path)


def slices_of(volume: VolumeFile, reading: Reading, like: VolumeFile | None = None) -> Sequence[SliceSource]:
    """All slices of a volume in the planes that a reading wants, in order; those of a mask follow its image."""
    axis = (like or volume).grid.axis(reading.axis)
    return [SliceSource(volume, axis, index, reading) for index in range(volume.grid.canonical_shape[axis])]
