"""The page's own readers of DICOM and NIfTI beside the package's: the same slices, equal files of masks, refusals."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from helpers.javascript import in_node
from helpers.volume_files import dicom_image, save_dicom, write_nifti, write_series
from pocketseg.data.volumes import open_volume, slices_of
from pocketseg.data.volumes import write_nifti as write_mask
from pocketseg.flows.web import SOURCES
from pocketseg.pipeline import Pipeline, Reading, TrainedOn

RANDOM = np.random.default_rng(4)
NUMBERS = {"Uint8Array": np.uint8, "Uint16Array": np.uint16, "Int16Array": np.int16, "Float32Array": np.float32}
READ = f"""
const {{ readStack }} = await import("{(SOURCES / "files.js").as_uri()}");
const {{ path, cases }} = JSON.parse(await readFile(given[0], "utf8"));
const found = [];
for (const [index, {{ files, pipeline }}] of cases.entries()) {{
  const blobs = await Promise.all(files.map(async (file) => new File([await readFile(file)], file.split("/").pop())));
  try {{
    const stack = await readStack(blobs, pipeline);
    const slices = [];
    const masks = [];
    for (let at = 0; at < stack.count; ++at) {{
      const {{ data, width, height, channels }} = stack.picture(at);
      await writeFile(`${{path}}/${{index}}-${{at}}.raw`, new Uint8Array(data.buffer));
      slices.push({{ kind: data.constructor.name, shape: [height, width, channels] }});
      masks.push(Uint8Array.from({{ length: width * height }}, (_, i) => (i * 7 + at * 3) % 5));
    }}
    const file = await stack.file(masks, 4);
    if (stack.kind === "nifti") await writeFile(`${{path}}/${{index}}.mask`, file.bytes);
    found.push({{ slices, spacing: stack.spacing, plane: stack.plane, thickness: stack.thickness, kind: stack.kind }});
  }} catch (error) {{
    if (!(error instanceof PocketsegError)) throw error;
    found.push(error.message);
  }}
}}
console.log(JSON.stringify(found));
"""
PIPELINE = Pipeline(size=(32, 32), multiple=8)
READINGS = (
    Reading(), Reading(axis="sagittal"), Reading(axis="coronal", window=(40.0, 400.0)), Reading(axis="axial", raw=True)
)  # fmt: skip


def read_in_javascript(folder: Path, cases: list[tuple[list[Path], Pipeline]]) -> list:
    """What JavaScript reads of files, with its pixels; or what it says of them."""
    given = [{"files": [str(file) for file in files], "pipeline": pipeline.to_dict()} for files, pipeline in cases]
    (folder / "out").mkdir(exist_ok=True)
    (folder / "cases.json").write_text(json.dumps({"path": str(folder / "out"), "cases": given}))
    found = json.loads(in_node(READ, folder / "cases.json"))
    for index, each in enumerate(found):
        for place, one in enumerate(each["slices"] if isinstance(each, dict) else []):
            raw = (folder / "out" / f"{index}-{place}.raw").read_bytes()
            one["pixels"] = np.frombuffer(raw, NUMBERS[one["kind"]]).reshape(one["shape"])
    return found


def assert_alike(found: dict | str, volume, pipeline: Pipeline, name: str) -> None:
    assert isinstance(found, dict), (name, found)
    slices = slices_of(volume, pipeline.reading)
    wanted = volume.grid.plane_spacing(slices[0].axis)
    assert len(slices) == len(found["slices"]), name
    assert found["spacing"] == (None if wanted is None else list(wanted)), name
    for mine, theirs in zip(slices, found["slices"], strict=True):
        image = mine.image()
        pixels = theirs["pixels"] if image.ndim == 3 else theirs["pixels"][:, :, 0]
        assert np.array_equal(image.astype(pixels.dtype), pixels), (name, theirs["kind"], image.dtype)
        assert image.dtype == pixels.dtype or pipeline.intensity_range or pipeline.trained_on, (name, image.dtype)


def nifti_files(folder: Path) -> list[Path]:
    """Every type of voxels, several directions, scales, units, versions; gzip for some."""
    turned = np.array([[0, -0.7, 0, 3], [0.01, 0, -2.1, 5], [-1.3, 0, 0, 1], [0, 0, 0, 1.0]])
    files = []
    for index, dtype in enumerate(("uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64")):
        voxels = (RANDOM.random((9, 8, 7)) * 100).astype(dtype)
        affine = (np.diag([0.5, 0.5, 3, 1]), turned, np.diag([-1, -1, 1.0, 1]), np.diag([2, 1, 1, 1.0]))[index % 4]
        files.append(write_nifti(folder / f"{dtype}.nii{'.gz' if index % 2 else ''}", voxels, affine))
    shapes = {"flat": (12, 11), "line": (6, 5, 4, 1), "colors": (7, 6, 5, 3), "large": (150, 160, 100)}
    for name, shape in shapes.items():
        files.append(write_nifti(folder / f"{name}.nii.gz", (RANDOM.normal(size=shape) * 900).astype(np.int16)))
    made = nibabel.Nifti1Image(RANDOM.integers(-900, 900, (6, 7, 8), np.int16), turned)
    made.header.set_slope_inter(0.37, -12.5)
    made.header.set_xyzt_units("micron")
    made.header["descrip"] = b"Secret^Person"
    nibabel.save(made, folder / "scaled.nii")
    nibabel.save(nibabel.Nifti2Image(RANDOM.normal(size=(5, 6, 7)).astype(np.float32), turned), folder / "two.nii.gz")
    big = nibabel.Nifti1Image(RANDOM.integers(0, 900, (5, 4, 6), np.int16), np.diag([1, 2, 3, 1.0]))
    swapped = big.header.as_byteswapped()
    nibabel.save(nibabel.Nifti1Image(np.asarray(big.dataobj), None, swapped), folder / "big.nii")
    only_quaternion = nibabel.Nifti1Image(RANDOM.integers(0, 90, (5, 4, 6), np.uint8), None)
    turn = np.array([[0, 0, 2, 1], [-1, 0, 0, 2], [0, -3, 0, 3], [0, 0, 0, 1.0]])
    only_quaternion.header.set_qform(turn, 1)
    nibabel.save(only_quaternion, folder / "quaternion.nii.gz")
    return [*files, *(folder / name for name in ("scaled.nii", "two.nii.gz", "big.nii", "quaternion.nii.gz"))]


@pytest.mark.row("N21")
def test_slices_and_masks_of_nifti_are_those_of_the_package(tmp_path):
    files = nifti_files(tmp_path / "in")
    cases = [
        ([file], replace(PIPELINE, reading=reading, channels=3 if file.name == "colors.nii.gz" else 1,
                         intensity_range=(-100.0, 500.0) if reading.raw else None))
        for index, file in enumerate(files)
        for reading in (READINGS[:1] if file.name == "large.nii.gz" else (READINGS[0], READINGS[1 + index % 3]))
    ]  # fmt: skip
    found = read_in_javascript(tmp_path, cases)
    for index, (([file], pipeline), each) in enumerate(zip(cases, found, strict=True)):
        volume = open_volume(file)
        assert_alike(each, volume, pipeline, f"{file.name} {pipeline.reading}")
        masks = [
            ((np.arange(np.prod(one["shape"][:2])) * 7 + place * 3) % 5).astype(np.uint8).reshape(one["shape"][:2])
            for place, one in enumerate(each["slices"])
        ]
        axis = slices_of(volume, pipeline.reading)[0].axis
        out = write_mask(tmp_path / ("mask" + "".join(file.suffixes)), volume.grid.rebuild(masks, axis), volume)
        mine, theirs = out.read_bytes(), (tmp_path / "out" / f"{index}.mask").read_bytes()
        if file.suffix == ".gz":
            mine, theirs = gzip.decompress(mine), gzip.decompress(theirs)
        assert mine == theirs, file.name


def syntaxes(made: pydicom.FileDataset, folder: Path) -> list[Path]:
    """An image in each transfer syntax that is read, and without what stands before a file's first element."""
    files = []
    for name, uid in (
        ("explicit", ExplicitVRLittleEndian), ("implicit", ImplicitVRLittleEndian), ("big", ExplicitVRBigEndian),
        ("deflated", DeflatedExplicitVRLittleEndian), ("rle", RLELossless),
    ):  # fmt: skip
        copied = pydicom.dcmread(save_dicom(made, folder / "plain.dcm"))
        if uid == RLELossless:
            copied.compress(RLELossless)
        elif uid == ExplicitVRBigEndian and copied.BitsAllocated == 16:
            copied.PixelData = np.frombuffer(copied.PixelData, "<u2").byteswap().tobytes()
        copied.file_meta.TransferSyntaxUID = uid
        big = uid == ExplicitVRBigEndian
        pydicom.dcmwrite(
            folder / f"{name}.dcm", copied, implicit_vr=uid == ImplicitVRLittleEndian, little_endian=not big,
            force_encoding=True,
        )  # fmt: skip
        files.append(folder / f"{name}.dcm")
    bare = pydicom.dcmread(folder / "implicit.dcm")
    del bare.file_meta
    bare.save_as(folder / "bare.dcm", implicit_vr=True, little_endian=True)
    return [*files, folder / "bare.dcm"]


