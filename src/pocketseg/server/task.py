"""What front and workers say to each other: a task, its limits, and a refusal."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field

# What a mask is written as, and how a client asks for it.
TYPES = {
    "png": "image/png",
    "tiff": "image/tiff",
    "dicom-seg": "application/dicom",
    "nifti": "application/x-nifti",
    "nrrd": "application/x-nrrd",
    "mha": "application/x-metaimage",
    "json": "application/json",
    "zip": "application/zip",
}
# Folders of a request.
BODY, GIVEN, MADE, ANSWER = "body", "given", "made", "answer"
NO_ROOM = "there is no room for the request"


@dataclass(frozen=True)
class Task:
    """What a worker is asked.

    Attributes:
        folder: of the request; the image is its file `body`, and what is made lies below it.
        model: by name.
        to: a key of `TYPES`, or same: what the answer is.
        masks: where that is a zip, what the masks of volumes in it are.
        form: the body's Content-Type, where it is a form.
        part: which part of the form is the image.
        options: further ones of `Wanted`.
    """

    folder: str
    model: str
    to: str = "same"
    masks: str = "same"
    form: str = ""
    part: str = ""
    options: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """Those of `Settings` that a worker holds."""

    max_pixels: int
    max_frames: int
    max_unpacked: int


def is_full(error: BaseException) -> bool:
    """Whether the disk, or what a user or a file may take of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Refused(Exception):  # noqa: N818
    """A request that is answered by its status: what is wrong, and what to do."""

    def __init__(self, status: int, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.status, self.what, self.fix = status, what, fix
