"""B: how masks store classes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corpus import Try, reads, row, setting, with_mask
from helpers.pictures import good, picture, reference, save
from pocketseg.data import MaskCoding

SHAPE = (32, 40)
INSIDE = reference(99) > 0
COLORED = (INSIDE[..., None] * np.array([255, 0, 0])).astype(np.uint8)


@row("B01")
def foreground_255(folder: Path) -> Iterator[Try]:
    yield Try(good(folder), "works", check=reads("c1", mask=reference(1) > 0))


@row("B02")
def foreground_1(folder: Path) -> Iterator[Try]:
    yield Try(good(folder, mask=lambda mask: mask // 255), "works", check=reads("c1", mask=reference(1) > 0))


@row("B03")
def other_foreground_values(folder: Path) -> Iterator[Try]:
    for value in (128, 200):
        data = good(folder / str(value), mask=lambda mask, value=value: (mask > 0) * np.uint8(value))
        told = (str(value), f"data.mask.values=[{value}]")
        yield Try(data, "warning", "odd-value", told, check=reads("c1", mask=reference(1) > 0))


@row("B04")
def two_ways_in_one_set(folder: Path) -> Iterator[Try]:
    with_mask(folder, reference(99) // 255)
    yield Try(folder, "error", "mixed-coding", ("255 in 8", "1 in 1", "odd.png", "data.mask.threshold=1"))
    check = reads("odd", mask=INSIDE, coding=MaskCoding(threshold=1))
    yield Try(folder, "works", arguments=setting("data.mask.threshold=1"), check=check)


@row("B05")
def one_bit(folder: Path) -> Iterator[Try]:
    for name in ("odd.png", "odd.tif"):
        data = with_mask(folder / name, Image.fromarray(INSIDE), name)
        yield Try(data, "works", check=reads("odd", mask=INSIDE))


@row("B06")
def white_is_zero(folder: Path) -> Iterator[Try]:
    data = with_mask(folder, reference(99), "odd.tif", tiffinfo={262: 0})
    yield Try(data, "error", "mask", ("odd.tif", "white as 0"))


@row("B07")
def palette_of_class_colors(folder: Path) -> Iterator[Try]:
    indexed = (
        Image.fromarray((INSIDE * np.uint8(2)), "P") if False else Image.fromarray(INSIDE * np.uint8(2)).convert("P")
    )
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    data = good(folder, mask=lambda mask: mask // 255)
    save(data / "images/odd.png", picture(99))
    save(data / "masks/odd.png", indexed)
    check = reads("odd", mask=INSIDE * 2, coding=MaskCoding(classes=2))
    yield Try(data, "works", arguments=setting("data.classes=[liver,tumour]"), check=check)


@row("B08")
def palette_that_means_nothing(folder: Path) -> Iterator[Try]:
    indexed = Image.fromarray((np.indices(SHAPE).sum(0) % 7).astype(np.uint8)).convert("P")
    indexed.putpalette([200, 10, 30, 40, 250, 60, 70, 80, 9, 1, 2, 3, 90, 4, 5, 6, 60, 7, 8, 9, 100])
    told = ("odd.png", "#c80a1e in 182 pixels", "data.mask.colors=[", "data.mask.values")
    yield Try(with_mask(folder / "several", indexed), "error", "mask", told)
    for name, colors in (("white first", [255] * 3 + [0] * 3), ("red first", [200, 0, 0] + [0] * 3)):
        swapped = Image.fromarray(np.uint8(1) - INSIDE).convert("P")
        swapped.putdata((1 - INSIDE).ravel().tolist())
        swapped.putpalette(colors)
        data = good(folder / name, mask=lambda mask: mask // 255)
        save(data / "images/odd.png", picture(99))
        save(data / "masks/odd.png", swapped)
        yield Try(data, "works", check=reads("odd", mask=INSIDE))


@row("B09")
def opaque_alpha(folder: Path) -> Iterator[Try]:
    gray = reference(99)
    full = np.full(SHAPE, 255, np.uint8)
    for name, layers in (("LA", [gray, full]), ("RGBA", [gray, gray, gray, full])):
        data = with_mask(folder / name, np.stack(layers, axis=-1))
        yield Try(data, "warning", "alpha", ("odd.png",), check=reads("odd", mask=INSIDE))


@row("B10")
def mask_in_alpha_only(folder: Path) -> Iterator[Try]:
    zeros = np.zeros(SHAPE, np.uint8)
    yield Try(
        with_mask(folder, np.stack([zeros] * 3 + [reference(99)], axis=-1)), "error", "mask", ("odd.png", "alpha")
    )


@row("B11")
def equal_colors(folder: Path) -> Iterator[Try]:
    yield Try(with_mask(folder, np.stack([reference(99)] * 3, axis=-1)), "works", check=reads("odd", mask=INSIDE))


@row("B12")
def classes_as_colors(folder: Path) -> Iterator[Try]:
    yield Try(with_mask(folder / "one", COLORED), "works", check=reads("odd", mask=INSIDE))
    two = COLORED.copy()
    two[:4, :4] = 0, 128, 0
    told = ("odd.png", "#ff0000 in", "#008000 in 16 pixels", "data.mask.colors=[")
    yield Try(with_mask(folder / "two", two), "error", "mask", told)


@row("B13")
def classes_as_blurred_colors(folder: Path) -> Iterator[Try]:
    blurred = Image.fromarray(COLORED).resize((20, 16), Image.Resampling.BILINEAR).resize((40, 32))
    yield Try(with_mask(folder, blurred), "error", "mask", ("odd.png", "the mask is colored", "#000000 in 764 pixels"))


@row("B14")
def jpeg(folder: Path) -> Iterator[Try]:
    data = with_mask(folder, reference(99), "odd.jpg", quality=60)
    yield Try(data, "error", "mask", ("odd.jpg", "JPEG", "data.mask.threshold=128"))
    yield Try(data, "works", arguments=setting("data.mask.threshold=128"))


@row("B15")
def resized_with_grays(folder: Path) -> Iterator[Try]:
    small = Image.fromarray(reference(99)).resize((23, 17), Image.Resampling.BICUBIC).resize((40, 32))
    yield Try(with_mask(folder, small), "error", "mask", ("odd.png", "gray levels", "data.mask.threshold=128"))


@row("B16")
def floats_of_0_and_1(folder: Path) -> Iterator[Try]:
    data = good(folder, mask=lambda mask: mask // 255)
    save(data / "images/odd.png", picture(99))
    save(data / "masks/odd.tif", INSIDE.astype(np.float32))
    yield Try(data, "works", check=reads("odd", mask=INSIDE))


@row("B17")
def probabilities(folder: Path) -> Iterator[Try]:
    soft = np.linspace(0, 1, 32 * 40, dtype=np.float32).reshape(SHAPE)
    yield Try(with_mask(folder, soft, "odd.tif"), "error", "mask", ("odd.tif", "data.mask.threshold=0.5"))


@row("B18")
def not_finite(folder: Path) -> Iterator[Try]:
    for value in (np.nan, np.inf):
        mask = INSIDE.astype(np.float32)
        mask[0, 0] = value
        yield Try(with_mask(folder / str(value), mask, "odd.tif"), "error", "mask", ("odd.tif", "NaN or infinite"))


@row("B19")
def negative_labels(folder: Path) -> Iterator[Try]:
    for value in (-1, -1024):
        mask = np.where(INSIDE, 1, value).astype(np.int32)
        data = with_mask(folder / str(value), Image.fromarray(mask), "odd.tif")
        yield Try(data, "error", "mask", ("odd.tif", "looks like an image"))


@row("B20")
def numbers_of_objects(folder: Path) -> Iterator[Try]:
    mask = np.zeros(SHAPE, np.int32)
    mask[2:5, 2:5], mask[10:12, 4:8], mask[20:25, 20:25] = 300, 301, 302
    data = with_mask(folder, Image.fromarray(mask), "odd.tif")
    yield Try(data, "error", "mask", ("odd.tif", "300, 301, 302", "data.mask.threshold=1"))


@row("B21")
def label_nobody_declared(folder: Path) -> Iterator[Try]:
    data = good(folder, mask=lambda mask: mask // 255 * 3)
    yield Try(data, "error", "mask", ("3", "2 classes"), arguments=setting("data.classes=[a,b]"))


@row("B22")
def declared_class_absent(folder: Path) -> Iterator[Try]:
    data = good(folder, mask=lambda mask: mask // 255)
    yield Try(data, "warning", "absent-class", ("2",), arguments=setting("data.classes=[a,b]"))


@row("B23")
def labels_with_gaps(folder: Path) -> Iterator[Try]:
    data = good(
        folder, mask=lambda mask: np.where(mask > 0, np.where(np.indices(SHAPE)[0] > 12, 5, 2), 0).astype(np.uint8)
    )
    yield Try(data, "error", "mask", ("2, 5",))
    both = setting("data.classes=[a,b]", "data.mask.values=[2,5]")
    expected = np.where(reference(1) > 0, np.where(np.indices(SHAPE)[0] > 12, 2, 1), 0)
    yield Try(data, "works", arguments=both, check=reads("c1", mask=expected, coding=MaskCoding(2, (2, 5))))


@row("B24")
def empty_masks(folder: Path) -> Iterator[Try]:
    data = good(folder)
    save(data / "masks/c1.png", np.zeros(SHAPE, np.uint8))
    yield Try(data, "warning", "empty-masks", ("1 of 8",))
    for number in range(2, 7):
        save(data / f"masks/c{number}.png", np.zeros(SHAPE, np.uint8))
    yield Try(data, "warning", "mostly-empty", ("6 of 8", "data.drop_empty=train"))
    for number in (0, 7):
        save(data / f"masks/c{number}.png", np.zeros(SHAPE, np.uint8))
    yield Try(data, "warning", "mostly-empty", ("8 of 8", "no training begins"))


@row("B25")
def full_mask(folder: Path) -> Iterator[Try]:
    yield Try(with_mask(folder, np.full(SHAPE, 255, np.uint8)), "warning", "full-mask", ("odd.png",))


@row("B26")
def stored_inverted(folder: Path) -> Iterator[Try]:
    def inverted(mask: np.ndarray) -> np.ndarray:
        small = np.full(SHAPE, 255, np.uint8)
        small[8:12, 8:14] = 0
        return small

    data = good(folder, mask=inverted)
    yield Try(data, "warning", "inverted", ("data.mask.invert=true",))
    yield Try(data, "works", arguments=setting("data.mask.invert=true"))


@row("B27")
def folders_swapped(folder: Path) -> Iterator[Try]:
    good(folder)
    for old, new in (("images", "x"), ("masks", "images"), ("x", "masks")):
        (folder / old).rename(folder / new)
    yield Try(folder, "error", "mask", ("masks/c0.png", "swapped"))


@row("B28")
def mask_is_the_image(folder: Path) -> Iterator[Try]:
    yield Try(with_mask(folder / "gray", picture(99)), "error", "mask", ("odd.png",))
    data = with_mask(folder / "binary", reference(99))
    save(data / "images/odd.png", reference(99))
    yield Try(data, "error", "image-is-mask", ("masks/odd.png",))
    # An image that is black outside of what its mask shows is none of these.
    data = with_mask(folder / "cut out", reference(99))
    cut_out = np.where(INSIDE, picture(99), 0).astype(np.uint8)
    cut_out[16, 20] = 255
    save(data / "images/odd.png", cut_out)
    yield Try(data, "works")


@row("B29")
def one_page_a_class(folder: Path) -> Iterator[Try]:
    pages = [Image.fromarray(reference(number)) for number in (1, 2)]
    data = with_mask(folder, pages[0], "odd.tif", save_all=True, append_images=pages[1:])
    yield Try(data, "error", "", ("odd.tif",))


@row("B30")
def void_label(folder: Path) -> Iterator[Try]:
    mask = np.where(INSIDE, 1, 0).astype(np.uint8)
    mask[:2] = 255
    yield Try(with_mask(folder, mask), "error", "mask", ("odd.png", "255"), arguments=setting("data.mask.values=[1]"))


@row("B31")
def classes_that_overlap(folder: Path) -> Iterator[Try]:
    keys = ("data.multilabel=true", "data.classes=[organ,tumor]")
    coding = MaskCoding(classes=2, multilabel=True)
    planes = np.stack([reference(1), reference(2)]) > 0
    how: dict[str, Any] = {"coding": coding, "names": ("organ", "tumor")}
    data = good(folder / "folders", 4)
    for name, plane in zip(("organ", "tumor"), planes, strict=True):
        for number in range(4):
            save(data / f"masks/{name}/c{number}.png", plane * np.uint8(255))
    apart = setting(*keys, "data.images=images", "data.masks='masks/{class}'")
    check = reads("c1", mask=planes, images="images", masks="masks/{class}", **how)
    yield Try(data, "works", arguments=apart, check=check)
    lacking = shutil.copytree(data, folder / "lacking")
    (lacking / "masks/tumor/c2.png").unlink()
    yield Try(lacking, "error", "", ("c2", "tumor"), arguments=apart)
    stored = planes[0] * np.uint8(1) + planes[1] * np.uint8(2)
    data = good(folder / "values", 4, mask=lambda _: stored)
    layers = "data.mask.layers=[[1,3],[2,3]]"
    check = reads("c1", mask=planes, coding=replace(coding, layers=((1, 3), (2, 3))), names=("organ", "tumor"))
    yield Try(data, "works", arguments=setting(*keys, layers), check=check)
    yield Try(data, "error", "mask", ("c1.png", "3"), arguments=setting(*keys, "data.mask.layers=[[1],[2]]"))
    yield Try(data, "error", "mask", ("1 plane for 2 classes", "data.mask.layers"), arguments=setting(*keys))
    data = good(folder / "pages", 4)
    for number in range(4):
        (data / f"masks/c{number}.png").unlink()
        first, second = (Image.fromarray(plane * np.uint8(255)) for plane in planes)
        save(data / f"masks/c{number}.tif", first, save_all=True, append_images=[second])
    yield Try(data, "works", arguments=setting(*keys), check=reads("c1", mask=planes, **how))
    yield Try(data, "error", "", ("c1.tif",))
