"""Accidents with volumes: headers of NIfTI, DICOM and NRRD, pages of TIFF."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from mutations import Mutation, Place, State, operator, same, with_images
from PIL import Image


def nifti_of(place: Place, files: Sequence[Path]) -> tuple[Path, Any] | None:
    path = place.one(files, ".nii.gz")
    return None if path is None else (path, nibabel.load(path))


@operator(6)
def nifti_header(place: Place) -> Mutation | None:
    files = place.pick(place.images(), place.masks())
    found = nifti_of(place, files)
    if found is None:
        return None
    path, image = found
    content = bytearray(gzip.decompress(path.read_bytes()))
    header = nibabel.Nifti1Header(bytes(content[:348]))
    is_mask = path in place.masks()
    how = place.pick(
        "moved", "flipped", "units", "slope", "pixdim", "no place", "dtype", "endian", "intent", "2d", "qform"
    )
    right: Callable[[State], State] | None = None
    if how == "moved":
        header["srow_x"][3] += 5
    elif how == "flipped":
        header["srow_x"] = -header["srow_x"]
    elif how == "units":
        header["xyzt_units"] = place.pick(1, 3, 5)
    elif how == "slope":
        header["scl_slope"], header["scl_inter"] = place.pick(
            (2, 0), (0.5, 3), (1, 0), (float("nan"), float("nan")), (0, 0)
        )
        slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
        if not is_mask:
            right = scaled_channel(path, slope, inter)
        elif not slope > 0 or (slope, inter) == (1, 0):
            right = same
    elif how == "pixdim":
        header["pixdim"][1] = place.pick(0, -1, float("nan"), 8)
    elif how == "no place":
        header["sform_code"] = header["qform_code"] = 0
        right = same
    elif how == "intent":
        header["descrip"], right = b"changed", same
    elif how == "2d":
        header["dim"][3] = 3
    elif how == "qform":
        header["qform_code"], header["quatern_b"], header["quatern_c"], header["quatern_d"] = 1, 0.5, 0.5, 0.5
    else:
        array = np.asarray(image.dataobj)
        kind = place.pick("float64", "int32", "float32", "uint16") if how == "dtype" else array.dtype.newbyteorder(">")
        if kind == "uint16" and not is_mask:
            return None
        if how == "endian":
            made = nibabel.Nifti1Image(array, image.affine, nibabel.Nifti1Header(endianness=">"))
            made.set_data_dtype(array.dtype.newbyteorder("="))
        else:
            made = nibabel.Nifti1Image(array.astype(kind), image.affine)
        nibabel.save(made, path)
        kind = np.dtype(kind).newbyteorder("=")
        return Mutation(f"{path.name} is {kind}, {how}", place.names(path), same)
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(content)))
    return Mutation(f"{how} of {path.name}", place.names(path), right)


def scaled_channel(path: Path, slope: float, inter: float) -> Callable[[State], State]:
    slope, inter = (slope, inter) if slope and np.isfinite(slope) else (1.0, 0.0)

    def right(state: State) -> State:
        out = []
        for case in state:
            image = case.image
            if path in case.files:
                image = image.astype(np.float64)
                channel = case.files.index(path)
                image[..., channel] = image[..., channel] * slope + inter
            out.append(replace(case, image=image))
        return out

    return right


# DICOM.


@operator(8)
def dicom_header(place: Place) -> Mutation | None:
    """One slice of a series differs from the others."""
    path = place.one(place.images()) if place.kind == "dicom" else None
    if path is None:
        return None
    found = pydicom.dcmread(path)
    how = place.pick(
        "spacing", "slope", "position", "same position", "no position", "turned", "white is low", "other series",
        "no slope", "number", "patient", "signed", "bits", "rows", "window", "thickness", "no pixels",
    )  # fmt: skip
    case = next(each for each in place.state if path in each.files)
    shown = [each for each in place.state if set(case.files) == set(each.files)]
    index = round((float(found.ImagePositionPatient[2]) - 5) / 2)
    assert len(shown) == 4
    right: Callable[[State], State] | None = None
    if how == "spacing":
        found.PixelSpacing = [0.5, place.pick(0.7, 7.5, 0.5)]
    elif how == "slope":
        slope, intercept = place.pick((2, -1024), (1, 5), (0.5, 0))
        found.RescaleSlope, found.RescaleIntercept = slope, intercept
        right = scaled_slice(shown[index].name, slope, intercept)
    elif how == "position":
        found.ImagePositionPatient = [-10, -20, place.pick(500.0, 5 + 2 * index + 1.0)]
    elif how == "same position":
        found.ImagePositionPatient = [-10, -20, 5 + 2 * ((index + 1) % 4)]
    elif how == "no position":
        del found.ImagePositionPatient
    elif how == "turned":
        found.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]
    elif how == "white is low":
        found.PhotometricInterpretation = "MONOCHROME1"
    elif how == "other series":
        found.SeriesInstanceUID = pydicom.uid.generate_uid()
    elif how == "no slope":
        del found.RescaleSlope, found.RescaleIntercept
        right = same
    elif how == "number":
        found.InstanceNumber = place.pick(1, 77, None)
        right = same
    elif how == "patient":
        found.PatientID = "somebody else"
        right = same
    elif how == "signed":
        found.PixelRepresentation = 0
        right = unsigned_slice(shown[index].name)
    elif how == "bits":
        found.BitsStored, found.HighBit = 12, 11
        right = same
    elif how == "rows":
        found.Rows, found.Columns = found.Columns, found.Rows
    elif how == "window":
        found.WindowCenter, found.WindowWidth = 40, 400
        right = same
    elif how == "thickness":
        found.SliceThickness = place.pick(5, None)
        right = same
    else:
        del found.PixelData
    found.save_as(path)
    return Mutation(f"{how} of a slice of {path.parent.parent.name}", place.names(path), right)


def scaled_slice(name: str, slope: float, intercept: float) -> Callable[[State], State]:
    return lambda state: [
        replace(case, image=case.image * slope + intercept) if case.name == name else case for case in state
    ]


def unsigned_slice(name: str) -> Callable[[State], State]:
    return lambda state: [
        replace(case, image=np.where(case.image < 0, case.image + 2**16, case.image)) if case.name == name else case
        for case in state
    ]


@operator(3)
def dicom_of_others(place: Place) -> Mutation | None:
    """Files beside a series: a copy of a slice, a DICOMDIR, a second segmentation; files without an ending."""
    path = place.one(place.images()) if place.kind == "dicom" else None
    if path is None:
        return None
    how = place.pick("copy", "DICOMDIR", "second mask", "no mask", "no endings", "series of one")
    patient = path.parent.parent
    right: Callable[[State], State] | None = None
    if how == "copy":
        shutil.copyfile(path, path.with_name("copy.dcm"))
    elif how == "DICOMDIR":
        (path.parent / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(99))
        right = same
    elif how == "second mask":
        shutil.copyfile(patient / "seg.dcm", patient / "seg2.dcm")
    elif how == "no mask":
        (patient / "seg.dcm").unlink()
    elif how == "no endings":
        for file in patient.rglob("*.dcm"):
            file.rename(file.with_suffix(""))
        right = same
    else:
        found = pydicom.dcmread(path)
        found.SeriesInstanceUID, found.SOPInstanceUID = pydicom.uid.generate_uid(), pydicom.uid.generate_uid()
        (patient / "scout").mkdir()
        found.save_as(patient / "scout/1.dcm")
        right = same
    return Mutation(f"{how} in {patient.name}", (patient.name,), right)


# NRRD.


@operator(8)
def nrrd_header(place: Place) -> Mutation | None:
    path = place.one([*place.images(), *place.masks()]) if place.kind == "nrrd" else None
    if path is None:
        return None
    head, body = path.read_bytes().split(b"\n\n", 1)
    lines = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    rest = [line for line in head.decode().splitlines() if ": " not in line]
    how = place.pick(
        "space", "no space", "origin", "directions", "sizes", "type", "endian", "encoding", "comment", "crlf", "extent",
        "label", "segment gone", "old version", "measurement",
    )  # fmt: skip
    is_mask = path in place.masks()
    right: Callable[[State], State] | None = None
    if how == "space":
        lines["space"] = place.pick(
            "right-anterior-superior", "RAS", "left-anterior-superior", "scanner-xyz", "nonsense"
        )
    elif how == "no space":
        del lines["space"]
    elif how == "origin":
        lines["space origin"] = "(0,0,0)"
    elif how == "directions":
        lines["space directions"] = "(0.8,0,0) (0,0.9,0) (0,0,9)"
    elif how == "sizes":
        lines["sizes"] = place.pick("20 16 3", "20 16 5", "20 16", "0 16 4", "20 16 x")
        right = None
    elif how == "type":
        lines["type"] = place.pick("unsigned short", "float", "double", "int8", "block")
        if lines["type"] == "unsigned short" and not is_mask:
            right = unsigned(path)
    elif how == "endian":
        lines["endian"] = "big"
        right = same if is_mask else swapped_bytes(path)
    elif how == "encoding":
        lines["encoding"] = "gzip" if lines["encoding"] == "raw" else "raw"
    elif how == "comment":
        rest.append("# seen by nobody")
        right = same
    elif how == "crlf":
        right = same
    elif how == "old version":
        rest[0] = "NRRD0004"
        right = same
    elif how == "measurement":
        lines["kinds"] = "domain domain domain"
        right = same
    elif not is_mask:
        return None
    elif how == "extent":
        rest.append("Segment0_Extent:=0 3 0 3 0 1")
        right = same
    elif how == "label":
        rest = [line.replace("LabelValue:=1", "LabelValue:=2") for line in rest]
    else:
        rest = [line for line in rest if "Segment" not in line]
        right = same
    text = [rest[0], *(f"{key}: {value}" for key, value in lines.items()), *rest[1:]]
    end = "\r\n" if how == "crlf" else "\n"
    path.write_bytes((end.join(text) + end + end).encode() + body)
    return Mutation(f"{how} of {path.name} {lines}", place.names(path), right)


def unsigned(path: Path) -> Callable[[State], State]:
    return with_images(path, lambda image: np.where(image < 0, image + 2**16, image))


def swapped_bytes(path: Path) -> Callable[[State], State]:
    return with_images(path, lambda image: image.astype(np.int16).byteswap().astype(np.float64))


# TIFF of several pages.


@operator(8)
def pages_changed(place: Place) -> Mutation | None:
    path = place.one([*place.images(), *place.masks()]) if place.kind == "pages" else None
    if path is None:
        return None
    with Image.open(path) as picture:
        pages = []
        for number in range(4):
            picture.seek(number)
            pages.append(np.array(picture))
    is_mask = path in place.masks()
    how = place.pick(
        "page gone", "page more", "order", "size of one", "mode of one", "16 bits", "one page", "packed", "values"
    )
    right: Callable[[State], State] | None = None
    told = False
    if how == "page gone":
        pages = pages[:-1]
    elif how == "page more":
        pages.append(pages[0])
    elif how == "order":
        pages = pages[::-1]
        cases = [case.name for case in place.state if path in (*case.files, *case.masks)]
        right = reordered(cases, is_mask)
    elif how == "size of one":
        pages[1] = pages[1][:-1]
    elif how == "mode of one":
        pages[1] = np.dstack([pages[1]] * 3)
        right = same
    elif how == "16 bits":
        pages = [page.astype(np.uint16) for page in pages]
        right = same if is_mask else with_images(path, lambda image: image.astype(np.uint16))
        told = not is_mask
    elif how == "one page":
        pages = pages[:1]
    elif how == "values":
        if not is_mask:
            return None
        pages = [page // 255 for page in pages]
    else:
        right = same
    first, *rest = map(Image.fromarray, pages)
    packed = {"compression": "tiff_deflate"} if how == "packed" else {}
    first.save(path, save_all=True, append_images=rest, **packed)
    return Mutation(f"{how} of {path.name}", place.names(path), right, told)


def reordered(names: Sequence[str], is_mask: bool) -> Callable[[State], State]:
    def right(state: State) -> State:
        by_name = {case.name: case for case in state}
        turned = dict(zip(names, reversed(names), strict=True))
        return [
            case if case.name not in turned
            else replace(case, mask=by_name[turned[case.name]].mask) if is_mask
            else replace(case, image=by_name[turned[case.name]].image)
            for case in state
        ]  # fmt: skip

    return right
