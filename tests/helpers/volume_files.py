"""Small volumes in every format, made for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
NAME = "Secret^Person"
IDENTITY = "MRN-12345"


def write_nifti(path: Path, voxels: Any, affine: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(voxels), np.eye(4) if affine is None else affine), path)
    return path


def read_nifti(path: Path) -> Any:
    return np.asanyarray(nibabel.load(path).dataobj)


def write_pages(path: Path, pages: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *rest = (Image.fromarray(page) for page in np.asarray(pages))
    first.save(path, save_all=True, append_images=rest)
    return path


def dicom_image(pixels: Any, *, series: str, number: int, position: Any, **changes: Any) -> FileDataset:
    """A CT slice (h, w) of int16, 0.5 mm between rows and 0.75 mm between columns."""
    pixels = np.ascontiguousarray(pixels)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CT
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(number)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = CT, meta.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
    made.StudyInstanceUID = generate_uid(entropy_srcs=[series, "study"])
    made.FrameOfReferenceUID = generate_uid(entropy_srcs=[series, "frame"])
    made.Modality, made.PatientName, made.PatientID = "CT", NAME, IDENTITY
    made.InstanceNumber, made.SeriesNumber = number, 1
    made.ImagePositionPatient = [float(value) for value in position]
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness = [0.5, 0.75], 2.0
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 15
    made.PixelRepresentation = int(pixels.dtype == np.int16)
    made.RescaleSlope, made.RescaleIntercept = 1, 0
    made.PixelData = pixels.tobytes()
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def write_series(folder: Path, slices: Any, *, series: str = "one", step: float = 2.0, **changes: Any) -> Path:
    """Slices (n, h, w) as files whose names are in another order than their places."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(slices):
        made = dicom_image(pixels, series=series, number=index + 1, position=(-10, -20, 5 + step * index), **changes)
        save_dicom(made, folder / f"{(index * 7) % len(slices):03d}-{index}.dcm")
    return folder


def save_dicom(made: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def ball(shape: tuple[int, int, int], center: Any = None, radius: float | None = None) -> Any:
    """bool (i, j, k)."""
    center = np.array(shape) / 2 if center is None else np.asarray(center)
    distance = np.stack([index - middle for index, middle in zip(np.indices(shape), center, strict=True)])
    return np.linalg.norm(distance, axis=0) < (radius or min(shape) / 3)
