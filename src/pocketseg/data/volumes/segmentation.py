"""DICOM segmentations (SEG): masks that name the images they were drawn on."""

from __future__ import annotations

import hashlib
import io
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.data.volumes.base import VolumeFile
from pocketseg.data.volumes.dicom import Dicom, damage_reported, quiet, read_dataset
from pocketseg.data.volumes.grid import Pixels
from pocketseg.data.volumes.regions import NamedRegions
from pocketseg.errors import DataError, missing_package
from pocketseg.files import write_atomically
from pocketseg.version import VERSION

# What a segmentation repeats of the patient and the visit; all may be empty (type 2 of the standard).
PERSONAL = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName",
    "StudyID", "StudyDate", "StudyTime",
)  # fmt: skip
OPTIONAL_PERSONAL = (
    "PatientAge", "PatientSize", "PatientWeight", "OtherPatientIDs", "EthnicGroup", "PatientComments",
    "StudyDescription", "InstitutionName", "IssuerOfPatientID", "AdmittingDiagnosesDescription",
    "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "Occupation", "AdditionalPatientHistory",
)  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Segmentation(NamedRegions):
    """A SEG file on the grid of its images.

    Attributes:
        numbers: of the segments of each name.
        uids: the SOP instances of the images, in the order of the slices.
        frames: the order of the frames of a single file of images, None for a series.
    """

    numbered = True

    numbers: Mapping[str, tuple[int, ...]]
    uids: tuple[str, ...]
    frames: tuple[int, ...] | None

    def inside(self, names: Sequence[str]) -> Iterator[NDArray[np.bool_]]:
        for name in names:
            layers = self._read(segment_numbers=list(self.numbers[name]))
            yield np.asarray(layers.any(axis=-1), bool).swapaxes(0, 2)

    def as_stored(self) -> Pixels:
        """Segment numbers."""
        labels = self._read(combine_segments=True)
        return labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16).swapaxes(0, 2)

    def _read(self, **options: Any) -> Pixels:
        """(n, h, w) of numbers, or (n, h, w, segments)."""
        try:
            found = _highdicom().seg.Segmentation.from_dataset(read_dataset(self.path, pixels=True))
            options["assert_missing_frames_are_empty"] = True
            if self.frames is None:
                return np.asarray(found.get_pixels_by_source_instance(list(self.uids), **options))
            numbers = [frame + 1 for frame in self.frames]
            return np.asarray(found.get_pixels_by_source_frame(self.uids[0], numbers, **options))
        except Exception as error:
            what = f"cannot be laid over its images ({type(error).__name__})"
            fix = "give the images it was drawn on; segments whose numbers are the classes must not overlap"
            raise memory.explained(error, DataError(str(self.path), what, fix)) from None


def _highdicom() -> Any:
    try:
        import highdicom
    except Exception as error:
        raise missing_package("highdicom", "medical", error) from error
    logging.getLogger("highdicom").disabled = True
    return highdicom


@damage_reported
def open_segmentation(path: Path, images: VolumeFile | None) -> Segmentation:
    """A segmentation on the grid of the images it names."""
    if not isinstance(images, Dicom):
        raise DataError(
            str(path), "is a DICOM segmentation, whose images are not here", "give the DICOM images with it"
        )
    numbers: dict[str, tuple[int, ...]] = {}
    for item in read_dataset(path, pixels=False).get("SegmentSequence") or []:
        name = str(item.get("SegmentLabel") or f"segment {item.SegmentNumber}").strip()
        numbers[name] = (*numbers.get(name, ()), int(item.SegmentNumber))
    if not numbers:
        raise DataError(str(path), "holds no segments", "export it again from its source")
    return Segmentation(
        path, (path,), images.grid, names=tuple(numbers), numbers=numbers, uids=images.uids, frames=images.frames
    )


@quiet()
def write_segmentation(
    path: Path,
    voxels: Pixels,
    like: VolumeFile,
    classes: Sequence[str],
    *,
    keep_identity: bool = False,
    uid_seed: str = "",
) -> Path:
    """Write a mask in stored order as a SEG that refers to the images.

    Args:
        path: of the new file.
        voxels: uint8, class indices (i, j, k), 0 is background; or 0 and 1 of classes that may overlap, (i, j, k, c).
        like: the DICOM series or file that was segmented.
        classes: names of the foreground classes.
        keep_identity: copy name, identity and visit of the patient from the images, which an archive needs; without
            it they are left empty.
        uid_seed: of its UIDs, which then follow from it and the images; without one they are random.

    Raises:
        DataError: the images are not DICOM, or of a kind that segmentations cannot refer to.
    """
    if not isinstance(like, Dicom):
        raise DataError(
            str(like.path), "is not DICOM, so a segmentation cannot refer to it", "write nifti or png instead"
        )
    highdicom = _highdicom()
    from pydicom.sr.codedict import codes

    def uid(of: str) -> Any:
        return _derived_uid(of, uid_seed, *sorted(like.uids)) if uid_seed else highdicom.UID()

    kind = codes.SCT.MorphologicallyAbnormalStructure
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name[:64],
            segmented_property_category=kind,
            segmented_property_type=kind,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=highdicom.AlgorithmIdentificationSequence(
                name="pocketseg", version=VERSION, family=codes.DCM.ArtificialIntelligence
            ),
        )
        for number, name in enumerate(classes, start=1)
    ]
    frames = np.ascontiguousarray(voxels.swapaxes(0, 2)).astype(np.uint8)
    if like.frames is not None:  # a file of frames is segmented in its own order
        frames = frames[np.argsort(like.frames)]
    sources = [_source(file, keep_identity) for file in like.files]
    try:
        made = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=frames,
            segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=uid("series"),
            series_number=900,
            sop_instance_uid=uid("instance"),
            instance_number=1,
            manufacturer="pocketseg",
            manufacturer_model_name="pocketseg",
            software_versions=VERSION,
            device_serial_number="0",
            omit_empty_frames=bool(frames.any()),
            content_label="SEGMENTATION",
        )
    except Exception as error:  # highdicom checks what the standard wants of the images
        what = f"images of this kind cannot be segmented in DICOM ({type(error).__name__})"
        raise memory.explained(error, DataError(str(like.path), what, "write nifti or png instead")) from None
    if "FrameOfReferenceUID" not in made:  # then nothing else tells how it lies in the patient; it may be empty
        made.PatientOrientation = sources[0].get("PatientOrientation") or ""
    content = io.BytesIO()
    made.save_as(content)
    write_atomically(path, content.getvalue())
    return path


def _derived_uid(*parts: str) -> str:
    """The UID that follows from some texts, of the kind that stands for a UUID."""
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def _source(file: Path, keep_identity: bool) -> Any:
    """The header of an image, with what a segmentation would copy of the patient left empty."""
    header = read_dataset(file, pixels=False)
    for key in PERSONAL:
        if not keep_identity or key not in header:
            setattr(header, key, "")
    for key in OPTIONAL_PERSONAL:
        if not keep_identity and key in header:
            delattr(header, key)
    groups = [*header.get("SharedFunctionalGroupsSequence", []), *header.get("PerFrameFunctionalGroupsSequence", [])]
    for measures in (item for group in groups for item in group.get("PixelMeasuresSequence", [])):
        # Which images may leave out and segmentations may not.
        if "SliceThickness" not in measures:
            measures.SliceThickness = measures.get("SpacingBetweenSlices", 1)
    return header
