"""`data convert`: a data set into arrays, folders or annotations; outlines and ImageJ regions into masks and back."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases, MaskCoding
from pocketseg.data.annotations.images import base_of
from pocketseg.data.annotations.writing import NamedMask, coco, rle_rows
from pocketseg.data.case import FileSource
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.layouts import LAYOUTS
from pocketseg.data.layouts.listing import by_stem, image_files
from pocketseg.data.polygons import fill_all
from pocketseg.data.readers import read_image, read_mask, stem_of
from pocketseg.data.rois import read_rois, roi_bytes, write_rois
from pocketseg.data.writing import GROUPS, Converted, mask_files, shown_mask, stems_of, tell_lost, write_pixels
from pocketseg.errors import DataError, Problem, RecipeError, named, near
from pocketseg.files import inside, whole_folder, write_atomically, write_json
from pocketseg.layers import overlaps
from pocketseg.pipeline.components import fill_outline, label_components
from pocketseg.pipeline.geometry import resize, resize_labels
from pocketseg.pipeline.intensity import stored_fractions
from pocketseg.pipeline.postprocess import Postprocess
from pocketseg.recipes import load_data_recipe
from pocketseg.reporting.outlines import trace
from pocketseg.reporting.overlay import contour_pixels
from pocketseg.runs.opening import cases_options, mask_coding
from pocketseg.tables import csv_text
from pocketseg.text import counted

log = logging.getLogger("pocketseg")

Mask = NDArray[np.uint8]
JSON, CSV, TO_TABLE = ".json", ".csv", "masks-to-rle"
PROBABILITY = re.compile(r"_probability(?=_|$)")


@dataclass(frozen=True)
class Options:
    """What some of the conversions can be given.

    Attributes:
        size: (height, width) that images and masks are resized to.
        drop_empty: leave out blank images and empty masks.
        classes: number of foreground classes in the masks.
        threshold: probabilities from here on are foreground.
        min_pixels: objects smaller than this become no outline and no region.
        images: folder of the images that ImageJ regions were drawn on, which says how large the masks are.
        coding: what is foreground in files of masks; None: all but 0.
        pixel_weights: write a weight for every pixel beside each mask, made of it (`training.pixel_weights`).
    """

    size: tuple[int, int] | None = None
    drop_empty: bool = False
    classes: int = 1
    threshold: float = 0.5
    min_pixels: int = 0
    images: Path | None = None
    coding: MaskCoding | None = None
    pixel_weights: bool = False


def known_layouts() -> list[tuple[str, str]]:
    """Name and looks of every layout."""
    return [(name, layout.LOOKS_LIKE) for name, layout in sorted(LAYOUTS.items())]


def convert(
    what: str,
    source: str | Path,
    out: str | Path,
    options: Options | None = None,
    progress: Callable[[int, int], None] | None = None,
    overrides: Sequence[str] = (),
) -> Converted:
    """Convert a data set or masks.

    Args:
        what: a layout (`auto`, `kaggle-nerve`, …), for cases; or one of `MASKS`, for files of masks.
        source: the data set, or a folder (or file) of masks.
        out: for cases `FILE.npz`, `FILE.json` (COCO), `FILE.csv` (Kaggle's run lengths), or a folder that gets
            `images/` and `masks/`, of classes that may overlap `masks/CLASS/`; for masks a folder, and for
            `masks-to-rle` `FILE.csv`. New, or empty.
        options: see `Options`.
        progress: called with (done, of).
        overrides: `data.KEY=VALUE`, how the cases of a layout, or files of masks, are read.

    Raises:
        RecipeError: an override that makes no sense.
        DataError: nothing to convert, faulty files, or an output that exists.
    """
    options, source, out = options or Options(), Path(source), Path(out)
    known = ["auto", *LAYOUTS, *MASKS, TO_TABLE]
    if what not in known:
        raise DataError(f"data convert {what}", "is neither a layout nor a conversion", near(what, known))
    if options.pixel_weights and (what in (*MASKS, TO_TABLE) or out.suffix.lower() in (".npz", JSON, CSV)):
        what = "weights of pixels lie beside the images and masks of a folder"
        raise DataError("--pixel-weights", what, "convert a data set, to a folder")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(str(out), "already exists", "choose another name for the output")
    if what in (*MASKS, TO_TABLE):
        from_masks = what == TO_TABLE or MASKS[what] in FROM_MASKS
        vain = [text for text in overrides if not from_masks or not text.startswith("data.mask.")]
        if vain:
            what = f"has no effect on {what}; outlines and masks are read by the keys data.mask"
            raise RecipeError(f"--set {vain[0]}", what, "leave it out")
        if overrides:
            options = replace(options, coding=mask_coding(load_data_recipe("thin-unet", overrides).data))
        if what == TO_TABLE:
            return _table(source, out, options, progress)
        with whole_folder(out) as temporary:
            return _files(MASKS[what], source, temporary, options, progress)
    section = load_data_recipe("thin-unet", overrides).data
    reading, names = cases_options(section), tuple(section.classes)
    if section.multilabel and options.classes not in (1, len(names)):
        raise DataError(f"--classes {options.classes}", "is another number than that of data.classes", "leave it out")
    if options.classes > 1 and not section.multilabel:
        reading["coding"] = MaskCoding(classes=options.classes)
    if options.classes not in (1, len(names)):
        reading["names"], names = (), _numbered(options.classes)
    cases = Cases.open(source, what, **reading)
    if out.suffix.lower() in (JSON, CSV):
        return _annotations(cases, names, out, options, progress)
    if section.multilabel and options.pixel_weights:
        raise DataError(
            "--pixel-weights", "objects of classes that overlap have no borders between them", "leave it out"
        )
    return _cases(cases, names, out, options, progress)


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(f"class{number}" for number in range(1, classes + 1))


def _annotations(
    cases: Cases, names: Sequence[str], out: Path, options: Options, progress: Callable[[int, int], None] | None
) -> Converted:
    """The masks of a data set as one file; images stay where they are, and are called as they lie in the data set."""
    if options.size is not None:
        raise DataError("--size", f"images stay as they are beside a {out.suffix} file", "leave it out")
    apart = [case.image.where for case in cases if type(case.image) is not FileSource]
    if apart and out.suffix.lower() == JSON:
        what = counted(len(apart), "image[ is not a file of its|s are not files of their] own")
        what += f" ({named(apart)}), which COCO cannot name"
        raise DataError(str(cases.root), what, "convert them to a folder first")
    checked = cases.check(progress)
    _tell_annotated(checked.findings)
    dropped = checked.empty | checked.blank if options.drop_empty else frozenset()
    kept = [case for case in cases if case.name not in dropped]
    if not kept:
        raise DataError(str(cases.root), "every case is blank or has an empty mask", "leave out --drop-empty")
    tell_lost(kept, arrays=False)
    if out.suffix.lower() == JSON:
        base = base_of(cases.root)
        masks = (NamedMask(_relative(case.image.path, base), cases.mask(case)) for case in kept)
        write_json(out, coco(masks, names, trace))
    else:
        write_atomically(out, csv_text(rle_rows((NamedMask(case.name, cases.mask(case)) for case in kept), names)))
    return Converted(len(kept), len(cases) - len(kept))


def _relative(path: Path, base: Path) -> str:
    return (path.relative_to(base) if path.is_relative_to(base) else Path(path.name)).as_posix()


def _tell_annotated(findings: Sequence[Finding]) -> None:
    """What became of shapes when annotations were painted."""
    for finding in findings:
        if finding.code == "annotation":
            log.warning("%s", finding.problem)


def _table(source: Path, out: Path, options: Options, progress: Callable[[int, int], None] | None) -> Converted:
    """A folder of masks as Kaggle's table, each by its stem."""
    if out.suffix.lower() != CSV:
        raise DataError(str(out), f"is not a {CSV} file", "name the table, for example masks.csv")
    if not source.exists():
        raise DataError(str(source), "does not exist", "check the path")
    problems: list[Problem] = []
    files = by_stem(image_files(source) if source.is_dir() else [source], problems)
    coding, masks = options.coding or MaskCoding(classes=options.classes), []

    def decode(path: Path) -> None:
        stored = read_mask(path, gray=coding.threshold is not None, colors=coding.color_rule)
        masks.append(NamedMask(stem_of(path), coding.decode(stored, str(path))))

    _each(list(files.values()), decode, source, progress, problems)
    write_atomically(out, csv_text(rle_rows(masks, _numbered(options.classes))))
    return Converted(len(masks))


def _cases(
    cases: Cases, names: Sequence[str], out: Path, options: Options, progress: Callable[[int, int], None] | None
) -> Converted:
    checked = cases.check(progress)
    _tell_annotated(checked.findings)
    dropped = checked.empty | checked.blank if options.drop_empty else frozenset()
    made = [
        (case, _resized(cases.image(case), cases.mask(case), options.size, cases.classes))
        for case in cases
        if case.name not in dropped
    ]
    if options.drop_empty:
        # An object of a few pixels may be gone where the mask was made smaller.
        made = [(case, pair) for case, pair in made if pair[1].any()]
    if not made:
        raise DataError(str(cases.root), "every case is blank or has an empty mask", "leave out --drop-empty")
    kept, pairs = [case for case, _ in made], [pair for _, pair in made]
    arrays = out.suffix == ".npz"
    stems = {} if arrays else stems_of(cases.root, kept)
    tell_lost(kept, arrays, options.pixel_weights)
    if arrays:
        _write_arrays(cases.root, kept, pairs, out)
        table = None
    else:
        with whole_folder(out) as temporary:
            for case, (image, mask) in zip(kept, pairs, strict=True):
                stem, where = stems[case.name], case.image.where
                files = {f"images/{stem}.png": image} | mask_files(stem, mask, names)
                if options.pixel_weights:  # the layout `dic` has them
                    files = {f"{stem}.png": image, f"{stem}_mask.png": shown_mask(mask, cases.classes)}
                    write_atomically(inside(temporary, f"{stem}_weights.npy"), _weights(mask))
                for place, pixels in files.items():
                    write_pixels(inside(temporary, place), pixels, where)
            rows = [("case", "group"), *((stems[case.name], case.group) for case in kept)]
            write_atomically(temporary / GROUPS, csv_text(rows))
        table = out / GROUPS if len({case.group for case in kept}) < len(kept) else None
    return Converted(len(kept), len(cases) - len(kept), table)


def _weights(mask: Mask) -> bytes:
    """The weights of a mask's pixels, f32 (h, w), as an .npy file."""
    from pocketseg.training.pixel_weights import border_weights

    content = io.BytesIO()
    np.save(content, border_weights(mask))
    return content.getvalue()


def _write_arrays(
    root: Path, cases: Sequence[Case], pairs: Sequence[tuple[NDArray[np.generic], Mask]], out: Path
) -> None:
    kinds = {(image.shape, image.dtype.name) for image, _ in pairs}
    if len(kinds) > 1:
        found = ", ".join(f"{'×'.join(map(str, shape))} {dtype}" for shape, dtype in sorted(kinds)[:5])
        what = f"has images of {len(kinds)} sizes or types ({found}), and an array holds one"
        raise DataError(str(root), what, "give --size HEIGHT WIDTH, or a folder as output")
    images, masks = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    masks = np.moveaxis(masks, 1, -1) if overlaps(pairs[0][1]) else masks  # of planes channels, as images have them
    content = io.BytesIO()
    facts: dict[str, Any] = {
        "names": np.array([case.name for case in cases]),
        "groups": np.array([case.group for case in cases]),
        "spacing_mm": np.array([case.spacing_mm or (np.nan, np.nan) for case in cases]),
    }
    np.savez_compressed(content, images=images, masks=masks, **facts)
    write_atomically(out, content.getvalue())


def _resized(
    image: NDArray[np.generic], mask: Mask, size: tuple[int, int] | None, classes: int
) -> tuple[NDArray[np.generic], Mask]:
    """Image and mask at the size wanted; integers stay integers."""
    if size is None:
        return image, mask
    planes = np.moveaxis(image, -1, 0) if image.ndim == 3 else image[None]
    resized = resize(planes.astype(np.float32), size)
    if image.dtype.kind in "ui":
        limits = np.iinfo(image.dtype.name)
        resized = np.rint(resized).clip(limits.min, limits.max)
    if image.dtype == bool:
        resized = np.rint(resized)
    small = np.moveaxis(resized, 0, -1) if image.ndim == 3 else resized[0]
    return small.astype(image.dtype), resize_labels(mask, size, classes)


def _files(
    change: Callable[[Path, Options], Iterator[tuple[str, Mask | list[bytes]]]],
    source: Path,
    out: Path,
    options: Options,
    progress: Callable[[int, int], None] | None,
) -> Converted:
    if not source.exists():
        raise DataError(str(source), "does not exist", "check the path")
    regions = change is _from_regions
    found = sorted(source.iterdir()) if source.is_dir() else [source]
    files = (
        [path for path in found if path.suffix.lower() in (".roi", ".zip")]
        if regions
        else (image_files(source) if source.is_dir() else found)
    )
    if change is _from_probabilities:
        # What `predict --probabilities` writes lies beside its masks and overlays.
        files = [path for path in files if PROBABILITY.search(stem_of(path))] or files
    below = [path for path in found if path.is_dir() and any(each.is_file() for each in path.rglob("*"))]
    if below and files:
        log.warning("%s: folders in it are not looked into: %s", source, named([path.name for path in below]))
    written: dict[str, Path] = {}

    def write(path: Path) -> None:
        for name, result in change(path, options):
            if name in written:
                raise DataError(str(path), f"would be written over what {written[name]} became", "rename one of them")
            written[name] = path
            if isinstance(result, list):
                write_rois(inside(out, f"{name}.zip"), result)
            else:
                write_pixels(inside(out, f"{name}.png"), result, str(path))

    _each(files, write, source, progress, [])
    return Converted(len(written))


def _each(
    files: Sequence[Path],
    do: Callable[[Path], None],
    source: Path,
    progress: Callable[[int, int], None] | None,
    problems: Sequence[Problem],
) -> None:
    """Do something with each file of a source; faults, those found before among them, are one error at the end."""
    if not files:
        raise DataError(str(source), "holds no files of that kind", "check the path")
    found = [*problems]
    for done, path in enumerate(files, start=1):
        try:
            do(path)
        except DataError as error:
            found += error.problems
        if progress:
            progress(done, len(files))
    if found:
        raise DataError.of(found)


def _from_outlines(path: Path, options: Options) -> Iterator[tuple[str, Mask]]:
    outline = _foreground(path, options)
    try:
        yield stem_of(path), fill_outline(outline) * np.uint8(255)
    except ValueError as error:
        raise DataError(str(path), str(error), "close it") from None


def _to_outlines(path: Path, options: Options) -> Iterator[tuple[str, Mask]]:
    mask = _large_enough(_foreground(path, options), options)
    yield stem_of(path), contour_pixels(mask.astype(np.uint8)) * np.uint8(255)


def _from_regions(path: Path, options: Options) -> Iterator[tuple[str, Mask]]:
    if options.images is None:
        raise DataError(str(path), "says not how large its image is", "give the folder of images with --images")
    problems: list[Problem] = []
    images = by_stem(image_files(options.images), problems)
    if path.stem not in images:
        raise DataError(str(path), f"has no image in {options.images}", f"add an image with the stem {path.stem!r}")
    shape = read_image(images[path.stem]).shape
    try:
        inside = fill_all(read_rois(path), (shape[0], shape[1]))
    except ValueError as error:
        raise DataError(str(path), f"cannot be filled ({error})", "draw it again in ImageJ") from None
    yield path.stem, inside * np.uint8(255)


def _to_regions(path: Path, options: Options) -> Iterator[tuple[str, list[bytes]]]:
    """One region for each object; what touches only diagonally is one object, of several lines."""
    mask = _large_enough(_foreground(path, options), options)
    labels, count = label_components(mask)
    yield stem_of(path), [roi_bytes(trace(labels == number)) for number in range(1, count + 1)]


def _from_probabilities(path: Path, options: Options) -> Iterator[tuple[str, Mask]]:
    """Gray levels as fractions of the type's maximum; floats as they are."""
    values = read_image(path)
    if values.ndim != 2:
        raise DataError(str(path), "is colored, so it is not a map of one probability", "save it as gray")
    try:
        fractions = stored_fractions(values)
    except DataError as error:
        raise error.about(str(path)) from None
    rules = Postprocess(threshold=options.threshold, min_pixels=options.min_pixels)
    yield PROBABILITY.sub("", stem_of(path)), rules(fractions[:, :, None]) * np.uint8(255)


def _foreground(path: Path, options: Options) -> NDArray[np.bool_]:
    """What the coding says, or what is not 0; reported where that makes one class of several."""
    if (coding := options.coding) is not None:
        stored = read_mask(path, gray=coding.threshold is not None, colors=coding.color_rule)
        return coding.decode(stored, str(path)) > 0
    stored = read_mask(path)
    mask: NDArray[np.bool_] = np.not_equal(stored, 0)
    count = len(np.unique(stored[mask]))
    if count > 1:
        log.warning("%s: holds %d values beside 0, which all become one foreground", path, count)
    return mask


def _large_enough(mask: NDArray[np.bool_], options: Options) -> NDArray[np.bool_]:
    return Postprocess(min_pixels=options.min_pixels).clean(mask, mask.astype(np.float32))


FROM_MASKS = (_from_outlines, _to_outlines, _to_regions)
MASKS: dict[str, Callable[[Path, Options], Iterator[tuple[str, Mask | list[bytes]]]]] = {
    "outlines-to-masks": _from_outlines,
    "masks-to-outlines": _to_outlines,
    "rois-to-masks": _from_regions,
    "masks-to-rois": _to_regions,
    "probabilities-to-masks": _from_probabilities,
}