def dicom_files(folder: Path) -> list[Path]:
    signed, place = RANDOM.integers(-2000, 3000, (21, 17), np.int16), (1, 2, 3)
    kinds = {
        "signed": (signed, {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}),
        "fraction": (signed, {"RescaleSlope": "0.13", "RescaleIntercept": "-7.5"}),
        "white": (np.abs(signed).astype(np.uint16), {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12}),
        "turned": (signed, {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}),
        "bytes": (RANDOM.integers(0, 256, (20, 17), np.uint8), {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}),
    }  # fmt: skip
    files = []
    for name, (pixels, changes) in kinds.items():
        made = dicom_image(pixels, series=name, number=1, position=place, **changes)
        files += syntaxes(made, folder / name)
    color = RANDOM.integers(0, 256, (12, 10, 3), np.uint8)
    made = dicom_image(
        color, series="color", number=1, position=place, SamplesPerPixel=3, PhotometricInterpretation="RGB",
        PlanarConfiguration=0, BitsAllocated=8, BitsStored=8, HighBit=7,
    )  # fmt: skip
    files += syntaxes(made, folder / "color")
    frames = RANDOM.integers(0, 3000, (5, 9, 8), np.uint16)
    made = dicom_image(
        frames[0], series="frames", number=1, position=place, NumberOfFrames=5, PixelData=frames.tobytes()
    )
    files += syntaxes(made, folder / "frames")
    return files


