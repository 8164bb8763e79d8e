"""Segment every image of a folder: a mask for each, and a table with a row for each object.

    python segment_folder.py model.pseg scans/images found

writes found/NAME.png and found/objects.csv. It needs pocketseg without any extra: no PyTorch.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import pocketseg
from pocketseg.errors import DataError, PocketsegError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
COLUMNS = ("image", "class", "area_px", "diameter_px", "row", "column", "peak")


def segment_folder(model_file: Path, images: Path, out: Path) -> int:
    """Returns how many objects were found."""
    model = pocketseg.load(model_file)
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if len({path.stem for path in paths}) < len(paths):
        raise DataError(str(images), "has images that differ only in their endings", "rename one of each pair")
    rows = []
    for path in paths:
        found = model.segment(path)
        found.save(out / f"{path.stem}.png")
        for each in found.objects:
            row, column = each.centroid
            size = (each.area_px, f"{each.diameter_px:.1f}")
            rows.append((path.name, each.class_name, *size, f"{row:.1f}", f"{column:.1f}", f"{each.peak:.3f}"))
        print(f"{path.name}: {found!r}")
    with (out / "objects.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return len(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Segment every image of a folder.")
    parser.add_argument("model", type=Path, help="a .pseg file, an .onnx file or a run")
    parser.add_argument("images", type=Path, help="folder of images")
    parser.add_argument("out", type=Path, help="new folder for the masks and objects.csv")
    given = parser.parse_args(arguments)
    try:
        given.out.mkdir(parents=True)  # a new one, so that no image and no earlier mask is overwritten
        count = segment_folder(given.model, given.images, given.out)
    except (PocketsegError, OSError) as error:
        parser.exit(2, f"{error}\n")
    print(f"{count} objects in {given.out / 'objects.csv'}")


if __name__ == "__main__":
    main()
