"""Parts that a data set came with: `train/`, `val/`, `test/`, each in a layout of its own, or two folders a part.

What is in a part is found as it would be alone. A part without masks is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from pocketseg.data.layouts.listing import Listing, join_parts, pair_folders, subfolders

PARTS = {
    "train": ("train", "training", "tr"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "ts"),
}
IMAGES = ("images", "image", "imgs", "img")
MASKS = ("masks", "mask", "labels", "label", "annotations")

# Lists the cases of a part when it is asked.
Found = Callable[[], Listing]


class Inner(Protocol):
    """A layout of one part."""

    def matches(self, root: Path) -> bool: ...

    def find(self, root: Path) -> Listing: ...


class Parts:
    """The layout of data sets in parts, in any of the other layouts."""

    NAME = "parts"
    LOOKS_LIKE = "train/, val/, test/, each in another layout; or images/train + masks/train; or train_img + train_mask"

    def __init__(self, inner: Mapping[str, Inner]) -> None:
        self.inner = inner

    def matches(self, root: Path) -> bool:
        found = self._listings(root)
        return "train" in found and len(found) > 1

    def find(self, root: Path) -> Listing:
        return join_parts({part: listing() for part, listing in self._listings(root).items()})

    def _listings(self, root: Path) -> dict[str, Found]:
        """How to list each part that is there, in the order of `PARTS`."""
        folders = {folder.name.lower(): folder for folder in (subfolders(root) if root.is_dir() else [])}
        found = {part: self._listing(folders, names) for part, names in PARTS.items()}
        return {part: listing for part, listing in found.items() if listing is not None}

    def _listing(self, folders: Mapping[str, Path], names: tuple[str, ...]) -> Found | None:
        for name in names:
            if name in folders and (listing := self._inside(folders[name])):
                return listing
            images = _first(folders, [f"{name}{sign}{kind}" for sign in "_-" for kind in IMAGES])
            masks = _first(folders, [f"{name}{sign}{kind}" for sign in "_-" for kind in MASKS])
            if images is None or masks is None:
                images, masks = _below(folders, IMAGES, name), _below(folders, MASKS, name)
            if images is not None and masks is not None:
                return partial(pair_folders, images, masks)
        return None

    def _inside(self, folder: Path) -> Found | None:
        layout = next((layout for layout in self.inner.values() if layout.matches(folder)), None)
        if layout is not None:
            return partial(layout.find, folder)
        folders = {inside.name.lower(): inside for inside in subfolders(folder)}
        images, masks = _first(folders, IMAGES), _first(folders, MASKS)
        return partial(pair_folders, images, masks) if images is not None and masks is not None else None


def _first(folders: Mapping[str, Path], names: list[str] | tuple[str, ...]) -> Path | None:
    return next((folders[name] for name in names if name in folders), None)


def _below(folders: Mapping[str, Path], kinds: tuple[str, ...], part: str) -> Path | None:
    """The folder of a part inside of that of all images, or of all masks."""
    inside = (folder for kind in kinds if kind in folders for folder in subfolders(folders[kind]))
    return next((folder for folder in inside if folder.name.lower() == part), None)