def test_slices_of_dicom_are_those_of_the_package(tmp_path):
    readings = (Reading(), Reading(window=(40.0, 400.0)), Reading(raw=True))
    cases = [
        ([file], replace(PIPELINE, reading=reading, intensity_range=(-100.0, 500.0) if reading.raw else None))
        for index, file in enumerate(dicom_files(tmp_path / "in"))
        for reading in (readings[index % 3],)
    ]
    stored = replace(PIPELINE, reading=Reading(window="stored"))
    cases.append(([tmp_path / "in/signed/big.dcm"], stored))
    found = read_in_javascript(tmp_path, cases)
    for ([file], pipeline), each in zip(cases, found, strict=True):
        assert_alike(each, open_volume(file), pipeline, f"{file.parent.name}/{file.name}")


def test_a_series_is_one_volume(tmp_path):
    voxels = RANDOM.integers(-900, 900, (6, 9, 8), np.int16)
    plain = write_series(tmp_path / "plain", voxels)
    mixed = write_series(tmp_path / "mixed", voxels, RescaleSlope=1)
    for index, file in enumerate(sorted(mixed.iterdir())):
        made = pydicom.dcmread(file)
        made.RescaleSlope = [1, 2, "0.3"][index % 3]
        made.save_as(file)
    cases = [
        (sorted(folder.iterdir()), replace(PIPELINE, reading=reading))
        for folder in (plain, mixed)
        for reading in READINGS[:3]
    ]
    for (files, pipeline), each in zip(cases, read_in_javascript(tmp_path, cases), strict=True):
        assert_alike(each, open_volume(files[0].parent), pipeline, files[0].parent.name)


