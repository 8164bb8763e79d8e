"""The ways a data set lies on disk. One file a layout: NAME, LOOKS_LIKE, matches(root), find(root)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pocketseg.data.layouts import (
    arrays,
    busi,
    coco,
    cvat,
    dic,
    dicom_patients,
    dsb2018,
    folders,
    hc18,
    images_labels,
    isbi_em,
    kaggle_nerve,
    labelme,
    light_unet,
    medical_decathlon,
    nested_unet,
    nih,
    pancreas_ct,
    parts,
    paths_csv,
    patients,
    rle_csv,
    rle_csv_rows,
    scgm,
    suffix,
    via,
    yolo,
)
from pocketseg.data.layouts.expand import expand
from pocketseg.data.layouts.listing import Listing, natural_key, subfolders
from pocketseg.data.layouts.naming import KEY, Naming
from pocketseg.data.layouts.seen import TABLE, closest, seen
from pocketseg.data.unread import refuse
from pocketseg.errors import DataError, near
from pocketseg.pipeline.reading import Reading

__all__ = ["LAYOUTS", "find_cases", "natural_key"]


def _by_name(*layouts: Any) -> dict[str, Any]:
    return {layout.NAME: layout for layout in layouts}


# In the order they are tried: the more particular first.
PARTICULAR = (medical_decathlon, scgm, pancreas_ct, hc18)
ANNOTATIONS = (coco, labelme, via, cvat, rle_csv, rle_csv_rows)
TWO_FOLDERS = (nested_unet, images_labels, folders)
ONE_FOLDER = (kaggle_nerve, dic, suffix)
FOR_PATIENTS = patients.Patients(_by_name(images_labels, folders, suffix))
FOLDERS = (FOR_PATIENTS, busi)
BY_NAMES = _by_name(*TWO_FOLDERS, *ONE_FOLDER, *FOLDERS)
GENERAL = (*TWO_FOLDERS, dsb2018, *ONE_FOLDER, *FOLDERS, dicom_patients)
IN_PARTS = parts.Parts(_by_name(*PARTICULAR, *GENERAL), BY_NAMES)
FIXED = (isbi_em, nih)
LAYOUTS = _by_name(arrays, paths_csv, *PARTICULAR, light_unet, yolo, IN_PARTS, *FIXED, *GENERAL, *ANNOTATIONS)
# Those that pair by names, which may be given.
NAMED = _by_name(light_unet, IN_PARTS, *FIXED) | BY_NAMES
# Those whose data set may be one file.
OF_FILES = (arrays, paths_csv, coco, labelme, via, cvat, rle_csv)
NESTING = 2


def find_cases(
    root: Path,
    layout: str = "auto",
    images: str | None = None,
    masks: str | None = None,
    *,
    reading: Reading | None = None,
    each_rater: bool = False,
    naming: Sequence[str] = (),
) -> tuple[str, Path, Listing]:
    """The layout's name, the folder it was found in, and its cases, volumes cut into slices.

    With `auto` the root is tried, then the folders inside it, two levels down, where exactly one of them
    matches. `naming` says how masks are called; only layouts that pair by names are tried then.
    """
    given = tuple(map(Naming.of, naming))
    if not _exists(root):
        raise DataError(str(root), f"does not exist (looked at {root.absolute()})", "check the path of the data set")
    if not root.is_dir():
        refuse(root)
    if layout != "auto" and layout not in LAYOUTS:
        raise DataError(f"data.layout={layout}", "is not a layout", near(layout, LAYOUTS))
    if images is not None or masks is not None:
        name, folder, listing = _named(root, layout, images, masks, given)
    else:
        name, folder = (layout, root) if layout != "auto" else _detect(root, given)
        if name not in NAMED:
            _refuse(given, name)
        listing = LAYOUTS[name].find(folder, given) if given else LAYOUTS[name].find(folder)
    return name, folder, expand(listing, reading or Reading(), each_rater=each_rater)


def _refuse(naming: Sequence[Naming], layout: str) -> None:
    """Names of masks that are given where none are looked at."""
    if naming:
        what = f"has no effect on the layout {layout}, which does not pair by names"
        raise DataError(f"{KEY}={naming[0].setting}", what, "leave it out")


def _exists(root: Path) -> bool:
    try:
        return root.exists()
    except OSError as error:  # a name too long for the file system, a loop of links
        raise DataError(str(root), f"cannot be read ({error.strerror})", "check the path of the data set") from None


def _named(
    root: Path, layout: str, images: str | None, masks: str | None, naming: Sequence[Naming]
) -> tuple[str, Path, Listing]:
    if images is None or masks is None:
        raise DataError(
            "--images and --masks",
            "only one of the two is given",
            "name both folders, relative to --data or absolute",
        )
    if images.endswith(".npy") or layout == arrays.NAME:
        _refuse(naming, arrays.NAME)
        return arrays.NAME, root, arrays.find(root, images, masks)
    return folders.NAME, root, folders.find(root, naming, images, masks)


def _detect(root: Path, naming: Sequence[Naming]) -> tuple[str, Path]:
    level = [root]
    for _ in range(NESTING + 1):
        found = [(name, folder) for folder in level for name in _matching(folder, naming)]
        if len({folder for _, folder in found}) == 1:
            return found[0]
        if found:
            places = ", ".join(str(folder) for _, folder in found[:5])
            fix = f"give one of them as --data, or a table of all: --data cases.csv, {paths_csv.COLUMNS}"
            raise DataError(str(root), f"holds several data sets ({places})", fix)
        level = [inside for folder in level if folder.is_dir() for inside in subfolders(folder)]
    if root.is_file() and root.suffix.lower() == ".csv":
        return paths_csv.NAME, root  # which says what it lacks
    if not root.is_dir():
        raise DataError(str(root), f"is a file of no data set that is known ({_of_files()})", "give a folder")
    held = seen(root)
    usual = (
        f"arrange them as {folders.LOOKS_LIKE} or {suffix.LOOKS_LIKE}, name two folders (--set data.images=FOLDER "
        f"--set data.masks=FOLDER), or {TABLE}"
    )
    what = "no images with masks were found in a known layout; it holds " + (held or "no images")
    fix = f"{closest(root) or usual}; `pocketseg data layouts` lists {len(LAYOUTS)} layouts"
    raise DataError(str(root), what, fix)


def _of_files() -> str:
    return ", ".join(layout.NAME for layout in OF_FILES)


def _matching(folder: Path, naming: Sequence[Naming]) -> list[str]:
    if naming:
        return next(([name] for name, layout in NAMED.items() if layout.matches(folder, naming)), [])
    layouts = LAYOUTS.values() if folder.is_dir() else OF_FILES
    return next(([layout.NAME] for layout in layouts if layout.matches(folder)), [])
