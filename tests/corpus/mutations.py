"""What happens to data sets by accident, one thing at a time, and what is right afterwards.

A mutation changes files and says what may be read then: `right` makes the cases that are, from those before. Where
that is None, or `told` is set, a finding or an error must name one of `names`; an error that does is always right.
"""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from PIL import Image

from pocketseg.data import Cases
from pocketseg.data.doctor.checkup import checkup
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.readers import stem_of
from pocketseg.errors import PocketsegError

PICTURES = (".png", ".tif", ".bmp", ".jpg")
OTHER_GROUPS = "other groups"
TURNS = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    8: np.rot90,
}


@dataclass(frozen=True)
class Seen:
    """A case as it is read."""

    name: str
    image: Any
    mask: Any
    group: str
    part: str | None
    spacing: tuple[float, float] | None
    files: tuple[Path, ...]
    masks: tuple[Path, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What two readings of one case have in common; gray stored as color is gray."""
        image = self.image.astype(np.uint8) if self.image.dtype == bool else self.image  # whose bytes may be 1 or 255
        if image.ndim == 3 and image.shape[2] == 3 and (image == image[:, :, :1]).all():
            image = image[:, :, 0]
        spacing = None if self.spacing is None else tuple(round(float(size), 5) for size in self.spacing)
        pixels = (image.shape, self.image.dtype.name, image.tobytes(), self.mask.shape, self.mask.tobytes())
        return *pixels, self.part, spacing


State = list[Seen]


@dataclass(frozen=True)
class Mutation:
    """One accident that has happened.

    Attributes:
        what: it was, for people.
        names: one of which an error or finding must contain, where there has to be one.
        right: the cases that may be read now, of those before; None: none of them may be missing or changed in silence.
        told: whether a finding must say it beside.
        refused: whether an error is right as well.
        root: the data set's new place, where it has one.
    """

    what: str
    names: tuple[str, ...]
    right: Callable[[State], State] | None
    told: bool = False
    refused: bool = True
    root: Path | None = None


@dataclass(frozen=True)
class Place:
    """A copy of a valid data set that something happens to."""

    root: Path
    kind: str
    state: State
    random: np.random.Generator

    @property
    def folder(self) -> Path:
        return self.root if self.root.is_dir() else self.root.parent

    def images(self) -> list[Path]:
        return sorted({file for case in self.state for file in case.files})

    def masks(self) -> list[Path]:
        return sorted({file for case in self.state for file in case.masks})

    def one(self, files: Sequence[Path], *endings: str) -> Path | None:
        fitting = [file for file in files if file.name.lower().endswith(endings)] if endings else list(files)
        return fitting[int(self.random.integers(len(fitting)))] if fitting else None

    def any(self) -> Path | None:
        return self.one([*self.images(), *self.masks()])

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def names(self, path: Path) -> tuple[str, ...]:
        """What may be said of a file: its stem, its case's files, the folder of its series."""
        told = {stem_of(path)} | {f"1 {path.suffix}" for _ in [0] if path.suffix in (".json", ".csv")}
        for case in self.state:
            if path in (*case.files, *case.masks):
                told |= {stem_of(file) for file in (*case.files, *case.masks)}
                told |= {str(file.parent.relative_to(self.folder)) for file in case.files if self.kind == "dicom"}
        return tuple(told)


Operator = Callable[[Place], Mutation | None]
OPERATORS: dict[str, tuple[Operator, int]] = {}


def operator(weight: int = 1) -> Callable[[Operator], Operator]:
    """Weight: how often it is drawn beside others."""

    def keep(make: Operator) -> Operator:
        OPERATORS[make.__name__] = make, weight
        return make

    return keep


def read(root: Path, options: dict[str, Any]) -> tuple[State, list[str]]:
    """Every case of a data set, and the findings of a check."""
    cases = Cases.open(root, **options)
    findings = texts(cases.check().findings)
    raw = "reading" in options  # numbers of a file's own unit, whatever their type
    seen = [
        Seen(
            case.name,
            cases.image(case).astype(np.float64) if raw else cases.image(case),
            cases.mask(case),
            case.group,
            case.part,
            case.spacing_mm,
            case.image.files,
            tuple(file for mask in case.masks for file in mask.files),
        )
        for case in cases
    ]
    return seen, findings


def texts(findings: Sequence[Finding]) -> list[str]:
    return [f"{finding.code} {' '.join(finding.files)}: {finding.what} {finding.fix}" for finding in findings]


def diagnosed(root: Path, options: dict[str, Any]) -> list[str]:
    """What the doctor says, who looks longer."""
    return texts(checkup(Cases.open(root, **options)).findings)


def verdict(mutation: Mutation, place: Place, options: dict[str, Any], before: Sequence[str]) -> str:
    """`as before`, `as it should`, `told` or `refused`; AssertionError where the outcome is none of them."""
    root = mutation.root or place.root
    try:
        state, findings = read(root, options)
    except PocketsegError as error:
        text = "\n".join(str(each) for problem in error.problems for each in (*problem.files, problem))
        text = text.replace(str(place.folder), "")
        assert error.exit_code == 2, text
        assert mutation.refused, f"refused: {text}"
        assert any(name in text for name in mutation.names), f"the error names none of {mutation.names}: {text}"
        return "refused"
    new = [finding.replace(str(place.folder), "") for finding in findings if finding not in before]
    told = any(name in finding for finding in new for name in mutation.names)
    if not told and (mutation.right is None or mutation.told):
        new = [finding.replace(str(place.folder), "") for finding in diagnosed(root, options)]
        told = any(name in finding for finding in new for name in mutation.names)
    if mutation.right is None:
        assert told, f"no finding names one of {mutation.names}: {new}; {difference(place.state, state)}"
        return "told"
    right = mutation.right(place.state)
    wrong = difference(right, state)
    if wrong == OTHER_GROUPS and any("is not used" in finding for finding in new):
        return "told"
    assert not wrong, f"{wrong}; findings {new}"
    assert told or not mutation.told, f"no finding names one of {mutation.names}: {new}"
    return "told" if mutation.told else "as before" if not difference(place.state, right) else "as it should"


def difference(right: State, state: State) -> str:
    """What is wrong with cases; names are free, what is of one group before is so after."""
    ours, theirs = sorted(map(fingerprint, right)), sorted(map(fingerprint, state))
    if len(ours) != len(theirs):
        return f"{len(theirs)} cases instead of {len(ours)}"
    if ours != theirs:
        keys = {fingerprint(case) for case in right}
        shown = [case.name for case in state if fingerprint(case) not in keys]
        return f"other pixels, part or pixel size: {', '.join(shown)}"
    return "" if partition(right) == partition(state) else OTHER_GROUPS


def fingerprint(case: Seen) -> str:
    return repr(case.key)


def partition(state: State) -> set[frozenset[str]]:
    groups: dict[str, set[str]] = {}
    for case in state:
        groups.setdefault(case.group or case.name, set()).add(fingerprint(case))
    return set(map(frozenset, groups.values()))


def happens(place: Place) -> Mutation:
    """One of the accidents that can happen to this data set."""
    names = [name for name, (_, weight) in OPERATORS.items() for _ in range(weight)]
    while True:
        done = OPERATORS[place.pick(*names)][0](place)
        if done is not None:
            return done


# What is right.


def same(state: State) -> State:
    return state


def without(*paths: Path) -> Callable[[State], State]:
    return lambda state: [case for case in state if not set(paths) & {*case.files, *case.masks}]


def with_images(path: Path, change: Callable[[Any], Any]) -> Callable[[State], State]:
    return lambda state: [
        replace(case, image=np.ascontiguousarray(change(case.image))) if path in case.files else case for case in state
    ]


def with_masks(path: Path, change: Callable[[Any], Any]) -> Callable[[State], State]:
    return lambda state: [
        replace(case, mask=np.ascontiguousarray(change(case.mask))) if path in case.masks else case for case in state
    ]


# Files: names, places, bytes.


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
    ending = path.name[len(stem_of(path)) :]
    target = path.with_name(stem_of(path) + ending.upper())
    path.rename(target)
    named = (place.folder / "cases.csv").exists() or (place.folder / "annotations.json").exists()
    return Mutation(f"{path.name} is now {target.name}", place.names(path), same, refused=named)


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
    listed = any((place.folder / name).exists() for name in ("cases.csv", "annotations.json"))
    return Mutation(f"{path.name} and its mask are gone", place.names(path), None if listed else without(path))


@operator(2)
def doubled(place: Place) -> Mutation | None:
    path = place.any()
    if path is None or place.kind == "npz":
        return None
    stem, ending = stem_of(path), path.name[len(stem_of(path)) :]
    target = path.with_name(place.pick(f"{stem} copy", f"{stem} (2)", f"Copy of {stem}", f"{stem}_2") + ending)
    shutil.copyfile(path, target)
    listed = any((place.folder / name).exists() for name in ("cases.csv", "annotations.json"))
    right = same if listed or any(len(case.masks) > 1 for case in place.state) or stem.endswith("_mask") else None
    return Mutation(f"{path.name} is there as {target.name} too", (*place.names(path), stem_of(target)), right)


@operator()
def in_another_format_beside(place: Place) -> Mutation | None:
    path = place.one([*place.images(), *place.masks()], *PICTURES)
    if path is None or place.kind == "pages":
        return None
    with Image.open(path) as picture:
        target = path.with_suffix(".bmp" if path.suffix != ".bmp" else ".png")
        picture.convert("RGB").save(target)
    listed = any((place.folder / name).exists() for name in ("cases.csv", "annotations.json"))
    return Mutation(f"{target.name} lies beside {path.name}", place.names(path), same if listed else None)


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
    low, high = {".png": (8, 0), ".gz": (20, 8), ".npz": (2000, 1000), ".nrrd": (len(content) - 60, 8)}[path.suffix]
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


# Pictures: modes, sizes, orientation.


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
    several = [case for case in place.state if path in case.masks and len(case.masks) > 1]
    return Mutation(f"{path.name} is {how}", place.names(path), None if not several else None)


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
    return Mutation(f"{path.name} is to be turned ({turn})", place.names(path), right)


# Masks: values.


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


# NIfTI.


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


# Arrays.


@operator(12)
def array_changed(place: Place) -> Mutation | None:
    if place.kind != "npz":
        return None
    with np.load(place.root) as held:
        made = {name: held[name] for name in held.files}
    images, masks = made["images"], made["masks"]
    how = place.pick(
        "float images", "16 bits", "float masks", "bool masks", "255", "one 255", "one fewer", "turned masks",
        "names twice",
        "fewer names", "no groups", "other groups", "channels first", "fourth axis", "renamed", "nan", "objects",
        "negative",
        "packed", "color", "stray", "int64",
    )  # fmt: skip
    right: Callable[[State], State] | None = None
    told = False
    if how == "float images":
        made["images"] = images / np.float32(255)
        right, told = (lambda state: [replace(case, image=case.image / np.float32(255)) for case in state]), True
    elif how in ("16 bits", "int64"):
        kind = np.uint16 if how == "16 bits" else np.int64
        made["images"] = images.astype(kind)
        right, told = (lambda state: [replace(case, image=case.image.astype(kind)) for case in state]), True
    elif how == "float masks":
        made["masks"], right = masks.astype(np.float64), same
    elif how == "bool masks":
        made["masks"], right = masks.astype(bool), same
    elif how == "255":
        made["masks"], right = masks * 255, same
    elif how == "one 255":
        masks[3] *= 255
    elif how == "one fewer":
        made["masks"] = masks[1:]
    elif how == "turned masks":
        made["masks"] = masks.swapaxes(1, 2)
    elif how == "names twice":
        made["names"][1] = made["names"][0]
    elif how == "fewer names":
        made["names"] = made["names"][1:]
    elif how == "no groups":
        del made["groups"]
        right, told = (lambda state: [replace(case, group=case.name) for case in state]), True
    elif how == "other groups":
        made["groups"][0] = "g9"
        right = lambda state: [replace(case, group="g9") if case.name == "n0" else case for case in state]  # noqa: E731
    elif how == "channels first":
        made["images"] = np.stack([images] * 3, axis=1)
    elif how == "fourth axis":
        made["images"], made["masks"], right = images[..., None], masks[..., None], same
    elif how == "renamed":
        made["x"], made["y"] = made.pop("images"), made.pop("masks")
    elif how == "nan":
        made["images"] = images.astype(np.float32)
        made["images"][2, 3, 4] = np.nan
    elif how == "objects":
        made["groups"] = made["groups"].astype(object)
    elif how == "negative":
        made["masks"] = -masks.astype(np.int8)
    elif how == "packed":
        np.savez_compressed(place.root, **made)
        return Mutation(how, (place.root.name,), same)
    elif how == "color":
        made["images"], right = np.stack([images] * 3, axis=-1), same
    else:
        masks[2, 0, 0] = 9
    np.savez(place.root, **made)
    names = (place.root.name, "groups") if how == "no groups" else (place.root.name,)
    return Mutation(how, names, right, told)


# Tables and annotations.


@operator(8)
def groups_changed(place: Place) -> Mutation | None:
    path = place.folder / "groups.csv"
    if not path.exists():
        return None
    rows = list(csv.reader(path.open(encoding="utf-8")))
    row = int(place.random.integers(1, len(rows)))
    how = place.pick(
        "row gone", "row twice", "two groups", "header", "semicolons", "bom", "with endings", "stranger", "no group",
        "no header",
        "blank line", "table gone", "upper case", "spaces",
    )  # fmt: skip
    right: Callable[[State], State] | None = None
    told = False
    sign, before = ",", ""
    if how == "row gone":
        del rows[row]
    elif how == "row twice":
        rows.append(rows[row])
        right = same
    elif how == "two groups":
        rows.append([rows[row][0], "p77"])
    elif how == "header":
        rows[0] = ["case", "patient"]
    elif how == "semicolons":
        sign, right = ";", same
    elif how == "bom":
        before, right = "\ufeff", same
    elif how == "with endings":
        rows, right = [rows[0], *([f"{name}.png", group] for name, group in rows[1:])], same
    elif how == "stranger":
        rows.append(["scan99", "p1"])
        right = same
    elif how == "no group":
        rows[row][1] = ""
    elif how == "no header":
        del rows[0]
    elif how == "blank line":
        rows, right = [*rows[:row], [], *rows[row:]], same
    elif how == "upper case":
        rows[row][0] = rows[row][0].upper()
    elif how == "spaces":
        rows = [[f" {cell} " for cell in each] for each in rows]
    if how == "table gone":
        path.unlink()
        right, told = (lambda state: [replace(case, group=case.name) for case in state]), True
    else:
        path.write_text(before + "".join(sign.join(each) + "\n" for each in rows), encoding="utf-8")
    return Mutation(f"{how} in groups.csv", ("groups",), right, told)


@operator(10)
def paths_changed(place: Place) -> Mutation | None:
    path = place.folder / "cases.csv"
    if not path.exists():
        return None
    rows = list(csv.reader(path.open(encoding="utf-8")))
    row, other = (int(each) for each in place.random.choice(np.arange(1, len(rows)), 2, replace=False))
    how = place.pick(
        "row gone", "row twice", "path wrong", "exchanged", "part unknown", "no group", "semicolons", "bom", "header",
        "quotes",
        "backslashes", "cell more", "cell fewer", "absolute", "mask of another", "no part", "crlf", "upper case",
        "blank line",
    )  # fmt: skip
    right: Callable[[State], State] | None = None
    cells, sign, before, end = rows[row], ",", "", "\n"
    if how == "row gone":
        gone = rows.pop(row)
        right = without(place.folder / gone[0])
        # Image and mask lie there still, and no line names them.
        path.write_text("".join(",".join(each) + "\n" for each in rows))
        return Mutation(
            f"{gone} is gone from cases.csv", tuple(stem_of(Path(cell)) for cell in gone[:2]), right, told=True
        )
    if how == "row twice":
        rows.append(cells)
    elif how == "path wrong":
        column = place.pick(0, 1)
        cells[column] = cells[column].replace("0", "9")
    elif how == "exchanged":
        cells[0], cells[1] = cells[1], cells[0]
    elif how == "part unknown":
        cells[3] = "holdout"
    elif how == "no group":
        cells[2] = ""
    elif how == "semicolons":
        sign, right = ";", same
    elif how == "bom":
        before, right = "\ufeff", same
    elif how == "crlf":
        end, right = "\r\n", same
    elif how == "header":
        rows[0] = ["Image", " Mask ", "Patient ID", "Set"]
        right = same
    elif how == "quotes":
        rows, right = [rows[0], *([f'"{cell}"' for cell in each] for each in rows[1:])], same
    elif how == "backslashes":
        cells[0], right = cells[0].replace("/", "\\"), same
    elif how == "cell more":
        cells.append("checked")
        right = same
    elif how == "cell fewer":
        del cells[3]
    elif how == "absolute":
        cells[0], right = str(place.folder / cells[0]), same
    elif how == "mask of another":
        cells[1] = rows[other][1]
    elif how == "no part":
        rows = [each[:3] for each in rows]
        right = lambda state: [replace(case, part=None) for case in state]  # noqa: E731
    elif how == "upper case":
        cells[0] = cells[0].upper()
    else:
        rows, right = [*rows[:row], [], *rows[row:]], same
    names = ("cases.csv", *(stem_of(Path(cell)) for cell in (cells[0], cells[1])))
    path.write_text(before + "".join(sign.join(each) + end for each in rows), encoding="utf-8", newline="")
    return Mutation(f"{how} in line {row + 1} of cases.csv", names, right)


@operator(10)
def annotations_changed(place: Place) -> Mutation | None:
    path = place.folder / "annotations.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    number = int(place.random.integers(6))
    image, note = content["images"][number], content["annotations"][number]
    file = place.folder / "images" / image["file_name"]
    how = place.pick(
        "note gone", "note twice", "image gone", "name wrong", "category renamed", "category gone", "second category",
        "id as text", "size wrong", "folder in name", "empty shape", "out of the image", "image twice", "other image",
        "crowd",
        "turned", "text", "bom", "odd numbers", "extra keys", "case of name",
    )  # fmt: skip
    right: Callable[[State], State] | None = None
    told = False
    names: tuple[str, ...] = ("annotations.json", f"c{number}.png")
    if how == "note gone":
        content["annotations"].remove(note)
        right, told = with_mask_of(file, np.zeros_like), True
    elif how == "note twice":
        content["annotations"].append(note | {"id": 99})
        right = same
    elif how == "image gone":
        content["images"].remove(image)
    elif how == "name wrong":
        image["file_name"] = "nowhere.png"
        names = (*names, "nowhere")
    elif how == "category renamed":
        content["categories"][0]["name"] = "tumor"
        right = same
    elif how == "category gone":
        content["categories"] = []
    elif how == "second category":
        content["categories"].append({"id": 2, "name": "cyst"})
        note["category_id"] = 2
    elif how == "id as text":
        note["image_id"] = str(number)
        right = same
    elif how == "size wrong":
        image["height"] += 1
    elif how == "folder in name":
        image["file_name"] = f"/home/me/images/c{number}.png"
        right = same
    elif how == "empty shape":
        note["segmentation"] = []
    elif how == "out of the image":
        note["segmentation"] = [[cell + 20 for cell in note["segmentation"][0]]]
    elif how == "image twice":
        content["images"].append(image | {"id": 77})
    elif how == "other image":
        note["image_id"] = 55
    elif how == "crowd":
        note["iscrowd"] = 1
        right = same
    elif how == "turned":
        image["height"], image["width"] = image["width"], image["height"]
    elif how == "text":
        path.write_text(json.dumps(content)[:-20])
        return Mutation(how, names, None)
    elif how == "bom":
        path.write_text("\ufeff" + json.dumps(content), encoding="utf-8")
        return Mutation(how, names, same)
    elif how == "odd numbers":
        note["segmentation"][0][0] = place.pick("x", None, -5, [1])
    elif how == "extra keys":
        content["info"], note["score"], right = {"year": 2024}, 0.9, same
    else:
        image["file_name"] = f"C{number}.PNG"
        right = same
    path.write_text(json.dumps(content))
    return Mutation(f"{how} of {image['file_name']}", names, right, told)


def with_mask_of(image: Path, change: Callable[[Any], Any]) -> Callable[[State], State]:
    return lambda state: [replace(case, mask=change(case.mask)) if image in case.files else case for case in state]


@operator(3)
def description_changed(place: Place) -> Mutation | None:
    """The file that describes volumes: wrong, gone, of other channels."""
    path = place.folder / "dataset.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    how = place.pick("gone", "more channels", "damaged", "other names", "labels gone", "label values", "count", "list")
    right: Callable[[State], State] | None = same
    if how == "gone":
        path.unlink()
        return Mutation(how, (path.name,), same, refused=False)
    if how == "more channels":
        content["channel_names"]["2"], right = "T3", None
    elif how == "other names":
        content["channel_names"] = {"0": "CT", "1": "PET"}
    elif how == "labels gone":
        del content["labels"]
    elif how == "label values":
        content["labels"]["lesion"] = 2
    elif how == "count":
        content["numTraining"] = 7
    elif how == "list":
        content = [content]
        right = None
    path.write_text(json.dumps(content)[:-9] if how == "damaged" else json.dumps(content))
    return Mutation(f"{how} of dataset.json", (path.name,), None if how == "damaged" else right)
