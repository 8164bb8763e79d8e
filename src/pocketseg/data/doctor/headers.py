"""What the head of an image file tells, without decoding its pixels."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from pocketseg.data.case import Case, single
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.readers import EXIF_ORIENTATION, EXIF_TURNS, FORMATS, SUFFIXES, SUFFIXES_OF
from pocketseg.data.volumes import Dicom, MetaImage, Nifti, Nrrd, SliceSource, VolumeFile
from pocketseg.data.volumes.dicom import says_annotated
from pocketseg.files import open_regular
from pocketseg.text import counted

# Of EXIF: as it is stored; those that leave rows rows.
UPRIGHT, MIRRORED = 1, (2, 3, 4)
MESSAGES = {
    "wrong-suffix": (
        "file[ is|s are] of another format than [its name says|their names say]",
        "give them the right suffix",
    ),
    "converted-color": ("image[ is|s are] stored in printing colors (CMYK), which are converted", "save them as RGB"),
    "alpha": (
        "image[ is|s are] transparent, or masks have an alpha channel, which is dropped",
        "save them without alpha",
    ),
    "turned": (
        "image[ is|s are] turned or mirrored by what a camera stored beside them (EXIF), and [its mask|their masks] "
        "would fit either way; masks are taken as drawn on the turned image",
        "look at them: pocketseg data preview DATA --out page.html",
    ),
    "no-geometry": (
        "volume[ says|s say] not how [it lies|they lie] (NIfTI: by sform or qform; NRRD: by space; MetaImage: by "
        "TransformMatrix)",
        "repair their headers",
    ),
    "annotated": ("DICOM file[ says|s say] that text is burnt into [its|their] pixels", "mask it, or leave them out"),
}


def header_findings(cases: Sequence[Case]) -> Iterator[Finding]:
    """Findings about files, each kind once."""
    found: dict[str, list[str]] = defaultdict(list)
    seen: set[Path] = set()
    for case in cases:
        if _fits_either_way(case):
            found["turned"].append(case.image.where)
        for source in single((case.image, *case.masks)):
            if source.path in seen:
                continue
            seen.add(source.path)
            if isinstance(source, SliceSource):
                codes = _of_volume(source.volume)
            else:
                codes = _of_picture(source.path, is_image=source is case.image)
            for code in codes:
                found[code].append(str(source.path))
    for code, files in found.items():
        what, fix = MESSAGES[code]
        yield Finding(code, tuple(files), counted(len(files), what), fix)


def _of_picture(path: Path, *, is_image: bool) -> Iterator[str]:
    if path.suffix.lower() not in SUFFIXES:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_regular(path) as file, Image.open(file, formats=FORMATS) as picture:
                if path.suffix.lower() not in SUFFIXES_OF[picture.format or ""]:
                    yield "wrong-suffix"
                if is_image and picture.mode == "CMYK":
                    yield "converted-color"
                if picture.mode in ("RGBA", "LA", "PA") and (not is_image or _see_through(picture)):
                    yield "alpha"
    except Exception:  # a file that cannot be read is found by reading it
        return


def _fits_either_way(case: Case) -> bool:
    """Whether EXIF turns an image and not its masks, and leaves its shape as it was."""
    orientation, square = _orientation(case.image.path)
    keeps_shape = orientation in MIRRORED or (orientation != UPRIGHT and square)
    return keeps_shape and all(_orientation(mask.path)[0] == UPRIGHT for mask in case.masks)


def _orientation(path: Path) -> tuple[int, bool]:
    """As EXIF says it in the head of a picture, and whether the picture is square."""
    if path.suffix.lower() not in SUFFIXES:
        return UPRIGHT, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_regular(path) as file, Image.open(file, formats=FORMATS) as picture:
                # For a PNG without it Pillow would look behind the pixels.
                said = picture.format != "PNG" or "exif" in picture.info
                orientation = picture.getexif().get(EXIF_ORIENTATION, UPRIGHT) if said else UPRIGHT
                return orientation if orientation in EXIF_TURNS else UPRIGHT, picture.width == picture.height
    except Exception:  # a file that cannot be read is found by reading it
        return UPRIGHT, False


def _see_through(picture: Image.Image) -> bool:
    lowest = picture.getchannel("A").getextrema()[0]
    return isinstance(lowest, int | float) and lowest < 255


def _of_volume(volume: VolumeFile) -> Iterator[str]:
    if isinstance(volume, Nifti | Nrrd | MetaImage) and volume.grid.affine is None:
        yield "no-geometry"
    if isinstance(volume, Dicom) and says_annotated(volume.files[0]):
        yield "annotated"
