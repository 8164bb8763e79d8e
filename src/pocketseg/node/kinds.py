"""What the node accepts: kinds of images, and codings that can be read here. Others are refused by negotiation."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pocketseg.data.volumes.dicom import DECODERS, quiet

# Names of pydicom for SOP classes whose objects are images.
IMAGES = (
    "ComputedRadiographyImageStorage", "DigitalXRayImageStorageForPresentation", "DigitalXRayImageStorageForProcessing",
    "DigitalMammographyXRayImageStorageForPresentation", "DigitalMammographyXRayImageStorageForProcessing",
    "DigitalIntraOralXRayImageStorageForPresentation", "DigitalIntraOralXRayImageStorageForProcessing",
    "XRayAngiographicImageStorage", "EnhancedXAImageStorage", "XRayRadiofluoroscopicImageStorage",
    "EnhancedXRFImageStorage", "XRay3DAngiographicImageStorage", "XRay3DCraniofacialImageStorage",
    "BreastTomosynthesisImageStorage", "BreastProjectionXRayImageStorageForPresentation",
    "BreastProjectionXRayImageStorageForProcessing",
    "CTImageStorage", "EnhancedCTImageStorage", "LegacyConvertedEnhancedCTImageStorage",
    "MRImageStorage", "EnhancedMRImageStorage", "EnhancedMRColorImageStorage", "LegacyConvertedEnhancedMRImageStorage",
    "PositronEmissionTomographyImageStorage", "EnhancedPETImageStorage", "LegacyConvertedEnhancedPETImageStorage",
    "NuclearMedicineImageStorage", "RTImageStorage",
    "UltrasoundImageStorage", "UltrasoundMultiFrameImageStorage", "EnhancedUSVolumeStorage",
    "SecondaryCaptureImageStorage", "MultiFrameGrayscaleByteSecondaryCaptureImageStorage",
    "MultiFrameGrayscaleWordSecondaryCaptureImageStorage", "MultiFrameTrueColorSecondaryCaptureImageStorage",
    "VLEndoscopicImageStorage", "VLMicroscopicImageStorage", "VLPhotographicImageStorage",
    "DermoscopicPhotographyImageStorage",
    "OphthalmicPhotography8BitImageStorage", "OphthalmicPhotography16BitImageStorage",
    "WideFieldOphthalmicPhotographyStereographicProjectionImageStorage", "OphthalmicTomographyImageStorage",
    "IntravascularOpticalCoherenceTomographyImageStorageForPresentation",
    "IntravascularOpticalCoherenceTomographyImageStorageForProcessing",
)  # fmt: skip
# Codings without compression of pixels.
PLAIN = ("ExplicitVRLittleEndian", "ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian", "ExplicitVRBigEndian")
# What Pillow reads of this coding are images of 8 bits, and most have 12.
JPEG_OF_12_BITS, NOT_ALL = "1.2.840.10008.1.2.4.51", ("pillow",)


def storage_classes() -> list[str]:
    """UIDs of the kinds of images."""
    with quiet() as pydicom:
        return [str(getattr(pydicom.uid, name)) for name in IMAGES]


def transfer_syntaxes() -> list[str]:
    """UIDs of the codings that can be decoded with what is installed here.

    Example:
        >>> "1.2.840.10008.1.2.1" in transfer_syntaxes()
        True
    """
    with quiet() as pydicom:
        decoder_of: Any = import_module("pydicom.pixels").get_decoder
        found = [str(getattr(pydicom.uid, name)) for name in PLAIN]
        for uid in DECODERS:
            able = decoder_of(uid).available_plugins
            found += [uid] * bool(set(able) - set(NOT_ALL if uid == JPEG_OF_12_BITS else ()))
        return found
