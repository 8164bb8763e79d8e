"""Twelve small data sets of different layouts and formats, nothing wrong with any of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.headed_files import segments, write_nrrd
from helpers.pictures import picture, reference, save
from helpers.volume_files import write_nifti, write_pages, write_series
from pocketseg.data import MaskCoding
from pocketseg.data.volumes import open_volume, write_segmentation
from pocketseg.pipeline import Reading

SHAPE = (24, 32)
AFFINE = np.array([[-0.8, 0, 0, 10], [0, -0.9, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
# Of volumes: columns, rows, slices.
GRID = (20, 16, 4)
RAW = {"reading": Reading(raw=True)}
PALETTE = [0, 0, 0, 200, 30, 30, 30, 200, 30]


@dataclass(frozen=True)
class ValidSet:
    """How a data set is made in a folder, and opened.

    Attributes:
        make: returns what is given to `Cases.open`.
        options: for it.
        kind: of the image files: picture, nifti, dicom, pages, npz or nrrd.
    """

    make: Callable[[Path], Path]
    kind: str
    options: dict[str, Any] = field(default_factory=dict)


def color(seed: int) -> Any:
    return picture(seed, (*SHAPE, 3))


def gray(seed: int) -> Any:
    return picture(seed, SHAPE)


def mask(seed: int) -> Any:
    return reference(seed, SHAPE)


def voxels(seed: int) -> Any:
    """int16 (i, j, k)."""
    return np.random.default_rng(seed).integers(-300, 900, GRID).astype(np.int16)


def labels(seed: int) -> Any:
    """uint8 (i, j, k): a block in all but the last slice."""
    made = np.zeros(GRID, np.uint8)
    made[3 + seed % 4 : 12, 4:11, : GRID[2] - 1] = 1
    return made


def table(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def two_folders(folder: Path) -> Path:
    """Gray PNG, and a table of patients."""
    for number in range(8):
        save(folder / f"images/scan{number}.png", gray(number))
        save(folder / f"masks/scan{number}.png", mask(number))
    table(folder / "groups.csv", [["case", "group"], *([f"scan{n}", f"p{n // 2}"] for n in range(8))])
    return folder


def suffixes(folder: Path) -> Path:
    """Color JPEG beside masks of 0 and 1; one name is not ASCII."""
    for number, name in enumerate(("Zähne", "leber", "niere", "milz", "lunge", "herz")):
        save(folder / f"{name}.jpg", color(number), quality=95)
        save(folder / f"{name}_mask.png", mask(number) // 255)
    return folder


def class_folders(folder: Path) -> Path:
    """As BUSI: a folder for each class, one image with two masks."""
    for label in ("benign", "malignant"):
        for number in range(1, 5):
            save(folder / f"{label}/{label} ({number}).png", color(number + 10 * len(label)))
            save(folder / f"{label}/{label} ({number})_mask.png", mask(number) > 0)
    second = np.zeros(SHAPE, np.uint8)
    second[20:22, 25:30] = 255
    save(folder / "benign/benign (1)_mask_1.png", second > 0)
    return folder


def given_parts(folder: Path) -> Path:
    """train, val and test, as TIFF."""
    for part, first, last in (("train", 0, 5), ("val", 5, 7), ("test", 7, 9)):
        for number in range(first, last):
            save(folder / f"{part}/images/t{number}.tif", gray(number))
            save(folder / f"{part}/masks/t{number}.tif", mask(number))
    return folder


def paths_table(folder: Path) -> Path:
    """A table of paths, gray of 16 bits."""
    rows = [["image", "mask", "group", "split"]]
    for number in range(8):
        save(folder / f"raw/{number:03d}.png", gray(number).astype(np.uint16) * 250)
        save(folder / f"drawn/m{number:03d}.bmp", mask(number))
        rows.append(
            [f"raw/{number:03d}.png", f"drawn/m{number:03d}.bmp", f"g{number // 2}", "val" if number > 5 else "train"]
        )
    table(folder / "cases.csv", rows)
    return folder


def coco(folder: Path) -> Path:
    """Polygons in one file."""
    images, notes = [], []
    for number in range(6):
        save(folder / f"images/c{number}.png", gray(number))
        x, y = 4 + number, 3 + number
        square = [x, y, x + 10, y, x + 10, y + 8, x, y + 8]
        images.append({"id": number, "file_name": f"c{number}.png", "height": SHAPE[0], "width": SHAPE[1]})
        notes.append({"id": number, "image_id": number, "category_id": 1, "segmentation": [square]})
    content = {"images": images, "categories": [{"id": 1, "name": "lesion"}], "annotations": notes}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def channels_of_volumes(folder: Path) -> Path:
    """As nnU-Net has it: two NIfTI files an image."""
    for number in range(3):
        for channel in range(2):
            write_nifti(folder / f"imagesTr/v{number}_{channel:04d}.nii.gz", voxels(number + 10 * channel), AFFINE)
        write_nifti(folder / f"labelsTr/v{number}.nii.gz", labels(number), AFFINE)
    names = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "lesion": 1},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(names | {"numTraining": 3}))
    return folder


def series(folder: Path) -> Path:
    """Patients with a DICOM series and a segmentation each."""
    for number in range(2):
        patient = folder / f"P{number}"
        images = open_volume(
            write_series(patient / "ct", voxels(number).T, series=f"P{number}", PatientID=f"id{number}")
        )
        write_segmentation(patient / "seg.dcm", labels(number), images, ["lesion"])
    return folder


def stacks(folder: Path) -> Path:
    """TIFF files of several pages."""
    for number in range(3):
        pages = range(4 * number, 4 * number + 4)
        write_pages(folder / f"images/stack{number}.tif", np.stack([gray(page) for page in pages]))
        write_pages(folder / f"masks/stack{number}.tif", np.stack([mask(page) for page in pages]))
    return folder


def arrays(folder: Path) -> Path:
    """One NPZ file with names and groups."""
    made = {
        "images": np.stack([gray(number) for number in range(8)]),
        "masks": np.stack([mask(number) for number in range(8)]) // 255,
        "names": np.array([f"n{number}" for number in range(8)]),
        "groups": np.array([f"g{number // 2}" for number in range(8)]),
    }
    np.savez(folder / "data.npz", **made)
    return folder / "data.npz"


def segments_of_slicer(folder: Path) -> Path:
    """NRRD volumes and `.seg.nrrd` of 3D Slicer."""
    for number in range(3):
        write_nrrd(folder / f"images/n{number}.nrrd", voxels(number), AFFINE, encoding="raw")
        write_nrrd(folder / f"masks/n{number}.seg.nrrd", labels(number), AFFINE, texts=segments(("lesion", 1, 0)))
    return folder


def palettes(folder: Path) -> Path:
    """Masks of two classes as indices of a palette."""
    for number in range(6):
        save(folder / f"images/p{number}.png", gray(number))
        indices = mask(number) // 255
        indices[20:23, 26:31] = 2
        drawn = Image.fromarray(indices)
        drawn.putpalette(PALETTE)
        save(folder / f"masks/p{number}.png", drawn)
    return folder


SETS = {
    "two-folders": ValidSet(two_folders, "picture"),
    "suffixes": ValidSet(suffixes, "picture"),
    "class-folders": ValidSet(class_folders, "picture"),
    "parts": ValidSet(given_parts, "picture"),
    "paths-table": ValidSet(paths_table, "picture"),
    "coco": ValidSet(coco, "picture"),
    "nifti-channels": ValidSet(channels_of_volumes, "nifti", RAW),
    "dicom-series": ValidSet(series, "dicom", RAW),
    "tiff-stacks": ValidSet(stacks, "pages"),
    "npz": ValidSet(arrays, "npz"),
    "nrrd-segments": ValidSet(segments_of_slicer, "nrrd", RAW),
    "palettes": ValidSet(palettes, "picture", {"coding": MaskCoding(classes=2, values=(1, 2))}),
}
