"""Accidents with pictures: modes, sizes, orientation, values of masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mutations import PICTURES, Mutation, Place, State, operator, same, with_images, with_masks
from PIL import Image

TURNS = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    8: np.rot90,
}


def picture_of(place: Place, files: Sequence[Path]) -> tuple[Path, Image.Image] | None:
    path = place.one(files, *PICTURES)
    if path is None or place.kind == "pages":
        return None
    with Image.open(path) as found:
        found.load()
        return path, found.copy()


def lossless(path: Path) -> dict[str, Any]:
    return {"quality": 95} if path.suffix == ".jpg" else {}


@operator(2)
def image_of_another_mode(place: Place) -> Mutation | None:
    found = picture_of(place, place.images())
    if found is None:
        return None
    path, picture = found
    if path.suffix == ".jpg":  # written again, whatever mode it has: compared with what Pillow reads of it
        mode = place.pick("L", "CMYK")
        picture.convert(mode).save(path, quality=95)
        with Image.open(path) as again:
            stored = np.asarray(again.convert("RGB") if mode == "CMYK" else again)
        return Mutation(
            f"{path.name} is {mode}", place.names(path), with_images(path, lambda image: stored), mode == "L"
        )
    mode = place.pick("RGB", "P", "I;16", "RGBA", "LA", "1", "F", "clear")
    values = np.asarray(picture)
    if values.dtype != np.uint8 and mode != "F":
        return None
    if mode == "P" and values.ndim == 2:
        picture.putpalette([n for n in range(256) for _ in range(3)])
        picture.save(path)
        return Mutation(f"{path.name} has a gray palette", place.names(path), same)
    if mode == "I;16" and values.ndim == 2:
        Image.fromarray(values.astype(np.uint16)).save(path)
        right = with_images(path, lambda image: image.astype(np.uint16))
        return Mutation(f"{path.name} has 16 bits", place.names(path), right, told=True)
    if mode in ("RGBA", "LA") and (mode == "RGBA" or values.ndim == 2):
        picture.convert(mode).save(path)
        return Mutation(f"{path.name} has an opaque alpha channel", place.names(path), same)
    if mode == "clear" and values.ndim == 3:
        alpha = np.where(np.arange(values.shape[1]) < 9, 0, 255).astype(np.uint8)
        Image.fromarray(np.dstack([values, np.broadcast_to(alpha, values.shape[:2])])).save(path)
        return Mutation(f"{path.name} is clear in part", place.names(path), same)
    if mode == "1" and values.ndim == 2:
        picture.convert("1", dither=Image.Dither.NONE).save(path)
        right = with_images(path, lambda image: image > 127)
        return Mutation(f"{path.name} has one bit", place.names(path), right, told=True)
    if mode == "RGB" and values.ndim == 2:
        picture.convert("RGB").save(path)
        return Mutation(f"{path.name} is gray in three channels", place.names(path), same)
    if mode == "RGB":
        picture.convert("L").save(path)
        right = with_images(path, lambda image: np.asarray(picture.convert("L")))
        return Mutation(f"{path.name} is gray", place.names(path), right, told=True)
    if mode == "F" and path.suffix == ".tif":
        Image.fromarray(values.astype(np.float32)).save(path)
        right = with_images(path, lambda image: image.astype(np.float32))
        return Mutation(f"{path.name} has floats", place.names(path), right, told=True)
    return None


@operator(2)
def mask_of_another_mode(place: Place) -> Mutation | None:
    found = picture_of(place, place.masks())
    if found is None:
        return None
    path, picture = found
    values = np.asarray(picture)
    mode = place.pick("RGB", "P", "I;16", "RGBA", "1", "jpeg", "clear", "color")
    if mode == "P":
        if picture.mode != "L" or path.suffix == ".bmp":
            return None
        picture.putpalette([n for n in range(256) for _ in range(3)])
        picture.save(path)
        return Mutation(f"{path.name} has a gray palette", place.names(path), same)
    if mode == "I;16" and picture.mode == "L" and path.suffix != ".bmp":
        Image.fromarray(values.astype(np.uint16)).save(path)
        return Mutation(f"{path.name} has 16 bits", place.names(path), same)
    if mode == "1" and len(np.unique(values)) <= 2:
        Image.fromarray(values > 0).save(path)
        return Mutation(f"{path.name} has one bit", place.names(path), same)
    if mode == "jpeg":
        Image.fromarray(np.where(values > 0, 255, 0).astype(np.uint8)).save(path, format="JPEG", quality=60)
        return Mutation(f"{path.name} is a JPEG", place.names(path), None)
    if path.suffix == ".bmp" or mode in ("1", "I;16"):
        return None
    gray = np.asarray(picture.convert("L" if picture.mode != "P" else "RGB"))
    planes = np.dstack([gray] * 3) if gray.ndim == 2 else gray
    if mode == "RGB":
        Image.fromarray(planes).save(path)
        # Of colors nobody knows which class they are, those of a palette do.
        return Mutation(f"{path.name} has three channels", place.names(path), same)
    if mode == "color":
        Image.fromarray(planes * np.array([1, 0, 0], np.uint8)).save(path)
        return Mutation(f"{path.name} is red", place.names(path), same)
    alpha = 255 if mode == "RGBA" else np.where(values > 0, 255, 0) if values.ndim == 2 else 128
    Image.fromarray(np.dstack([planes, np.broadcast_to(np.uint8(alpha), planes.shape[:2])])).save(path)
    return Mutation(f"{path.name} has alpha ({mode})", place.names(path), same)


@operator(2)
def another_size(place: Place) -> Mutation | None:
    """A pixel more or less, or rows for columns, of image or mask alone."""
    found = picture_of(place, place.pick(place.images(), place.masks()))
    if found is None:
        return None
    path, picture = found
    width, height = picture.size
    how = place.pick("wider", "lower", "turned", "half")
    if how == "turned":
        made = picture.transpose(Image.Transpose.TRANSPOSE)
    else:
        size = {"wider": (width + 1, height), "lower": (width, height - 1), "half": (width // 2, height // 2)}[how]
        made = picture.resize(size, Image.Resampling.NEAREST)
    made.save(path, **lossless(path))
    return Mutation(f"{path.name} is {how}", place.names(path), None)


@operator()
def orientation(place: Place) -> Mutation | None:
    """A camera's note beside the pixels: images are turned by it."""
    found = picture_of(place, place.images())
    if found is None or found[0].suffix not in (".png", ".jpg"):
        return None
    path, picture = found
    turn = place.pick(*TURNS)
    exif = Image.Exif()
    exif[274] = turn
    picture.save(path, exif=exif, **lossless(path))
    stored = np.asarray(Image.open(path))
    # Whoever drew the mask saw the image turned, or not: a mask of the same size is taken as upright.
    right = with_images(path, lambda image: TURNS[turn](stored))
    return Mutation(f"{path.name} is to be turned ({turn})", place.names(path), right, told=True)


