"""Medical Segmentation Decathlon and nnU-Net: `imagesTr`, `labelsTr`, `dataset.json`.

Files NAME_0000, NAME_0001, … of nnU-Net are the channels of one image.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from pocketseg.data.case import Case, ChannelSource, FileSource
from pocketseg.data.layouts.listing import Listing, by_stem, images_and_series, pair_folders
from pocketseg.data.readers import stem_of
from pocketseg.errors import Problem

NAME = "medical-decathlon"
LOOKS_LIKE = "imagesTr/NAME.nii.gz (or NAME_0000.nii.gz) + labelsTr/NAME.nii.gz"
CHANNEL = re.compile(r"(?P<name>.+)_(?P<channel>\d{4})", re.DOTALL)


def matches(root: Path) -> bool:
    return (root / "imagesTr").is_dir() and (root / "labelsTr").is_dir()


def find(root: Path) -> Listing:
    images, masks = root / "imagesTr", root / "labelsTr"
    if not images.is_dir() or not masks.is_dir():
        return pair_folders(images, masks)
    listing = Listing()
    labels = by_stem(images_and_series(masks), listing.problems)
    channels: dict[str, list[Path]] = defaultdict(list)
    for path in images_and_series(images):
        match = CHANNEL.fullmatch(stem_of(path))
        named = match is not None and stem_of(path) not in labels
        channels[match["name"] if match and named else stem_of(path)].append(path)
    usual = max((_endings(name, paths) for name, paths in channels.items()), key=len, default=())
    for name, paths in channels.items():
        endings = _endings(name, paths)
        if name in labels and endings != usual:
            what = f"has the files {_named(name, endings)}, others have NAME + {_named('', usual)}"
            listing.problems.append(Problem(str(paths[0]), what, "give every image the same channels"))
            labels.pop(name)
        elif name in labels:
            parts = tuple(FileSource(path) for path in paths)
            image = parts[0] if len(parts) == 1 else ChannelSource(parts, endings)
            listing.cases.append(Case(name, image, (FileSource(labels.pop(name)),)))
        else:
            what = f"has no label in {masks}"
            listing.problems.append(Problem(str(paths[0]), what, f"add {name}, or remove the image"))
    for name in labels:
        what = f"has no image in {images}"
        listing.problems.append(Problem(str(labels[name]), what, "add the image, or remove the label"))
    return listing


def _endings(name: str, paths: Sequence[Path]) -> tuple[str, ...]:
    """What the stems of an image's files add to its name."""
    return tuple(stem_of(path).removeprefix(name) for path in paths)


def _named(name: str, endings: Sequence[str]) -> str:
    return ", ".join(f"{name}{ending}" for ending in endings) or name
