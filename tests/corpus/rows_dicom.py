"""X: DICOM. What the files say of a person must never be shown."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000, DeflatedExplicitVRLittleEndian
from rows_images import zeros

from corpus import Try, row, setting
from helpers.pictures import save
from helpers.structure_files import contour, headers, slowly_painted, write_structures
from helpers.volume_files import dicom_image, save_dicom

SHAPE = (16, 20)


def pixels(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 900, SHAPE).astype(np.int16)


def reference(seed: int) -> Any:
    mask = np.zeros(SHAPE, np.uint8)
    mask[3 + seed % 4 : 10, 4:12] = 255
    return mask


def made(seed: int, array: Any = None, **changes: Any) -> Any:
    array = pixels(seed) if array is None else array
    return dicom_image(array, series=f"s{seed}", number=1, position=(0, 0, 0), PatientID=f"MRN-12345-{seed}", **changes)


def images(folder: Path, count: int = 5) -> Path:
    """images/dN.dcm of one slice each, with masks as pictures."""
    for number in range(count):
        save_dicom(made(number), folder / f"images/d{number}.dcm")
        save(folder / f"masks/d{number}.png", reference(number))
    return folder


def with_file(folder: Path, content: Any, name: str = "odd.dcm") -> Path:
    images(folder)
    path = folder / "images" / name
    path.write_bytes(content) if isinstance(content, bytes) else save_dicom(content, path)
    save(folder / "masks/odd.png", reference(9))
    return folder


def series(folder: Path, places: list[float], **changes: Any) -> Path:
    """images/scan with a slice at each place (mm), beside single files."""
    images(folder)
    for number, place in enumerate(places):
        one = dicom_image(pixels(number), series="scan", number=number + 1, position=(0, 0, place), **changes)
        save_dicom(one, folder / f"images/scan/{number}.dcm")
    made_mask = np.stack([reference(number) for number in range(len(places))])
    from helpers.volume_files import write_pages

    write_pages(folder / "masks/scan.tif", made_mask)
    return folder


def read(data: Path, name: str = "odd") -> Any:
    from pocketseg.data import Cases
    from pocketseg.pipeline import Reading

    cases = Cases.open(data, reading=Reading(raw=True))
    return cases.image(cases.named([name])[0])


def holds(expected: Any, name: str = "odd") -> Any:
    return lambda data: np.testing.assert_allclose(read(data, name), expected)


@row("X01")
def white_is_low(folder: Path) -> Iterator[Try]:
    array = pixels(9).astype(np.uint16)
    one = made(9, array, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)
    yield Try(with_file(folder / "one", one), "works", check=holds(4095 - array.astype(int)))
    mixed = series(folder / "mixed", [0, 2, 4])
    path = mixed / "images/scan/1.dcm"
    found = pydicom.dcmread(path)
    found.PhotometricInterpretation = "MONOCHROME1"
    found.save_as(path)
    yield Try(mixed, "error", "volume", ("images/scan", "PhotometricInterpretation"))


@row("X02")
def rescaled(folder: Path) -> Iterator[Try]:
    for slope in (2, -10):
        one = made(9, RescaleSlope=slope, RescaleIntercept=-1024)
        yield Try(with_file(folder / str(slope), one), "works", check=holds(pixels(9) * slope - 1024.0))
    item = Dataset()
    item.RealWorldValueSlope, item.RealWorldValueIntercept = 0.5, 3.0
    one = made(9, RealWorldValueMappingSequence=Sequence([item]))
    del one.RescaleSlope, one.RescaleIntercept
    yield Try(with_file(folder / "real world", one), "works", check=holds(pixels(9) * 0.5 + 3))
    one.RealWorldValueMappingSequence = Sequence([item, Dataset()])
    yield Try(with_file(folder / "two", one), "error", "", ("odd.dcm", "real-world values"))


@row("X03")
def lookup_table(folder: Path) -> Iterator[Try]:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [1000, 0, 16], "US"
    table.LUTData = (2 * np.arange(1000, dtype="<u2")).tobytes()
    one = made(9, pixels(9).astype(np.uint16))
    del one.RescaleSlope, one.RescaleIntercept
    one.ModalityLUTSequence = Sequence([table])
    yield Try(with_file(folder, one), "works", check=holds(pixels(9) * 2.0))


@row("X04")
def several_frames(folder: Path) -> Iterator[Try]:
    stack = np.stack([pixels(1), pixels(2)])
    one = made(9, stack, NumberOfFrames=2, Rows=SHAPE[0], Columns=SHAPE[1])
    del one.ImagePositionPatient
    # One mask for two frames: no frame is chosen in silence.
    yield Try(with_file(folder, one), "error", "", ("odd",))


@row("X05")
def three_frames_are_no_color(folder: Path) -> Iterator[Try]:
    color = np.random.default_rng(1).integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    one = made(
        9,
        color,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
    )
    yield Try(with_file(folder / "color", one), "works", check=holds(color))
    stack = np.stack([pixels(number) for number in range(3)])
    frames = made(9, stack, NumberOfFrames=3, Rows=SHAPE[0], Columns=SHAPE[1])
    yield Try(with_file(folder / "frames", frames), "error", "", ("odd",))


@row("X06")
def palette(folder: Path) -> Iterator[Try]:
    indices = np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8)
    one = made(9, indices, PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8, BitsStored=8, HighBit=7)
    for name in ("Red", "Green", "Blue"):
        setattr(one, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 16])
        setattr(one, f"{name}PaletteColorLookupTableData", np.array([0, 20_000, 40_000, 65_535], "<u2").tobytes())
    yield Try(with_file(folder / "fits", one), "works")
    one.PixelData = (indices + 100).tobytes()
    yield Try(with_file(folder / "beyond", one), "works or error", told=("odd.dcm",))


@row("X07")
def garbage_in_high_bits(folder: Path) -> Iterator[Try]:
    array = pixels(9).astype(np.uint16)
    one = made(9, array | 0xF000, BitsStored=12, HighBit=11)
    yield Try(with_file(folder / "plain", one), "works", check=holds(array))
    signed = np.where(pixels(9) > 450, pixels(9) - 900, pixels(9)).astype(np.int16)
    stored = (signed.astype(np.uint16) & 0x0FFF) | 0x5000
    one = made(9, stored.view(np.int16), BitsStored=12, HighBit=11, PixelRepresentation=1)
    yield Try(with_file(folder / "signed", one), "works", check=holds(signed))


@row("X08")
def impossible_sizes(folder: Path) -> Iterator[Try]:
    for rows, columns in ((0, 20), (65_535, 65_535)):
        one = made(9, Rows=rows, Columns=columns)
        yield Try(with_file(folder / str(rows), one), "error", "volume", ("odd.dcm",))


@row("X09")
def no_image_inside(folder: Path) -> Iterator[Try]:
    one = made(9)
    del one.PixelData, one.Rows, one.Columns
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.22"
    yield Try(with_file(folder, one), "error", "volume", ("odd.dcm", "Enhanced SR"))


@row("X10")
def packed_without_decoder(folder: Path) -> Iterator[Try]:
    one = made(9)
    one.file_meta.TransferSyntaxUID = JPEG2000
    one.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(40)])
    one["PixelData"].is_undefined_length = True
    yield Try(with_file(folder, one), "error", "", ("odd.dcm",))


@row("X11")
def deflated_bomb(folder: Path) -> Iterator[Try]:
    one = made(9)
    one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = save_dicom(one, folder / "small.dcm")
    content = path.read_bytes()
    end = 132 + 12 + struct.unpack("<I", content[140:144])[0]
    packed = zeros(700 * 2**20)[2:-4]
    yield Try(with_file(folder / "data", content[:end] + packed), "error", "volume", ("odd.dcm", "unpacks to more"))
    assert zlib.decompressobj(-15).decompress(packed, 10) == bytes(10)


@row("X12")
def no_preamble(folder: Path) -> Iterator[Try]:
    content = save_dicom(made(9), folder / "whole.dcm").read_bytes()
    yield Try(with_file(folder / "data", content[132:]), "works or error", told=("odd.dcm",))


@row("X13")
def several_series(folder: Path) -> Iterator[Try]:
    data = series(folder, [0, 2, 4])
    save_dicom(dicom_image(pixels(7), series="other", number=1, position=(0, 0, 9)), data / "images/scan/9.dcm")
    yield Try(data, "error", "volume", ("images/scan", "2 series"))


@row("X14")
def uneven_slices(folder: Path) -> Iterator[Try]:
    yield Try(series(folder / "even", [0, 2, 4, 6]), "works")
    missing = series(folder / "missing", [0, 2, 4, 8, 10])
    yield Try(missing, "error", "volume", ("images/scan", "slices 3 and 4", "4 mm"))
    yield Try(series(folder / "twice", [0, 2, 2, 4]), "error", "volume", ("images/scan", "same place"))


@row("X15")
def says_it_is_annotated(folder: Path) -> Iterator[Try]:
    yield Try(with_file(folder, made(9, BurnedInAnnotation="YES")), "warning", "annotated", ("odd.dcm",))


@row("X16")
def unknown_charset(folder: Path) -> Iterator[Try]:
    one = made(9, SpecificCharacterSet="ISO_IR 999")
    yield Try(with_file(folder, one), "works", check=holds(pixels(9)))


@row("X17")
def directory_that_leads_out(folder: Path) -> Iterator[Try]:
    data = series(folder / "data", [0, 2, 4])
    save_dicom(made(3), folder / "secret.dcm")
    record = Dataset()
    record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", ["..", "..", "..", "secret.dcm"]
    index = made(9)
    del index.PixelData
    index.SOPClassUID = index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    index.DirectoryRecordSequence = Sequence([record])
    save_dicom(index, data / "images/scan/DICOMDIR")

    def check(path: Path) -> None:
        from pocketseg.data import Cases

        files = {file for case in Cases.open(path) for file in case.image.files}
        assert all(file.is_relative_to(path) and file.name != "DICOMDIR" for file in files)

    # It is not read at all, so it leads nowhere.
    yield Try(data, "works", check=check)
    save_dicom(index, folder / "alone/images/DICOMDIR")
    save(folder / "alone/masks/DICOMDIR.png", reference(1))
    yield Try(folder / "alone", "error", "", ("DICOMDIR",))


def with_structures(folder: Path, regions: dict[str, list[Any]], frame: str | None = None) -> Path:
    """A series of four slices and its structure set, beside images of other patients."""
    images(folder)
    for number in range(4):
        one = dicom_image(pixels(number), series="scan", number=number + 1, position=(0, 0, 2.0 * number))
        save_dicom(one, folder / f"images/scan/{number}.dcm")
    write_structures(folder / "masks/scan.dcm", regions, frame or one.FrameOfReferenceUID)
    return folder


def ring(height: float, radius: float = 3.0) -> Any:
    """Points of a circle in millimeters."""
    angles = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    return np.stack([5 + radius * np.cos(angles), 4 + radius * np.sin(angles), np.full(30, height)], 1)


@row("X18")
def structures(folder: Path) -> Iterator[Try]:
    drawn = [contour(ring(2.0)), contour(ring(2.0, 1.5)), contour(ring(4.0))]

    def check(data: Path) -> None:
        from pocketseg.data import Cases

        cases, images = Cases.open(data), headers(data / "images/scan")
        for number, lines in enumerate(([], [ring(2.0), ring(2.0, 1.5)], [ring(4.0)], [])):
            expected = slowly_painted(lines, images[number])
            assert expected.any() == bool(lines)
            np.testing.assert_array_equal(cases.mask(cases.named([f"scan#{number:03d}"])[0]), expected)

    yield Try(with_structures(folder / "one", {"GTV": drawn}), "works", check=check)
    several = with_structures(folder / "several", {"GTV": drawn, "BODY": [contour(ring(0.0))]})
    yield Try(several, "error", "mask", ("GTV (in 1 image)", "BODY (in 1 image)", "data.classes=[BODY,GTV]"))
    yield Try(several, "works", arguments=setting("data.classes=[GTV]"))


@row("X19")
def structures_of_other_images(folder: Path) -> Iterator[Try]:
    on_no_slice = with_structures(folder / "a", {"GTV": [contour(ring(2.0)), contour(ring(3.0)), contour(ring(40.0))]})
    yield Try(on_no_slice, "error", told=("masks/scan.dcm", "'GTV'", "2 contours", "no slice", "3.0, 40.0 mm"))
    yield Try(
        with_structures(folder / "b", {"GTV": [contour(ring(2.0))]}, "1.2.3"), "error", told=("frame of reference",)
    )
    other = with_structures(folder / "c", {"GTV": [contour(ring(2.0), made(5))]})
    yield Try(other, "error", told=("masks/scan.dcm", "images that are not in"))
    content = (other / "masks/scan.dcm").read_bytes()
    for step in range(1, 8):
        (other / "masks/scan.dcm").write_bytes(content[: len(content) * step // 8])
        yield Try(other, "error", told=("masks/scan.dcm",))
