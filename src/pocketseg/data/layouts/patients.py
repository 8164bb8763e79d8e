"""A folder a patient, each with images and masks in a layout of its own; the folder is the group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pocketseg.data.layouts.listing import MAX_CLASSES, Listing, NamedLayout, subfolders
from pocketseg.data.layouts.naming import Naming
from pocketseg.errors import Problem


class Patients:
    """The layout of data sets with a folder for each patient, in any of the other layouts.

    Fewer folders, or folders without a number in their names, may be classes, and are not taken for patients.
    """

    NAME = "patients"
    LOOKS_LIKE = (
        "PATIENT01/, PATIENT02/ …, each with images/ + masks/, NAME.png + NAME_mask.png, or image.png + mask.png"
    )

    def __init__(self, inner: Mapping[str, NamedLayout]) -> None:
        self.inner = inner

    def matches(self, root: Path, naming: Sequence[Naming] = ()) -> bool:
        folders = subfolders(root) if root.is_dir() else []
        numbered = [folder for folder in folders if any(map(str.isdigit, folder.name))]
        if len(numbered) <= MAX_CLASSES or 2 * len(numbered) <= len(folders):
            return False
        return sum(self._of(folder, naming) is not None for folder in numbered[:8]) > 1

    def find(self, root: Path, naming: Sequence[Naming] = ()) -> Listing:
        whole, others, rules = Listing(), [], dict[str, None]()
        for folder in subfolders(root):
            layout = self._of(folder, naming)
            if layout is None:
                others.append(str(folder))
                continue
            listing = layout.find(folder, naming)
            rules[listing.rule] = None
            whole.problems += listing.problems
            whole.cases += [
                replace(case, name=f"{folder.name}/{case.name}", label=None, group=folder.name, subject=folder.name)
                for case in listing.cases
            ]
        whole.rule = ", ".join(rules)
        if others:
            what = "holds no images with masks, as the folders of the other patients do"
            whole.problems.append(Problem.at(others, what, "complete the folder, or move it away"))
        return whole

    def _of(self, folder: Path, naming: Sequence[Naming]) -> NamedLayout | None:
        return next((layout for layout in self.inner.values() if layout.matches(folder, naming)), None)
