"""The ways a data set lies on disk. One file a layout: NAME, LOOKS_LIKE, matches(root), find(root)."""

from __future__ import annotations

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
    rle_csv,
    rle_csv_rows,
    scgm,
    suffix,
    via,
    yolo,
)
from pocketseg.data.layouts.expand import expand
from pocketseg.data.layouts.listing import (
    Listing,
    kinds_text,
    natural_key,
    of_other_formats,
    subfolders,
    unread_files,
)
from pocketseg.data.unread import kind_of, refuse, ways_out
from pocketseg.errors import DataError, near
from pocketseg.pipeline.reading import Reading

__all__ = ["LAYOUTS", "find_cases", "natural_key"]

# In the order they are tried: the more particular first.
PARTICULAR = (medical_decathlon, scgm, pancreas_ct, hc18)
GENERAL = (nested_unet, folders, images_labels, dsb2018, kaggle_nerve, dic, suffix, busi, dicom_patients)
ANNOTATIONS = (coco, labelme, via, cvat, rle_csv, rle_csv_rows)
IN_PARTS = parts.Parts({layout.NAME: layout for layout in (*PARTICULAR, *GENERAL)})
LAYOUTS: dict[str, Any] = {
    layout.NAME: layout
    for layout in (arrays, *PARTICULAR, light_unet, yolo, IN_PARTS, isbi_em, nih, *GENERAL, *ANNOTATIONS)
}
# Those whose data set may be one file.
OF_FILES = (arrays, coco, labelme, via, cvat, rle_csv)
NESTING = 2


def find_cases(
    root: Path,
    layout: str = "auto",
    images: str | None = None,
    masks: str | None = None,
    *,
    reading: Reading | None = None,
    each_rater: bool = False,
) -> tuple[str, Path, Listing]:
    """The layout's name, the folder it was found in, and its cases, volumes cut into slices.

    With `auto` the root is tried, then the folders inside it, two levels down, where exactly one of them
    matches.
    """
    if not _exists(root):
        raise DataError(str(root), f"does not exist (looked at {root.absolute()})", "check the path given as --data")
    if not root.is_dir():
        refuse(root)
    if layout != "auto" and layout not in LAYOUTS:
        raise DataError(f"data.layout={layout}", "is not a layout", near(layout, LAYOUTS))
    if images is not None or masks is not None:
        name, folder, listing = _named(root, layout, images, masks)
    else:
        name, folder = (layout, root) if layout != "auto" else _detect(root)
        listing = LAYOUTS[name].find(folder)
    return name, folder, expand(listing, reading or Reading(), each_rater=each_rater)


def _exists(root: Path) -> bool:
    try:
        return root.exists()
    except OSError as error:  # a name too long for the file system, a loop of links
        raise DataError(str(root), f"cannot be read ({error.strerror})", "check the path given as --data") from None


def _named(root: Path, layout: str, images: str | None, masks: str | None) -> tuple[str, Path, Listing]:
    if images is None or masks is None:
        raise DataError(
            "--images and --masks",
            "only one of the two is given",
            "name both folders, relative to --data or absolute",
        )
    if images.endswith(".npy") or layout == arrays.NAME:
        return arrays.NAME, root, arrays.find(root, images, masks)
    return folders.NAME, root, folders.find(root, images, masks)


def _detect(root: Path) -> tuple[str, Path]:
    level = [root]
    for _ in range(NESTING + 1):
        found = [(name, folder) for folder in level for name in _matching(folder)]
        if len({folder for _, folder in found}) == 1:
            return found[0]
        if found:
            places = ", ".join(str(folder) for _, folder in found[:5])
            raise DataError(str(root), f"holds several data sets ({places})", "give one of them as --data")
        level = [inside for folder in level if folder.is_dir() for inside in subfolders(folder)]
    files = unread_files(root) if root.is_dir() else []
    seen = kinds_text(files)
    others = [file for file in of_other_formats(files) if kind_of(file) is not None]
    raise DataError(
        str(root),
        "no images with masks were found in a known layout" + (f"; it holds {seen}" if seen else ""),
        (f"formats that are not read: {ways_out(others)}. Then " if others else "")
        + f"arrange them as {folders.LOOKS_LIKE} or {suffix.LOOKS_LIKE}, or name two folders: "
        f"--set data.images=FOLDER --set data.masks=FOLDER; `pocketseg data layouts` lists {len(LAYOUTS)} layouts",
    )


def _matching(folder: Path) -> list[str]:
    layouts = [] if folder.is_dir() else [layout for layout in OF_FILES if layout.matches(folder)]
    return next(([layout.NAME] for layout in [*layouts, *LAYOUTS.values()] if layout.matches(folder)), [])
