"""P: splits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corpus import Try, row, setting
from helpers.pictures import good, picture, reference, save

GROUPED = setting("data.group_regex=^[a-z]")


def split_file(folder: Path, **parts: list[str]) -> tuple[str, ...]:
    fold: dict[str, Any] = {"train": [], "validation": [], "test": [], **parts}
    path = folder / "split.json"
    path.write_text(json.dumps({"folds": [fold]}))
    return "--split", str(path)


def names(*numbers: int) -> list[str]:
    return [f"c{number}" for number in numbers]


@row("P01")
def patient_in_two_parts(folder: Path) -> Iterator[Try]:
    data = folder / "data"
    for number, name in enumerate(("a1", "a2", "b1", "b2", "c1", "c2")):
        save(data / f"images/{name}.png", picture(number))
        save(data / f"masks/{name}.png", reference(number))
    torn = split_file(folder, train=["a1", "b1", "b2"], validation=["c1", "c2"], test=["a2"])
    yield Try(data, "error", "split", ("'a'", "test and train"), arguments=(*torn, *GROUPED))


@row("P02")
def same_pixels_in_two_parts(folder: Path) -> Iterator[Try]:
    data = good(folder / "data")
    save(data / "images/c9.png", picture(0), compress_level=0)
    save(data / "masks/c9.png", reference(0))
    torn = split_file(folder, train=names(0, 1, 2, 3), validation=names(4, 5), test=names(6, 7, 9))
    yield Try(data, "error", "split-duplicate", ("c0", "c9", "train and test"), arguments=torn)
    whole = split_file(folder, train=names(0, 9, 1, 2, 3), validation=names(4, 5), test=names(6, 7))
    yield Try(data, "warning", "duplicate", ("c0", "c9"), arguments=whole)


@row("P03")
def nearly_the_same(folder: Path) -> Iterator[Try]:
    smooth = np.asarray(Image.fromarray(picture(0, (6, 8))).resize((160, 128), Image.Resampling.BICUBIC))
    changed = {
        "mirrored": smooth[:, ::-1],
        "turned": smooth[::-1, ::-1],
        "brighter": (smooth * 0.7 + 60).astype(np.uint8),
        "cropped": smooth[2:-2, 2:-2],
    }
    for kind, pixels in changed.items():
        data = good(folder / kind / "data")
        save(data / "images/a.png", smooth)
        save(data / "masks/a.png", reference(0, smooth.shape))
        save(data / "images/b.png", pixels)
        save(data / "masks/b.png", reference(0, pixels.shape))
        yield Try(data, "warning", "near-duplicate", ("a", "b", "groups.csv"))
    data = good(folder / "jpeg/data")
    save(data / "images/a.png", smooth)
    save(data / "images/b.jpg", smooth, quality=40)
    for name in "ab":
        save(data / f"masks/{name}.png", reference(0, smooth.shape))
    torn = split_file(folder, train=[*names(0, 1, 2, 3), "a"], validation=names(4, 5), test=[*names(6, 7), "b"])
    yield Try(data, "warning", "split-leak", ("a", "b"), arguments=torn)


@row("P04")
def faulty_split_files(folder: Path) -> Iterator[Try]:
    data = good(folder / "data")
    parts = {"train": names(0, 1, 2, 3), "validation": names(4, 5), "test": names(6, 7)}
    twice = split_file(folder, **{**parts, "train": names(0, 0, 1)})
    yield Try(data, "error", "split", ("'c0'", "2 times"), arguments=twice)
    yield Try(data, "error", "split", ("'c99'",), arguments=split_file(folder, **{**parts, "test": ["c99"]}))
    yield Try(
        data,
        "error",
        "split",
        ("validation part is empty",),
        arguments=split_file(folder, **{**parts, "validation": []}),
    )
    (folder / "split.json").write_text("{")
    yield Try(data, "error", "split", ("split.json",), arguments=("--split", str(folder / "split.json")))
    yield Try(good(folder / "one", 1), "error", "split", ("1 case",))


@row("P05")
def impossible_shares(folder: Path) -> Iterator[Try]:
    good(folder)
    for value in ("1", "1.5", "-0.1", ".nan", "some"):
        yield Try(folder, "error", "", ("split.test",), arguments=setting(f"split.test={value}"))
    yield Try(folder, "error", "", ("split.validation",), arguments=setting("split.validation=0"))
    yield Try(folder, "works", arguments=setting("split.test=0"))
