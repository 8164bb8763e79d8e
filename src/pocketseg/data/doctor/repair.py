"""A repaired copy of a data set: what can be corrected without guessing is, the rest is reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketseg.data.annotations.images import base_of
from pocketseg.data.case import Case, FileSource
from pocketseg.data.cases import Cases
from pocketseg.data.doctor.checkup import Checkup
from pocketseg.data.layouts import paths_csv
from pocketseg.data.readers import exif_turn, stored_pixels
from pocketseg.errors import DataError
from pocketseg.files import inside, open_regular, resolved, whole_file, whole_folder, write_atomically
from pocketseg.layers import grid_of
from pocketseg.png import write_png
from pocketseg.tables import csv_text
from pocketseg.text import brief, counted

GROUPS = "groups.csv"
# Of paths, where the data set was one.
TABLE = "cases.csv"
# Its column where groups that the user gave are joined by alike images.
JOINED = "joined"
SIDE_FILES = (".csv", ".json", ".txt", ".md")
WHITE = np.uint8(255)


@dataclass(repr=False)
class Repaired:
    """What a repair did.

    Attributes:
        out: the copy.
        done: (file, what was done to it).
        left_out: (file, why it is not in the copy).
        cases: number of cases in the copy.
        groups: the group file, where one was written.
    """

    out: Path
    done: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    cases: int = 0
    groups: Path | None = None

    def __repr__(self) -> str:
        changes = f"{counted(len(self.done), 'file')} repaired, {len(self.left_out):,} left out"
        return brief(self, f"{counted(self.cases, 'case')} in {self.out}; {changes}")


def repair(cases: Cases, found: Checkup, out: Path, progress: Callable[[int, int], None] | None = None) -> Repaired:
    """Write a repaired copy in the layout of the original; the original is only read.

    A folder that lies outside of the data set becomes one of its name in the copy. What a link leads to outside of the
    data set is left out, unless links were to be followed.

    Images are turned as their EXIF says; masks of one class are stored as 0 and 255, transposed ones turned; of equal
    images with equal masks one is kept; what cannot be read is left out; a group file keeps alike images together.
    Groups that the user gave stay as they are there; a column beside them joins those with alike images.

    Args:
        cases, found: the data set, and what the doctor found.
        out: new or empty folder outside of the data set.

    Raises:
        DataError: out exists, or lies in the data set; or two files would become one.
        EnvironmentProblem: it cannot be written.
    """
    check_out(cases.root, out)
    made = Repaired(out)
    with whole_folder(out) as temporary:
        _Copy(cases, found, temporary, made).write(progress)
    if made.groups is not None:
        made.groups = out / made.groups.name
    return made


def check_out(root: Path, out: Path) -> None:
    """Refuse an output that would change something that is there."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(str(out), "already exists", "choose another name for --fix")
    if resolved(out).is_relative_to(resolved(root)):
        raise DataError(str(out), "lies in the data set itself", "choose a folder beside it for --fix")


