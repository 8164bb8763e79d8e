"""What the bytes of a request are, and how large, before a pixel is decoded. It runs in a worker."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from pocketseg import archives
from pocketseg.data.readers import SIGNATURES, TIFF_SIGNATURES, WEBP, size_in_header
from pocketseg.data.volumes import open_volume
from pocketseg.files import inside
from pocketseg.flows.predict import Job
from pocketseg.names import name_fault
from pocketseg.pipeline import Reading
from pocketseg.server.task import Refused, is_full

START_BYTES = 400
NIFTI_SIZES = (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c")
NIFTI_MARKS = {344: b"n+1\0", 4: b"n+2\0"}
ZIP = ".zip"
LITTER = ("__MACOSX",)


def suffix_of(start: bytes) -> str | None:
    """What a file is, by its first bytes: the suffix that it gets here; None for what is not read.

    Example:
        >>> suffix_of(b"\\x89PNG\\r\\n\\x1a\\n"), suffix_of(b"PK\\3\\4"), suffix_of(b"%PDF-1.7")
        ('.png', '.zip', None)
    """
    if start[128:132] == b"DICM":
        return ".dcm"
    if start.startswith(TIFF_SIGNATURES):
        return ".tif"
    if start.startswith(SIGNATURES) or WEBP.match(start):
        return ".png"  # the content tells which picture it is
    if start.startswith(b"PK\3\4"):
        return ZIP
    if start.startswith(b"NRRD000"):
        return ".nrrd"
    if start.startswith((b"ObjectType", b"NDims")):
        return ".mha"
    if _is_nifti(start):
        return ".nii"
    if start.startswith(b"\x1f\x8b"):
        try:
            return ".nii.gz" if _is_nifti(zlib.decompressobj(31).decompress(start, START_BYTES)) else None
        except zlib.error:
            return None
    return None


def _is_nifti(start: bytes) -> bool:
    return start[:4] in NIFTI_SIZES and any(start[at : at + 4] == mark for at, mark in NIFTI_MARKS.items())


def unpack(archive: Path, folder: Path, max_bytes: int, max_files: int) -> None:
    """The files of a zip, into a folder, under the names that they have in it.

    Raises:
        Refused: too many files or bytes, a name that cannot be, or a damaged archive.
        OSError: the disk is full.
    """
    try:
        with archives.opened(archive) as opened:
            entries = [each for each in opened.infolist() if not each.is_dir() and not _is_litter(each)]
            if len(entries) > max_files:
                raise Refused(413, f"the zip holds {len(entries):,} files, more than {max_files:,}", "send parts of it")
            left = max_bytes
            for entry in entries:
                most = min(left, archives.max_unpacked(opened, entry))
                if entry.file_size > most:
                    raise Refused(413, f"the zip unpacks to more than {max_bytes:,} bytes", "send parts of it")
                content = archives.read_member(opened, entry, most)
                left -= len(content)
                _put(folder, entry.filename, content)
    except (OSError, ValueError) as error:
        if is_full(error):
            raise
        raise Refused(422, f"the zip cannot be unpacked ({error})", "pack it again") from None


def _is_litter(entry: zipfile.ZipInfo) -> bool:
    parts = entry.filename.split("/")
    return parts[0] in LITTER or any(part.startswith(".") and part.strip(".") for part in parts)


def _put(folder: Path, name: str, content: bytes) -> None:
    parts = name.split("/")
    fault = next((found for part in parts if (found := name_fault(part))), "")
    if fault:
        raise Refused(422, f"a name in the zip {fault}", "rename the file")
    path = inside(folder, *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content)


def check_sizes(jobs: Sequence[Job], reading: Reading, max_pixels: int, max_frames: int) -> int:
    """How many frames there are, by their headers.

    Raises:
        Refused: more than may be, or larger.
    """
    frames = 0
    for job in jobs:
        count, pixels = _size(job, reading)
        frames += count
        if pixels > max_pixels:
            what = f"an image has {pixels:,} pixels, more than {max_pixels:,}"
            raise Refused(413, what, "cut it into parts, or start the service with a larger --max-megapixels")
        if frames > max_frames:
            what = f"there are more than {max_frames:,} slices or images"
            raise Refused(413, what, "send parts of it, or start the service with a larger --max-frames")
    return frames


def _size(job: Job, reading: Reading) -> tuple[int, int]:
    """(frames, pixels of each); of a picture whose header cannot be read (1, 0): its decoder says what is wrong."""
    sources = job.channels or (job.source,)
    if not job.volume:
        return 1, max(map(_pixels, sources))
    grid = open_volume(sources[0], files=job.slices).grid
    frames = grid.canonical_shape[grid.axis(reading.axis)]
    voxels = grid.shape[0] * grid.shape[1] * grid.shape[2]
    return frames, voxels // max(frames, 1)


def _pixels(path: Path) -> int:
    try:
        height, width = size_in_header(path)
    except Exception:  # Pillow's headers raise many kinds of errors
        return 0
    return height * width
