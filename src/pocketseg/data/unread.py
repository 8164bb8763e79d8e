"""Formats that people have images in and that are not read: what each is called, and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketseg.errors import DataError

NO_ENDING = "give files without an ending theirs, such as .png"
USUAL = "convert them to PNG, TIFF or NIfTI, or move them away"


@dataclass(frozen=True)
class Unread:
    """A kind of file.

    Attributes:
        what: its name.
        endings: of its files' names.
        fix: the way out.
        marks: bytes that its files hold, by the place where they begin.
    """

    what: str
    endings: tuple[str, ...]
    fix: str
    marks: tuple[tuple[int, bytes], ...] = ()


KINDS = (
    Unread(
        "a whole-slide image",
        (".svs", ".ndpi", ".ndpis", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".isyntax", ".svslide"),
        "export the regions that matter as PNG or TIFF (QuPath: File > Export images; Python: openslide's read_region)",
    ),
    Unread(
        "a file of a microscope's maker",
        (".czi", ".nd2", ".lif", ".lsm", ".oib", ".oif", ".oir", ".vsi", ".ims", ".stk", ".dv", ".zvi", ".flex"),
        "export it as OME-TIFF (Fiji: File > Save As > OME-TIFF; or bfconvert IN OUT.ome.tif)",
        ((0, b"ZISRAWFILE"), (0, b"\xda\xce\xbe\x0a")),
    ),
    Unread(
        "an image of a phone",
        (".heic", ".heif", ".hif", ".avif", ".jxl"),
        "save it as PNG or JPEG (iPhone: Settings > Camera > Formats > Most Compatible)",
        tuple((4, b"ftyp" + brand) for brand in (b"heic", b"heix", b"mif1", b"msf1", b"avif")),
    ),
    Unread(
        "a raw image of a camera",
        (".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"),
        "develop it to PNG or TIFF, all images with the same settings",
    ),
    Unread(
        "a volume in a format of its own",
        (".mgz", ".mgh", ".mnc", ".img", ".hdr", ".par", ".rec", ".gipl", ".vtk", ".vti", ".vtp", ".bvol", ".mif"),
        "convert it to NIfTI (mri_convert for FreeSurfer, dcm2niix for PAR/REC, 3D Slicer for others)",
    ),
    Unread(
        "a video",
        (".mp4", ".avi", ".mov", ".mkv", ".wmv", ".webm", ".mpg", ".mpeg", ".m4v"),
        "export its frames as PNG: ffmpeg -i FILE frames/%05d.png (predict reads it whole)",
        tuple((4, b"ftyp" + brand) for brand in (b"isom", b"mp42", b"qt  ", b"avc1")),
    ),
    Unread(
        "a file of arrays",
        (".h5", ".hdf5", ".he5", ".hdf", ".mat", ".zarr", ".tfrecord", ".tfrecords"),
        "save them as NPZ: numpy.savez('data.npz', images=images, masks=masks)",
        ((0, b"\x89HDF\r\n\x1a\n"), (0, b"MATLAB 5.0")),
    ),
    Unread("an archive", (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar"), "unpack it", ((0, b"PK\x03\x04"),)),
    Unread(
        "a drawing",
        (".psd", ".xcf", ".svg", ".eps", ".ai", ".pdf"),
        "export it as PNG, at the size of the image",
        ((0, b"8BPS"), (0, b"%PDF"), (0, b"%!PS")),
    ),
)


def kind_of(path: Path, content: bytes = b"") -> Unread | None:
    """The kind of a file by its name, or by what it begins with; None where it is none of these."""
    name = path.name.lower()
    for kind in KINDS:
        if name.endswith(kind.endings) or any(content.startswith(mark, at) for at, mark in kind.marks):
            return kind
    return None


def refuse(path: Path) -> None:
    """Raises: DataError: a file's name says that it is of such a kind, whatever a reader would make of it."""
    kind = kind_of(path)
    if kind is not None:
        raise DataError(str(path), f"is {kind.what}, which is not read", kind.fix)


def ways_out(files: Sequence[Path]) -> str:
    """What to do about files of several kinds."""
    named = [file for file in files if file.suffix]
    first = {kind_of(file): file.suffix.lower() for file in reversed(named)}
    fixes = [f"{ending}: {kind.fix}" for kind, ending in reversed(first.items()) if kind is not None]
    fixes += [NO_ENDING] if len(named) < len(files) else []
    return "; ".join([*fixes, *([USUAL] if None in first or not fixes else [])])
