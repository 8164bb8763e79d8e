"""How slices are taken out of volumes; a model keeps it, so that prediction sees what training saw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from pocketseg.names import check_name
from pocketseg.pipeline.fields import Flag, Number, Positive

Axis = Literal["auto", "axial", "coronal", "sagittal"]
Window = tuple[Number, Positive] | Literal["stored"] | None


@dataclass(frozen=True)
class Reading:
    """From a volume (NIfTI, DICOM, TIFF stack) to its slices.

    Attributes:
        axis: the planes; `auto` takes those with the finest pixels, and the stored slices where all are as fine.
        window: (center, width) that becomes 0 to 1, in the file's units; `stored` takes that of the DICOM file; None:
            a measured volume (NIfTI, DICOM of more than 8 bits) runs from its 0.5th to its 99.5th percentile.
        raw: leave the file's units, because the recipe declares a range for them.
        channel_files: what the names of the files add that hold the channels of one image, such as _0000 and _0001;
            empty where one file holds an image.
    """

    axis: Axis = "auto"
    window: Window = None
    raw: Flag = False
    channel_files: tuple[Annotated[str, AfterValidator(check_name)], ...] = ()
