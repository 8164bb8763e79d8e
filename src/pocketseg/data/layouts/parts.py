"""Parts that a data set came with: `train/`, `val/`, `test/`, each in a layout of its own, or two folders a part.

What is in a part is found as it would be alone. A part without masks is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from pocketseg.data.layouts.listing import Layout, Listing, NamedLayout, join_parts, pair_folders, subfolders
from pocketseg.data.layouts.naming import Naming
from pocketseg.data.layouts.usual import IMAGES, MASKS, ends_as, plain, words_of

PARTS = {
    "train": ("train", "training", "tr"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "ts"),
}

# Lists the cases of a part when it is asked.
Found = Callable[[], Listing]


class Parts:
    """The layout of data sets in parts, in any of the other layouts; `naming` is for those in `named` of them."""

    NAME = "parts"
    LOOKS_LIKE = "train/, val/, test/, each in another layout; or images/train + masks/train; or train_img + train_mask"

    def __init__(self, inner: Mapping[str, Layout], named: Mapping[str, NamedLayout]) -> None:
        self.inner = inner
        self.named = named

    def matches(self, root: Path, naming: Sequence[Naming] = ()) -> bool:
        found = self._listings(root, naming)
        return "train" in found and len(found) > 1

    def find(self, root: Path, naming: Sequence[Naming] = ()) -> Listing:
        return join_parts({part: listing() for part, listing in self._listings(root, naming).items()})

    def _listings(self, root: Path, naming: Sequence[Naming]) -> dict[str, Found]:
        """How to list each part that is there, in the order of `PARTS`."""
        folders = {folder.name.lower(): folder for folder in (subfolders(root) if root.is_dir() else [])}
        found = {part: self._listing(folders, names, naming) for part, names in PARTS.items()}
        return {part: listing for part, listing in found.items() if listing is not None}

    def _listing(self, folders: Mapping[str, Path], names: tuple[str, ...], naming: Sequence[Naming]) -> Found | None:
        for name in names:
            if name in folders and (listing := self._inside(folders[name], naming)):
                return listing
            images, masks = (_of_part(folders, name, kinds) for kinds in (IMAGES, MASKS))
            if images is None or masks is None:
                images, masks = _below(folders, IMAGES, name), _below(folders, MASKS, name)
            if images is not None and masks is not None:
                return partial(pair_folders, images, masks, naming)
        return None

    def _inside(self, folder: Path, naming: Sequence[Naming]) -> Found | None:
        if naming:
            named = next((layout for layout in self.named.values() if layout.matches(folder, naming)), None)
            return None if named is None else partial(named.find, folder, naming)
        layout = next((layout for layout in self.inner.values() if layout.matches(folder)), None)
        return None if layout is None else partial(layout.find, folder)


def _of_part(folders: Mapping[str, Path], part: str, kinds: Sequence[str]) -> Path | None:
    """The folder `train_img`, `trainmasks` or `ISIC2018_Training_GroundTruth` of a part."""
    wanted = {part + kind for kind in kinds}
    exact = [folder for name, folder in folders.items() if plain(name) in wanted]
    named = [folder for folder in folders.values() if part in words_of(folder.name) and ends_as(folder.name, kinds)]
    return exact[0] if exact else named[0] if len(named) == 1 else None


def _below(folders: Mapping[str, Path], kinds: Sequence[str], part: str) -> Path | None:
    """The folder of a part inside of that of all images, or of all masks."""
    inside = (folder for name, outer in folders.items() if plain(name) in kinds for folder in subfolders(outer))
    return next((folder for folder in inside if folder.name.lower() == part), None)