def test_what_is_refused_is_named(tmp_path):
    pixels = RANDOM.integers(0, 900, (12, 10), np.uint16)
    made = dicom_image(pixels, series="a", number=1, position=(0, 0, 0))
    whole = save_dicom(made, tmp_path / "whole.dcm").read_bytes()

    def changed(name: str, **changes) -> Path:
        copied = dicom_image(pixels, series="a", number=1, position=(0, 0, 0), **changes)
        return save_dicom(copied, tmp_path / name)

    def written(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    volume = write_nifti(tmp_path / "whole.nii.gz", RANDOM.random((9, 9, 9)).astype(np.float32))
    series = write_nifti(tmp_path / "series.nii", np.zeros((3, 3, 3, 40), np.uint8))
    hole = np.zeros((3, 3, 3), np.float32)
    hole[1, 1, 1] = np.nan
    expected = {
        written("cut.dcm", whole[:-9]): "damaged or cut off",
        written("head.dcm", whole[:200]): "no SOP class|damaged",
        written("empty.dcm", b""): "empty",
        written("text.dcm", b"hello, world, this is a text"): "no SOP class|damaged",
        written("2000.dcm", whole.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.90")[:]): "JPEG 2000|damaged",
        changed("palette.dcm", PhotometricInterpretation="PALETTE COLOR"): "PALETTE COLOR",
        changed("line.dcm", RescaleSlope=0): "rescales its values by 0",
        changed("mask.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4"): "segmentation",
        written("cut.nii.gz", volume.read_bytes()[:-40]): "damaged",
        written("cut.nii", gzip.decompress(volume.read_bytes())[:-40]): "more than it holds",
        written("other.nii.gz", gzip.compress(b"hello")): "no NIfTI",
        series: "series of 40 volumes",
        write_nifti(tmp_path / "nan.nii", hole): "1 voxels are NaN",
        write_nifti(tmp_path / "flat.nii", np.zeros((3, 3, 3), np.uint8), np.diag([1, 1, 1e-12, 1])): "singular|pixdim",
    }  # fmt: skip
    found = read_in_javascript(tmp_path, [([file], PIPELINE) for file in expected])
    for (file, words), said in zip(expected.items(), found, strict=True):
        assert isinstance(said, str) and any(word in said for word in words.split("|")), (file.name, said)


def test_numbers_mean_what_they_meant_in_training(tmp_path):
    """Of types that the engine does not take, without a range."""
    pixels = RANDOM.integers(0, 100, (12, 10), np.uint8)
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "RescaleSlope": 2}
    file = save_dicom(dicom_image(pixels, series="a", number=1, position=(0, 0, 0), **eight), tmp_path / "a.dcm")
    trained = [replace(PIPELINE, trained_on=TrainedOn("uint8", 0.0, 1.0, 0.1, 1.0)), PIPELINE]
    found = read_in_javascript(tmp_path, [([file], pipeline) for pipeline in trained])
    assert_alike(found[0], open_volume(file), trained[0], "a.dcm")
    assert found[0]["slices"][0]["kind"] == "Uint8Array"
    assert "does not say what becomes black and white" in found[1]


def test_whatever_a_file_holds_is_read_or_refused_in_words(tmp_path):
    """Bytes that were changed at random, and files that end anywhere: no other error, and no end of the memory."""
    pixels = RANDOM.integers(0, 900, (12, 10), np.uint16)
    made = dicom_image(pixels, series="a", number=1, position=(0, 0, 0), WindowCenter=40, WindowWidth=400)
    folder = tmp_path / "in"
    files = syntaxes(made, folder)
    files += [write_nifti(folder / "a.nii", pixels), write_nifti(folder / "a.nii.gz", pixels)]
    done = in_node(
        f"""
        const {{ readStack }} = await import("{(SOURCES / "files.js").as_uri()}");
        let seed = 7;
        const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
        const counts = {{ read: 0, refused: 0 }};
        for (const path of given) for (let turn = 0; turn < 150; ++turn) {{
          let bytes = new Uint8Array(await readFile(path));
          if (turn % 3 === 0) bytes = bytes.slice(0, random(bytes.length));
          for (let change = 0; change < turn % 5; ++change) bytes[random(Math.min(bytes.length, 900))] = random(256);
          try {{
            const stack = await readStack([new File([bytes], path.split("/").pop())], {json.dumps(PIPELINE.to_dict())});
            stack.picture(0);
            ++counts.read;
          }} catch (error) {{
            if (!(error instanceof PocketsegError)) throw new Error(`${{path}}, turn ${{turn}}: ${{error.stack}}`);
            ++counts.refused;
          }}
        }}
        console.log(JSON.stringify(counts));
        """,
        *files,
    )
    counts = json.loads(done)
    assert counts["read"] > 100 and counts["refused"] > 300, counts
