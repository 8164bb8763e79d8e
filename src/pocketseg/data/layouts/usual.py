"""What folders of images and folders of masks are usually called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
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
    return Folders([one for one in images if holds_images(one)], [one for one in masks if holds_images(one)])


def _called(folders: Iterable[Path], names: Iterable[str]) -> list[Path]:
    known = set(names)
    ways: tuple[Callable[[str], bool], ...] = (
        lambda name: plain(name) in known,
        lambda name: any(plain("".join(words[at:])) in known for words in [words_of(name)] for at in range(len(words))),
    )
    kept = list(folders)
    return next((found for fits in ways if (found := [folder for folder in kept if fits(folder.name)])), [])


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
