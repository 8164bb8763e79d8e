"""J: annotations in files of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from corpus import Try, reads, row, setting
from helpers.pictures import picture, save

SHAPE = (32, 40)
SQUARE = [10, 8, 20, 8, 20, 16, 10, 16]  # x, y
AREA = np.zeros(SHAPE, bool)
AREA[8:16, 10:20] = True


def coco(folder: Path, **changes: Any) -> Path:
    """Eight images, a square on each."""
    for number in range(8):
        save(folder / f"images/c{number}.png", picture(number))
    content = {
        "images": [{"id": n, "file_name": f"c{n}.png", "height": SHAPE[0], "width": SHAPE[1]} for n in range(8)],
        "categories": [{"id": 1, "name": "lesion"}, {"id": 2, "name": "cyst"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "segmentation": [SQUARE]} for n in range(8)],
    } | changes
    (folder / "coco.json").write_text(json.dumps(content))
    return folder


def notes(segmentation: Any, category: int = 1, more: int = 1) -> list[dict[str, Any]]:
    """A square on each image, and one shape more on the first ones."""
    first = [{"id": n, "image_id": n, "category_id": 1, "segmentation": [SQUARE]} for n in range(8)]
    given = {"category_id": category, "segmentation": segmentation}
    return first + [{"id": 100 + n, "image_id": n} | given for n in range(more)]


def table(folder: Path, *lines: str) -> Path:
    for number in range(8):
        save(folder / f"images/c{number}.png", picture(number))
    (folder / "train.csv").write_text("\n".join(["ImageId,EncodedPixels", *lines, *(f"c{n}.png," for n in range(8))]))
    return folder


def cvat(folder: Path, before: str, body: str = "") -> Path:
    save(folder / "images/c0.png", picture(0))
    image = f'<image id="0" name="c0.png" width="{SHAPE[1]}" height="{SHAPE[0]}">{body}</image>'
    (folder / "annotations.xml").write_text(f'<?xml version="1.0"?>{before}<annotations>{image}</annotations>')
    return folder


@row("J01")
def polygons_that_are_sound(folder: Path) -> Iterator[Try]:
    yield Try(coco(folder), "works", check=reads("c2", picture(2), AREA))


@row("J02")
def files_that_are_damaged(folder: Path) -> Iterator[Try]:
    content = (coco(folder) / "coco.json").read_text()
    for number, text in enumerate(
        (content[:-9], content.replace("10, 8", "NaN, 8"), content.replace("10, 8", "1e400, 8"))
    ):
        place = coco(folder / str(number))
        (place / "coco.json").write_text(text)
        yield Try(place, "error", "layout", ("coco.json",))


@row("J03")
def files_nested_too_deeply(folder: Path) -> Iterator[Try]:
    place = coco(folder)
    text = (place / "coco.json").read_text()
    (place / "coco.json").write_text(text.replace(json.dumps([SQUARE]), "[" * 500_000, 1))
    yield Try(place, "error", "layout", ("nested too deeply",))


@row("J04")
def categories_that_are_no_class(folder: Path) -> Iterator[Try]:
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    place = coco(folder, annotations=notes([SQUARE], category=2), categories=categories)
    yield Try(place, "error", "mask", ("a (in 8 images), b (in 1 image)",))
    yield Try(place, "works", arguments=setting("data.mask.threshold=1"), check=reads("c3", mask=AREA, names=("a",)))
    yield Try(place, "warning", "annotation", ("b (in 1 image)",), arguments=setting("data.classes=[a]"))


@row("J05")
def images_that_are_missing(folder: Path) -> Iterator[Try]:
    coco(folder)
    for number in range(5):
        (folder / f"images/c{number}.png").unlink()
    yield Try(folder, "error", "layout", ("5 of its images are not there: c0.png, c1.png, c2.png and 2 more",))


@row("J06")
def images_of_another_size(folder: Path) -> Iterator[Try]:
    save(coco(folder) / "images/c1.png", picture(1, (40, 32)))
    yield Try(folder, "error", "size", ("32×40", "40×32", "c1.png"))


@row("J07")
def shapes_out_of_the_image(folder: Path) -> Iterator[Try]:
    coco(folder, annotations=notes([[-9, -9, 5, -9, 5, 5]]))
    yield Try(folder, "warning", "annotation", ("1 shapes reach out",))
    coco(folder, annotations=notes([[1e9, 1, 2, 2, 3, 9]]))
    yield Try(folder, "error", "layout", ("far outside",))


@row("J08")
def classes_that_cover_one_another(folder: Path) -> Iterator[Try]:
    covering = coco(folder, annotations=notes([[10, 8, 12, 8, 12, 16, 10, 16]], category=2))
    yield Try(covering, "warning", "annotation", ("16 pixels",), arguments=setting("data.classes=[lesion,cyst]"))


@row("J09")
def entities_that_grow(folder: Path) -> Iterator[Try]:
    grown = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    for number, kind in enumerate((f'[<!ENTITY e0 "x">{grown}]', 'SYSTEM "file:///etc/passwd"', "")):
        place = cvat(folder / str(number), f"<!DOCTYPE annotations {kind}>", "&e11;" if not number else "")
        yield Try(place, "error", "layout", ("document type",))


@row("J10")
def run_lengths_that_do_not_fit(folder: Path) -> Iterator[Try]:
    along = " ".join(f"{40 * row + 11} 10" for row in range(8, 16))
    yield Try(table(folder / "a", f"c0.png,{along}"), "error", "mask", ("along the rows", "rle-csv-rows"))
    yield Try(table(folder / "b", "c0.png,1279 9"), "error", "mask", ("1,280",))
    yield Try(table(folder / "c", "c0.png,1 2 3"), "error", "layout", ("row 2", "no length"))
    counts = {"size": list(SHAPE), "counts": "o" * 100_000 + "0"}
    yield Try(coco(folder / "d", annotations=notes(counts)), "error", "mask", ("cannot be painted",))


@row("J11")
def boxes_are_no_masks(folder: Path) -> Iterator[Try]:
    yield Try(coco(folder, annotations=notes([], more=3)), "error", "layout", ("3 annotations", "a box"))


@row("J12")
def names_that_lead_elsewhere(folder: Path) -> Iterator[Try]:
    save(folder / "secret.png", picture(0))
    images = [{"id": 0, "file_name": "../secret.png"}, {"id": 1, "file_name": str(folder / "secret.png")}]
    data = coco(folder / "data", images=images, annotations=[])
    yield Try(data, "error", "layout", ("2 of its images are not there",))


@row("J13")
def very_many_points(folder: Path) -> Iterator[Try]:
    zigzag = np.stack([np.linspace(0, 39, 400_000), np.tile([0, 31], 200_000)], axis=1).round(2).ravel().tolist()
    yield Try(coco(folder, annotations=notes([zigzag])), "works or error")