class _Copy:
    def __init__(self, cases: Cases, found: Checkup, out: Path, made: Repaired) -> None:
        self.cases, self.found, self.out, self.made = cases, found, out, made
        self.base = base_of(cases.root)
        self.links = {Path(file) for each in found.findings if each.code == "link" for file in each.files}
        self.written: set[Path] = set()
        self.sources: dict[Path, Path] = {}
        self.folders: dict[Path, str] = {}
        # Where each file of a case lies in the copy.
        self.targets: dict[Path, Path] = {}

    def write(self, progress: Callable[[int, int], None] | None) -> None:
        dropped = dict(self._superfluous())
        kept = []
        for done, case in enumerate(self.cases, start=1):
            if case.name in dropped:
                self.made.left_out.append((case.image.where, f"the same image and mask as {dropped[case.name]}"))
            elif self._linked(case):
                self.made.left_out.append((case.image.where, "is reached by a link to a place outside of the data set"))
            elif self._case(case):
                kept.append(case.name)
            if progress:
                progress(done, len(self.cases))
        self.made.cases = len(kept)
        self._side_files()
        if self.cases.layout == paths_csv.NAME:
            self._table(kept)
        if self.found.clusters:
            self._groups(kept)

    def _superfluous(self) -> Iterator[tuple[str, str]]:
        """Cases that equal an earlier one in image, mask and class, where they have files of their own."""
        table = {case.name: case for case in self.cases}
        for names in self.found.duplicates:
            kept: list[Case] = []
            for case in (table[name] for name in names if isinstance(table[name].image, FileSource)):
                mask = self.cases.mask(case)
                same = (other for other in kept if other.label == case.label)
                first = next((other for other in same if np.array_equal(self.cases.mask(other), mask)), None)
                if first is None:
                    kept.append(case)
                else:
                    yield case.name, first.name

    def _linked(self, case: Case) -> bool:
        """Whether a link that is not to be followed leads to a file of the case."""
        files = (file for source in (case.image, *case.masks) for file in source.files)
        return any(not self.links.isdisjoint((file, file.parent)) for file in files)

    def _case(self, case: Case) -> bool:
        """Copy one case, corrected where that takes no guess; whether it is whole."""
        readable = case.name in self.found.readable
        if not all(type(source) is FileSource for source in (case.image, *case.masks)):
            if not readable:
                self.made.left_out.append((case.image.where, "cannot be read; its file is copied as it is"))
            for source in (case.image, *case.masks):
                self._copy(source.files)
            return readable
        try:
            masks = [self._corrected(case, source.path) for source in case.masks]
        except DataError as error:
            self.made.left_out += [(problem.where, problem.what) for problem in error.problems]
            return False
        turned = exif_turn(case.image.path) is not None
        if turned:
            self._png(case.image.path, case.image.image())
            self.made.done.append((case.image.where, "turned as its EXIF says"))
        else:
            self._copy(case.image.files)
        for source, (mask, changes) in zip(case.masks, masks, strict=True):
            if changes:
                self._png(source.path, mask * WHITE if self.cases.coding.classes == 1 else mask)
                self.made.done.append((source.where, changes))
            else:
                self._copy(source.files)
        if case.weights is not None:
            self._copy((case.weights,))
        return True

    def _corrected(self, case: Case, path: Path) -> tuple[NDArray[np.uint8], str]:
        """A mask as class indices, and what was done to it; nothing where it can be copied.

        Raises:
            DataError: it, or its image, cannot be read, and there is no fixing without a guess.
        """
        coding, shape, changes = self.cases.coding, case.image.image().shape[:2], []
        if coding.multilabel:
            return self._planes(path, shape), ""
        try:
            stored = FileSource(path).mask(gray=coding.threshold is not None, colors=coding.color_rule)
            mask = coding.decode(stored, str(path))
            plain = mask * WHITE if coding.classes == 1 else mask
            if stored.dtype != bool and not np.array_equal(stored, plain):
                changes.append("stored as 0 and 255" if coding.classes == 1 else "stored as class indices")
        except DataError:
            found = _one_color(path) if coding.classes == 1 else None
            if found is None:
                raise
            mask = found
            changes.append("its one color, or what is not transparent, is the foreground now")
        if mask.shape != shape:
            if mask.shape != shape[::-1]:
                raise DataError(str(path), "does not have its image's size")
            turn = exif_turn(case.image.path) or Image.Transpose.TRANSPOSE
            mask = np.asarray(Image.fromarray(mask).transpose(turn))
            changes.append("turned to its image")
        return mask, ", ".join(changes)

    def _planes(self, path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Planes of classes that may overlap, which are copied as they are.

        Raises:
            DataError: they cannot be read, or are not on the grid of their image; nothing is corrected in them.
        """
        coding = self.cases.coding
        source = FileSource(path, planes=coding.layers is None)
        mask = coding.decode(source.mask(gray=coding.threshold is not None, colors=coding.color_rule), str(path))
        if grid_of(mask) != shape:
            raise DataError(str(path), "does not have its image's size")
        return mask

    def _target(self, path: Path, suffix: str | None = None) -> Path:
        """Where a file goes in the copy: as it lies in the data set, or in a folder that is called as its own.

        Raises:
            DataError: another file goes there too.
        """
        place = self._place(path)
        target = inside(self.out, place if suffix is None else place.with_suffix(suffix))
        other = self.sources.setdefault(target, path)
        if other != path:
            raise DataError(str(path), f"would replace {other} in the copy", "rename one of them")
        self.targets[path] = target
        return target

    def _place(self, path: Path) -> Path:
        # A folder may be given as `../masks`, which lies in the data set by its letters alone.
        real = resolved(path.parent) / path.name
        for file, base in ((path, self.base), (real, resolved(self.base))):
            if file.is_relative_to(base) and ".." not in file.relative_to(base).parts:
                return file.relative_to(base)
        return Path(self._folder(real.parent)) / path.name

    def _folder(self, folder: Path) -> str:
        """What a folder outside of the data set is called in the copy: its name, with a number where that is taken."""
        if folder not in self.folders:
            stem, number = folder.name or "outside", 1
            name = stem
            while name in self.folders.values() or (self.base / name).exists():
                number += 1
                name = f"{stem}-{number}"
            self.folders[folder] = name
            self.made.done.append(
                (str(folder), f"is the folder {name} of the copy; name it in data.images or data.masks")
            )
        return self.folders[folder]

    def _copy(self, files: tuple[Path, ...]) -> None:
        for path in files:
            if path not in self.written and path.is_file():
                target = self._target(path)
                with open_regular(path) as original, whole_file(target) as part, part.open("wb") as copy:
                    shutil.copyfileobj(original, copy)
            self.written.add(path)

    def _png(self, path: Path, pixels: NDArray[np.generic]) -> None:
        write_png(self._target(path, ".png"), pixels)
        self.written.add(path)

    def _side_files(self) -> None:
        """Tables and notes beside the cases."""
        base = resolved(self.base)
        for path in sorted(self.base.rglob("*")) if self.cases.root.is_dir() else ():
            if path.suffix.lower() not in SIDE_FILES or path.name.startswith("."):
                continue
            if self.cases.layout == paths_csv.NAME and paths_csv.matches(path):
                continue  # of the files as they were called
            if path.is_symlink() and not resolved(path).is_relative_to(base):
                self.made.left_out.append((str(path), "is a link to a place outside of the data set"))
            else:
                self._copy((path,))

    def _table(self, kept: list[str]) -> None:
        """The table of paths of the copy."""
        cases = self.cases.named(kept)
        rows = paths_csv.rows(cases, lambda path: self.targets.get(path, path).relative_to(self.out).as_posix())
        write_atomically(self.out / TABLE, csv_text(rows))

    def _groups(self, kept: list[str]) -> None:
        name = GROUPS if not (self.out / GROUPS).exists() else f"doctor_{GROUPS}"
        columns = {"group": self.found.groups()}
        if self.found.groups_given:
            columns[JOINED] = self.found.joined()
        rows = [("case", *columns), *((case, *(groups[case] for groups in columns.values())) for case in kept)]
        write_atomically(self.out / name, csv_text(rows))
        self.made.groups = self.out / name


def _one_color(path: Path) -> NDArray[np.uint8] | None:
    """The foreground of a mask in one color on black, or in an alpha channel of two values alone."""
    values = stored_pixels(path)
    if values.ndim != 3:
        return None
    if values.shape[2] in (2, 4):
        alpha, colors = values[:, :, -1], values[:, :, :-1]
        if set(np.unique(alpha).tolist()) == {0, 255} and (colors == colors[:1, :1]).all():
            opaque: NDArray[np.uint8] = np.equal(alpha, 255).astype(np.uint8)
            return opaque
        return None
    flat = np.unique(values.reshape(-1, values.shape[2]), axis=0)
    if len(flat) == 2 and not flat[0].any():
        colored: NDArray[np.uint8] = np.any(values != 0, axis=2).astype(np.uint8)
        return colored
    return None
