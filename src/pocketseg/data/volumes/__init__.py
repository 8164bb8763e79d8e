"""Volumes: NIfTI, NRRD, MetaImage, DICOM and TIFF stacks, read as slices and written back on their own grid."""

from pocketseg.data.volumes.base import MAX_CONTRASTS, VolumeFile
from pocketseg.data.volumes.dicom import Dicom, header_text, is_dicom, mask_references, series_in
from pocketseg.data.volumes.grid import Grid, difference
from pocketseg.data.volumes.metaimage import MetaImage, write_metaimage
from pocketseg.data.volumes.nifti import Nifti, write_nifti
from pocketseg.data.volumes.nrrd import Nrrd, write_nrrd
from pocketseg.data.volumes.regions import NamedRegions
from pocketseg.data.volumes.segmentation import write_segmentation
from pocketseg.data.volumes.slices import (
    DETACHED,
    SUFFIXES,
    SliceSource,
    detached_files,
    dicom_files,
    is_volume,
    open_volume,
    slices_of,
)
from pocketseg.data.volumes.stack import Stack, write_stack, writing_stack

__all__ = [
    "DETACHED",
    "MAX_CONTRASTS",
    "SUFFIXES",
    "Dicom",
    "Grid",
    "MetaImage",
    "NamedRegions",
    "Nifti",
    "Nrrd",
    "SliceSource",
    "Stack",
    "VolumeFile",
    "detached_files",
    "dicom_files",
    "difference",
    "header_text",
    "is_dicom",
    "is_volume",
    "mask_references",
    "open_volume",
    "series_in",
    "slices_of",
    "write_metaimage",
    "write_nifti",
    "write_nrrd",
    "write_segmentation",
    "write_stack",
    "writing_stack",
]
