"""DICOM structure sets (RTSTRUCT) made for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from helpers.volume_files import IDENTITY, NAME, save_dicom

STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"


def contour(points: Any, image: Any = None, kind: str = "CLOSED_PLANAR") -> Dataset:
    """A contour of points (n, 3) in millimeters, LPS; `image` is the data set of the slice that it names."""
    made = Dataset()
    made.ContourGeometricType, made.NumberOfContourPoints = kind, len(points)
    made.ContourData = [f"{value:.6g}" for value in np.ravel(points)]
    if image is not None:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        made.ContourImageSequence = Items([item])
    return made


def structure_set(regions: Mapping[str, Sequence[Dataset]], frame: str) -> FileDataset:
    """A structure set of regions in a frame of reference."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = STRUCTURES, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = STRUCTURES, meta.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID, made.StudyInstanceUID = generate_uid(), generate_uid()
    made.Modality, made.PatientName, made.PatientID = "RTSTRUCT", NAME, IDENTITY
    named, drawn = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        region, item = Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = number, name, frame
        item.ReferencedROINumber, item.ContourSequence = number, Items(contours)
        named.append(region)
        drawn.append(item)
    made.StructureSetROISequence, made.ROIContourSequence = Items(named), Items(drawn)
    return made


def write_structures(path: Path, regions: Mapping[str, Sequence[Dataset]], frame: str) -> Path:
    return save_dicom(structure_set(regions, frame), path)


def headers(folder: Path) -> list[Any]:
    """The slices of a series, by their place."""
    found = [pydicom.dcmread(path) for path in folder.iterdir()]
    normal = np.cross(found[0].ImageOrientationPatient[:3], found[0].ImageOrientationPatient[3:])
    return sorted(found, key=lambda each: float(np.array(each.ImagePositionPatient, float) @ normal))


def slowly_painted(lines: Sequence[Any], image: Any) -> Any:
    """bool (h, w): pixels whose center, in millimeters, lies inside an odd number of lines; one pixel at a time."""
    turn, origin = np.array(image.ImageOrientationPatient, float), np.array(image.ImagePositionPatient, float)
    spacing = [float(value) for value in image.PixelSpacing]
    inside = np.zeros((image.Rows, image.Columns), bool)
    for row in range(image.Rows):
        for column in range(image.Columns):
            center = origin + column * spacing[1] * turn[:3] + row * spacing[0] * turn[3:]
            x, y = center @ turn[:3], center @ turn[3:]
            for line in lines:
                flat = np.asarray(line) @ np.stack([turn[:3], turn[3:]], 1)
                for (x1, y1), (x2, y2) in zip(flat, np.roll(flat, -1, 0), strict=True):
                    if (y1 <= y) != (y2 <= y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
                        inside[row, column] ^= True
    return inside
