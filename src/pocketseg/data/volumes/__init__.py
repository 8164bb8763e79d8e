"""Volumes: NIfTI, DICOM and TIFF stacks, read as slices and written back on their own grid."""

from pocketseg.data.volumes.base import VolumeFile
from pocketseg.data.volumes.dicom import Dicom, is_dicom, series_in
from pocketseg.data.volumes.grid import Grid, difference
from pocketseg.data.volumes.nifti import Nifti, write_nifti
from pocketseg.data.volumes.segmentation import write_segmentation
from pocketseg.data.volumes.slices import SliceSource, dicom_files, is_volume, open_volume, slices_of
from pocketseg.data.volumes.stack import Stack, write_stack

__all__ = [
    "Dicom",
    "Grid",
    "Nifti",
    "SliceSource",
    "Stack",
    "VolumeFile",
    "dicom_files",
    "difference",
    "is_dicom",
    "is_volume",
    "open_volume",
    "series_in",
    "slices_of",
    "write_nifti",
    "write_segmentation",
    "write_stack",
]
