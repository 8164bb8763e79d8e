"""Accidents with whole files: names, places, bytes."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from mutations import PICTURES, Mutation, Place, State, operator, same, without
from PIL import Image

from pocketseg.data.readers import stem_of


@operator(2)
def renamed(place: Place) -> Mutation | None:
    path = place.any()
    if path is None or place.kind == "npz":
        return None
    stem, ending = stem_of(path), path.name[len(stem_of(path)) :]
    new = place.pick(
        f"{stem}_new",
        f"{stem} (1)",
        f"Copy of {stem}",
        f"{stem}_mask",
        f"{stem}_seg",
        stem.upper(),
        stem[:-1] + "x",
        f"{stem}.",
    )
    target = path.with_name(new + ending)
    if target.exists():
        return None
    path.rename(target)
    return Mutation(f"{path.name} is now {target.name}", (*place.names(path), stem_of(target)), same)


@operator()
def other_case_of_ending(place: Place) -> Mutation | None:
    path = place.any()
    if path is None or place.kind == "npz" or path.suffix.upper() == path.suffix:
        return None
    ending, listed = path.name[len(stem_of(path)) :], place.listed
    target = path.with_name(stem_of(path) + ending.upper())
    path.rename(target)
    return Mutation(f"{path.name} is now {target.name}", place.names(path), same, refused=listed)


@operator()
def decomposed(place: Place) -> Mutation | None:
    """As macOS wrote names: letters and their marks apart."""
    files = [path for path in [*place.images(), *place.masks()] if not path.name.isascii()]
    path = place.one(files)
    if path is None:
        return None
    target = path.with_name(unicodedata.normalize("NFD", path.name))
    path.rename(target)
    return Mutation(f"{path.name} is decomposed", (*place.names(path), stem_of(target)), same)


@operator(2)
def dropped(place: Place) -> Mutation | None:
    path = place.any()
    if path is None or place.kind == "npz":
        return None
    path.unlink()
    case = [each for each in place.state if path in (*each.files, *each.masks)]
    several = any(len(each.masks) > 1 and path in each.masks for each in case)
    second = path.stem.endswith(("_mask_1", "_mask")) and several
    return Mutation(f"{path.name} is gone", place.names(path), united_without(path) if second else None)


def united_without(path: Path) -> Callable[[State], State]:
    """Of two masks of an image nobody can know that one is missing."""

    def right(state: State) -> State:
        kept = [replace(case, masks=tuple(mask for mask in case.masks if mask != path)) for case in state]
        return [
            replace(case, mask=(np.asarray(Image.open(case.masks[0])) > 0).astype(np.uint8))
            if len(case.masks) < len(was.masks)
            else case
            for case, was in zip(kept, state, strict=True)
        ]

    return right


@operator()
def pair_dropped(place: Place) -> Mutation | None:
    """Image and mask: a smaller data set, unless something else lists them."""
    path = place.one(place.images(), *PICTURES)
    if path is None or place.kind == "pages":
        return None
    (case,) = [each for each in place.state if path in each.files]
    for file in {*case.files, *(mask for mask in case.masks if mask.suffix in PICTURES)}:
        file.unlink()
    return Mutation(f"{path.name} and its mask are gone", place.names(path), None if place.listed else without(path))


@operator(2)
def doubled(place: Place) -> Mutation | None:
    path = place.any()
    if path is None or place.kind == "npz":
        return None
    stem, ending = stem_of(path), path.name[len(stem_of(path)) :]
    target = path.with_name(place.pick(f"{stem} copy", f"{stem} (2)", f"Copy of {stem}", f"{stem}_2") + ending)
    shutil.copyfile(path, target)
    right = same if place.listed or any(len(case.masks) > 1 for case in place.state) or stem.endswith("_mask") else None
    return Mutation(f"{path.name} is there as {target.name} too", (*place.names(path), stem_of(target)), right)


@operator()
def in_another_format_beside(place: Place) -> Mutation | None:
    path = place.one([*place.images(), *place.masks()], *PICTURES)
    if path is None or place.kind == "pages":
        return None
    with Image.open(path) as picture:
        target = path.with_suffix(".bmp" if path.suffix != ".bmp" else ".png")
        picture.convert("RGB").save(target)
    return Mutation(f"{target.name} lies beside {path.name}", place.names(path), same if place.listed else None)


@operator()
def wrong_ending(place: Place) -> Mutation | None:
    path = place.one([*place.images(), *place.masks()], *PICTURES)
    if path is None:
        return None
    target = path.with_suffix(
        place.pick(*(ending for ending in PICTURES if ending != path.suffix), ".xyz", "", ".heic")
    )
    if target.exists():
        return None
    path.rename(target)
    readable = target.suffix in PICTURES
    return Mutation(
        f"{path.name} is called {target.name}", (*place.names(path), target.name), same if readable else None
    )


@operator()
def litter(place: Place) -> Mutation | None:
    path = place.one([*place.images(), *place.masks()])
    assert path is not None
    name = place.pick(
        ".DS_Store", "Thumbs.db", f"._{path.name}", "desktop.ini", "notes.txt", "README.md", ".hidden.png"
    )
    (path.parent / name).write_bytes(b"\0\5\26\7 litter")
    return Mutation(f"{name} lies in {path.parent.name}", (name,), same, refused=False)


@operator()
def another_folder(place: Place) -> Mutation | None:
    new = place.folder / place.pick("results", "old", "backup", ".cache", "__MACOSX")
    new.mkdir()
    (new / "log.txt").write_text("nothing")
    return Mutation(
        f"a folder {new.name} without images", (new.name,), same, refused=new.name in ("results", "old", "backup")
    )


@operator()
def moved_into_a_folder(place: Place) -> Mutation | None:
    """The whole set one level down, as archives unpack."""
    if place.kind == "npz":
        return None
    inner = place.folder / place.pick("data", "dataset-main", "Dataset v2")
    moved = [path for path in place.folder.iterdir() if path != inner]
    inner.mkdir()
    for path in moved:
        path.rename(inner / path.name)
    return Mutation(f"all is in {inner.name}", (inner.name,), same)


@operator(2)
def cut_off(place: Place) -> Mutation | None:
    path = place.any()
    assert path is not None
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * place.pick(0, 0.1, 0.5, 0.9))])
    # What is gone may be an end that says nothing.
    return Mutation(f"{path.name} is cut off", place.names(path), same)


@operator()
def emptied_of_meaning(place: Place) -> Mutation | None:
    path = place.any()
    assert path is not None
    path.write_bytes(
        place.pick(b"<html><body>404</body></html>", b"version https://git-lfs.github.com/spec/v1\n", bytes(3000))
    )
    return Mutation(f"{path.name} is something else", place.names(path), None)


@operator(2)
def bits_flipped(place: Place) -> Mutation | None:
    """In formats with check sums, which must notice, or give the same."""
    path = place.one([*place.images(), *place.masks()], ".png", ".nii.gz", ".npz", ".seg.nrrd")
    if path is None:
        return None
    content = bytearray(path.read_bytes())
    # The data of a stream that has a check sum; names and times in the heads of gzip and zip have none.
    head = content.find(b"\n\n") + 12
    low, high = {".png": (8, 0), ".gz": (20, 8), ".npz": (2000, 1000), ".nrrd": (head, 8)}[path.suffix]
    at = int(place.random.integers(low, len(content) - high))
    content[at] ^= 1 << int(place.random.integers(8))
    path.write_bytes(bytes(content))
    return Mutation(f"a bit of byte {at} of {path.name}", place.names(path), same)


@operator()
def exchanged(place: Place) -> Mutation | None:
    """Image in the place of the mask, and the mask in that of the image."""
    if place.kind in ("npz", "dicom") or not place.masks():
        return None
    case = place.pick(
        *[case for case in place.state if case.masks and case.masks[0].suffix == case.files[0].suffix] or [None]
    )
    if case is None:
        return None
    first, second = case.files[0], case.masks[0]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    return Mutation(f"{first.name} and its mask are exchanged", place.names(first), None)


@operator()
def image_in_place_of_mask(place: Place) -> Mutation | None:
    case = place.pick(*[case for case in place.state if case.masks and case.masks[0].suffix in PICTURES] or [None])
    if case is None or place.kind == "npz" or case.masks[0].suffix == ".json":
        return None
    shutil.copyfile(case.files[0], case.masks[0])
    return Mutation(f"{case.masks[0].name} is the image", place.names(case.masks[0]), None)