@operator()
def orientation_of_mask(place: Place) -> Mutation | None:
    """The same note in a mask, which is turned then."""
    found = picture_of(place, place.masks())
    if found is None or found[0].suffix != ".png":
        return None
    path, picture = found
    if any(path in case.masks and len(case.masks) > 1 for case in place.state):
        return None
    exif = Image.Exif()
    exif[274] = turn = place.pick(*TURNS)
    picture.save(path, exif=exif)
    return Mutation(f"{path.name} is to be turned ({turn})", place.names(path), with_masks(path, TURNS[turn]))


@operator(3)
def other_values(place: Place) -> Mutation | None:
    found = picture_of(place, place.masks())
    if found is None or found[1].mode not in ("L", "1", "P"):
        return None
    path, picture = found
    if picture.mode == "1":
        picture = picture.convert("L")
    values = np.asarray(picture)
    top = int(values.max())
    how = place.pick("scaled", "inverted", "stray", "empty", "full", "blurred", "object numbers")
    single = len(np.unique(values)) == 2
    right: Callable[[State], State] | None = None
    told = False
    several = any(path in case.masks and len(case.masks) > 1 for case in place.state)
    if how == "scaled":
        made = np.where(values > 0, 1 if top == 255 else 255, 0).astype(np.uint8)
        right = same
    elif how == "inverted":
        made = np.where(values > 0, 0, top).astype(np.uint8)
    elif how == "stray":
        made = values.copy()
        made[0, 0] = top // 2 if top > 2 else 7
    elif how == "empty":
        made = np.zeros_like(values)
        if several:
            return None
        right, told = with_masks(path, np.zeros_like), True
    elif how == "full":
        made = np.full_like(values, top)
    elif how == "blurred":
        made = np.asarray(
            Image.fromarray(np.where(values > 0, 255, 0).astype(np.uint8))
            .resize((16, 12), Image.Resampling.BICUBIC)
            .resize(picture.size, Image.Resampling.BICUBIC)
        )
    else:
        made = values.copy()
        made[(values > 0) & (np.arange(values.shape[1]) % 2 == 0)] = 2 if single else 3
    drawn = Image.fromarray(made)
    if picture.mode == "P":
        drawn.putpalette(picture.getpalette() or [])
    drawn.save(path)
    return Mutation(f"{path.name} is {how}", place.names(path), right, told)


@operator()
def all_masks_alike(place: Place) -> Mutation | None:
    """All masks change together: 255 becomes 1, gray becomes color."""
    found = picture_of(place, place.masks())
    if found is None or found[1].mode not in ("L", "1"):
        return None
    how = place.pick("1", "255", "RGB", "bool", "37")
    for path in place.masks():
        with Image.open(path) as picture:
            values = np.asarray(picture) > 0
        made = {
            "1": values.astype(np.uint8),
            "255": values * np.uint8(255),
            "bool": values,
            "37": values * np.uint8(37),
        }
        Image.fromarray(np.dstack([values * np.uint8(255)] * 3) if how == "RGB" else made[how]).save(path)
    return Mutation(f"all masks are stored as {how}", ("mask", *place.names(place.masks()[0])), same, refused=False)
