"""What folders of images and folders of masks are usually called."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from pocketseg.data.layouts.listing import holds_images, mirrored_folders, subfolders

IMAGES = (
    "images", "image", "imgs", "img", "scans", "photos", "pictures", "frames", "inputs", "input", "originals",
    "original",
)  # fmt: skip
MASKS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "groundtruth", "groundtruths", "gt", "gts", "seg",
    "segs", "segmentation", "segmentations", "truth", "truths", "targets", "target", "manual", "manual1", "manual2",
    "1stmanual", "2ndmanual", "msk",
)  # fmt: skip


@dataclass(frozen=True)
class Folders:
    """Folders that by their names hold images, and those that hold masks."""

    images: list[Path]
    masks: list[Path]

    def __bool__(self) -> bool:
        return bool(self.images and self.masks)


def usual_folders(root: Path) -> Folders:
    """The folders in a folder that hold images and are called so; more than one of a kind is for the user to decide.

    A whole name (`ground_truth`) goes before one that only ends so (`ISIC2018_Training_GroundTruth`).
    """
    inner = subfolders(root) if root.is_dir() else []
    images, masks = _called(inner, IMAGES), _called(inner, MASKS)
    mirrored = [(one, other) for one in images for other in masks if mirrored_folders(one, other)]
    if mirrored:
        return Folders(
            list(dict.fromkeys(one for one, _ in mirrored)), list(dict.fromkeys(other for _, other in mirrored))
        )
    return _of_one_start([one for one in images if holds_images(one)], [one for one in masks if holds_images(one)])


def _of_one_start(images: list[Path], masks: list[Path]) -> Folders:
    """Of several, those that begin alike (`train_img`, `train_mask` beside `test_img`), where these are one pair."""
    starts = [[(_start(one.name, kinds), one) for one in some] for some, kinds in ((images, IMAGES), (masks, MASKS))]
    pairs = [(image, mask) for begin, image in starts[0] for start, mask in starts[1] if begin == start]
    return Folders([pairs[0][0]], [pairs[0][1]]) if len(pairs) == 1 else Folders(images, masks)


def _start(name: str, kinds: Collection[str]) -> tuple[str, ...]:
    """The words before those that say what a folder holds."""
    words = words_of(name)
    return tuple(words[: next((at for at in range(len(words)) if "".join(words[at:]) in kinds), len(words))])


def _called(folders: Iterable[Path], names: Iterable[str]) -> list[Path]:
    kept, known = list(folders), set(names)
    whole = [folder for folder in kept if plain(folder.name) in known]
    return whole or [folder for folder in kept if ends_as(folder.name, known)]


def ends_as(name: str, kinds: Collection[str]) -> bool:
    """Whether the last words of a name are one of some kinds.

    Example:
        >>> ends_as("ISIC2018_Training_GroundTruth", MASKS), ends_as("unlabelled", MASKS)
        (True, False)
    """
    return len(_start(name, kinds)) < len(words_of(name))


def plain(name: str) -> str:
    """A name without signs and capitals.

    Example:
        >>> plain("Ground_Truth")
        'groundtruth'
    """
    return re.sub(r"[\W_]+", "", name).lower()


def words_of(name: str) -> list[str]:
    """The words of a name, in small letters.

    Example:
        >>> words_of("ISIC2018_TrainingInput")
        ['isic', '2018', 'training', 'input']
    """
    return [word.lower() for word in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|\d+", name)]
