"""Medical Segmentation Decathlon and nnU-Net: `imagesTr`, `labelsTr`, `dataset.json`.

Files NAME_0000, NAME_0001, … of nnU-Net are the channels of one image. `imagesTs` with `labelsTs` are the test part.
`dataset.json` names classes, and says how many channels there are.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pocketseg.data.case import Case, ChannelSource, FileSource
from pocketseg.data.layouts.listing import Listing, by_stem, images_and_series, join_parts, pair_folders
from pocketseg.data.readers import stem_of
from pocketseg.errors import DataError, Problem
from pocketseg.files import read_text

NAME = "medical-decathlon"
LOOKS_LIKE = "imagesTr/NAME.nii.gz (or NAME_0000.nii.gz) + labelsTr/NAME.nii.gz, names of classes in dataset.json"
CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})", re.DOTALL)
TABLE = "dataset.json"


def matches(root: Path) -> bool:
    return (root / "imagesTr").is_dir() and (root / "labelsTr").is_dir()


def find(root: Path) -> Listing:
    try:
        said = _said(root / TABLE)
    except DataError as error:
        return Listing(problems=error.problems)
    channels = len(said.get("channel_names") or said.get("modality") or {})
    listing = _part(root / "imagesTr", root / "labelsTr", channels)
    if (root / "imagesTs").is_dir() and (root / "labelsTs").is_dir():
        listing = join_parts({"train": listing, "test": _part(root / "imagesTs", root / "labelsTs", channels)})
    listing.classes = _classes(said.get("labels"))
    return listing


def _said(path: Path) -> dict[str, Any]:
    """What `dataset.json` says; nothing where there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_text(path))
        if not isinstance(content, dict) or not isinstance(content.get("labels", {}), dict):
            raise ValueError("it is not an object with labels")
    except (OSError, ValueError, RecursionError) as error:
        what = f"is not a description of a data set ({error})"
        raise DataError(str(path), what, "restore it from a copy, or remove it") from None
    return content


def _classes(labels: Any) -> tuple[str, ...]:
    """Names of the classes 1, 2, …, of either way of writing them; none where labels are regions, or have gaps."""
    try:
        named = {int(key): str(value) for key, value in (labels or {}).items() if str(key).isdecimal()}
        named |= {int(value): str(key) for key, value in (labels or {}).items() if not str(key).isdecimal()}
    except (TypeError, ValueError):
        return ()
    return tuple(named[index] for index in range(1, len(named))) if set(named) == set(range(len(named))) else ()


def _part(images: Path, masks: Path, channels: int) -> Listing:
    if not images.is_dir() or not masks.is_dir():
        return pair_folders(images, masks)
    listing = Listing(rule="NAME of NAME_0000, NAME_0001 …")
    labels = by_stem(images_and_series(masks), listing.problems)
    files: dict[str, list[Path]] = defaultdict(list)
    for path in images_and_series(images):
        match = CHANNEL.fullmatch(stem_of(path))
        named = match is not None and stem_of(path) not in labels
        files[match["name"] if match and named else stem_of(path)].append(path)
    usual = max((_endings(name, paths) for name, paths in files.items()), key=len, default=())
    alone: list[str] = []
    for name, paths in files.items():
        endings = _endings(name, paths)
        if name not in labels:
            alone.append(str(paths[0]))
        elif endings != usual:
            what = f"has the files {_named(name, endings)}, others have NAME + {_named('', usual)}"
            listing.problems.append(Problem(str(paths[0]), what, "give every image the same channels"))
            labels.pop(name)
        else:
            parts = tuple(FileSource(path) for path in paths)
            image = parts[0] if len(parts) == 1 else ChannelSource(parts, endings)
            listing.cases.append(Case(name, image, (FileSource(labels.pop(name)),)))
    if channels and len(usual) > 1 and len(usual) != channels:
        what = f"names {channels} channels, and images have {len(usual)} files each ({_named('', usual)})"
        listing.problems.append(Problem(str(images.parent / TABLE), what, "correct it, or add the files"))
    listing.problems += _unpaired(alone, len(files), "image", f"has no label in {masks}")
    listing.problems += _unpaired([str(path) for path in labels.values()], 0, "label", f"has no image in {images}")
    return listing


def _unpaired(files: Sequence[str], count: int, kind: str, what: str) -> list[Problem]:
    """One problem for all that have no partner."""
    if len(files) > 1:
        what = f"{len(files):,}{f' of {count:,}' if count else ''} {kind}s {what.replace('has', 'have', 1)}"
    return [Problem.at(files, what, f"add it, or remove the {kind}")] if files else []


def _endings(name: str, paths: Sequence[Path]) -> tuple[str, ...]:
    """What the stems of an image's files add to its name."""
    return tuple(stem_of(path).removeprefix(name) for path in paths)


def _named(name: str, endings: Sequence[str]) -> str:
    return ", ".join(f"{name}{ending}" for ending in endings) or name
