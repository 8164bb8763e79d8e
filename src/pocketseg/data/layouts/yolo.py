"""YOLO segmentation: `labels/NAME.txt` with a class and the corners of a polygon, as shares of the image, a line.

An image without a text file, or with an empty one, shows nothing, as YOLO has it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import yaml

from pocketseg.data.annotations.drawing import CORNERS, AnnotationSource, Drawing, Shape, Shares, corners_of
from pocketseg.data.annotations.images import case_names, part_of
from pocketseg.data.annotations.reading import faults_of, head_of, number_of, read_content, whole_number
from pocketseg.data.case import Case, FileSource
from pocketseg.data.layouts.listing import Listing, image_files, subfolders
from pocketseg.data.readers import stem_of
from pocketseg.errors import DataError, Problem
from pocketseg.files import by_parts, read_text

NAME = "yolo"
LOOKS_LIKE = "images/NAME.png + labels/NAME.txt, names in data.yaml (YOLO segmentation)"
IMAGES, LABELS, CLASSES = "images", "labels", "classes.txt"
MAX_NAMES = 2**16
BOX = 5


def matches(root: Path) -> bool:
    if not root.is_dir():
        return False
    return any(_fits(text) for _, labels in _pairs(root) for text in _texts(labels)[:8])


def _fits(path: Path) -> bool:
    words = head_of(path).split(b"\n")[0].split()
    try:
        return len(words) >= BOX and whole_number(words[0].decode()) >= 0 and all(float(word) < 2 for word in words[1:])
    except ValueError:
        return False


def find(root: Path) -> Listing:
    listing = Listing()
    try:
        names = _names(root)
    except DataError as error:
        return Listing(problems=error.problems)
    pairs = _pairs(root)
    if not pairs:
        listing.problems.append(Problem(str(root), "holds no folders images and labels", f"arrange {LOOKS_LIKE}"))
    for images, labels in pairs:
        texts = {text.stem: text for text in _texts(labels)}
        for path in image_files(images):
            file = texts.pop(stem_of(path), None)
            try:
                drawing = Drawing() if file is None else _read(file, names)
            except DataError as error:
                listing.problems += error.problems
                continue
            picture = FileSource(path)
            source = AnnotationSource(file or path, drawing, picture)
            listing.cases.append(Case(stem_of(path), picture, (source,), part=part_of(path, root)))
        listing.problems += [
            Problem(str(text), f"has no image in {images}", "add the image, or remove the text")
            for text in texts.values()
            if text.name != CLASSES
        ]
    named = case_names([case.image.path for case in listing.cases], root)
    listing.cases = [replace(case, name=named[case.image.path]) for case in listing.cases]
    return listing


def _read(file: Path, names: dict[int, str]) -> Drawing:
    """The polygons of one image: a line each.

    Raises:
        DataError: a line that is none, such as a box of a data set for detection.
    """
    drawing = Drawing()
    with faults_of(file, "YOLO"):
        lines = read_content(file).decode("utf-8-sig").splitlines()
        for number, words in enumerate((line.split() for line in lines), start=1):
            if not words:
                continue
            index = whole_number(words[0])
            if len(words) == BOX:
                raise ValueError(f"line {number} is a box and not a mask; export polygons")
            if names and index not in names:
                raise ValueError(f"line {number} is of the class {index}, which has no name")
            corners = corners_of([number_of(word) for word in words[1:]])
            if (abs(corners - 0.5) > 1).any():
                raise ValueError(f"line {number} has coordinates that are not shares of the image, 0 to 1")
            if len(corners) < CORNERS:
                drawing.lines += 1
            else:
                drawing.shapes.append(Shape(names.get(index, str(index)), Shares(corners)))
    return drawing


def _names(root: Path) -> dict[int, str]:
    """Names of the classes from `data.yaml`, or from `classes.txt`; none where neither is there."""
    files = [path for name in ("data.yaml", "data.yml", "dataset.yaml", CLASSES) if (path := root / name).is_file()]
    files += [labels / CLASSES for _, labels in _pairs(root) if (labels / CLASSES).is_file()]
    if not files:
        return {}
    with faults_of(files[0], "YOLO"):
        try:
            text = read_text(files[0], MAX_NAMES)
            found = text.split("\n") if files[0].name == CLASSES else _plain(text)["names"]
        except (OSError, yaml.YAMLError) as error:
            raise ValueError(str(error)) from None
        items = found.items() if isinstance(found, dict) else enumerate(found)
        return {whole_number(index): str(name).strip() for index, name in items if str(name).strip()}


def _plain(text: str) -> Any:
    """YAML without aliases, which can grow without bound."""
    if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
        raise ValueError("it has aliases")
    return yaml.safe_load(text)


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    """Folders of images and the folders of their texts: `images` becomes `labels`, wherever it stands in the path."""
    if not root.is_dir():
        return []
    inner = subfolders(root)
    folders = [*inner, *(below for folder in inner for below in subfolders(folder))]
    found = []
    for folder in folders:
        place = folder.relative_to(root).parts
        if IMAGES in place:
            at = place.index(IMAGES)
            labels = root / PurePath(*place[:at], LABELS, *place[at + 1 :])
            if labels.is_dir():
                found.append((folder, labels))
    return found


def _texts(folder: Path) -> list[Path]:
    return by_parts(path for path in folder.iterdir() if path.suffix == ".txt" and not path.name.startswith("."))
