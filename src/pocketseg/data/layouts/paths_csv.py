"""A table of paths: `image,mask[,group,split]`, one row a case, relative to the table or absolute.

The way that always works, however files are called. `image_1, image_2` are channels of one image, `mask_1, mask_2` the
masks of raters.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pocketseg.data.annotations.reading import head_of
from pocketseg.data.case import Case, ChannelSource, FileSource, Source
from pocketseg.data.layouts.arrays import is_name
from pocketseg.data.layouts.listing import Listing, has_pixels
from pocketseg.data.layouts.parts import PARTS
from pocketseg.data.layouts.usual import plain
from pocketseg.data.readers import stem_of
from pocketseg.data.volumes import dicom_files
from pocketseg.errors import DataError, Problem, named, near
from pocketseg.files import MAX_TEXT, read_file
from pocketseg.tables import csv_rows, separator

NAME = "paths-csv"
COLUMNS = "with the columns image,mask[,group,split]"
LOOKS_LIKE = f"cases.csv {COLUMNS} of paths, relative to it or absolute"
IMAGES = ("image", "images", "img", "scan", "input", "imagepath", "imagefile", "imgpath", "imagefilename", "imagename",
          "filename", "file", "path")  # fmt: skip
MASKS = (
    "mask", "masks", "label", "labels", "seg", "segmentation", "annotation", "gt", "groundtruth", "target", "reference",
    "maskpath", "maskfile", "labelpath", "labelfile", "segpath", "segmentationpath", "maskfilename", "maskname",
)  # fmt: skip
GROUPS = ("group", "groupid", "patient", "patientid", "subject", "subjectid")
SPLITS = ("split", "part", "set", "subset", "partition")
NAMES = ("case", "name", "id", "caseid")
WORDS = {word: part for part, words in PARTS.items() for word in words}


@dataclass(frozen=True)
class Columns:
    """Where what stands in a table; several images are channels, several masks those of raters."""

    images: list[int] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    raters: tuple[str, ...] = ()
    group: int | None = None
    split: int | None = None
    name: int | None = None


def matches(root: Path) -> bool:
    """Whether a file is such a table, or a folder holds just one."""
    return _is_table(root) if root.is_file() else len(_tables(root)) == 1


def _tables(root: Path) -> list[Path]:
    files = sorted(root.glob("*.[cC][sS][vV]")) if root.is_dir() else []
    return [path for path in files if path.is_file() and _is_table(path)]


def _is_table(path: Path) -> bool:
    """Whether columns of images and masks are there, and hold names of files and not, say, run lengths."""
    if path.suffix.lower() != ".csv":
        return False
    try:
        rows = _rows(head_of(path).decode("utf-8-sig", "surrogateescape"))
        columns = _columns(rows[0])
        first = next(row for row in rows[1:] if any(row))
        cells = [Path(first[at]) for at in (columns.images[0], columns.masks[0])]
    except (OSError, csv.Error, IndexError, StopIteration):
        return False
    return all(_may_be_image(path.parent, cell) for cell in cells)


def _may_be_image(base: Path, cell: Path) -> bool:
    return has_pixels(cell) or (str(cell) not in ("", ".") and is_there(base / cell))


def is_there(path: Path) -> bool:
    """Whether something is there; not where the name is one that no file can have."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _rows(text: str) -> list[list[str]]:
    """Cells without blanks around them; the sign between them is the one that the header has most of."""
    return csv_rows(text, separator(text), strip=True)


def header(path: Path) -> list[str]:
    """The cells of a table's first line; none where it cannot be read."""
    try:
        return next(iter(_rows(head_of(path).decode("utf-8-sig", "surrogateescape"))), [])
    except csv.Error:
        return []


def _columns(header: Sequence[str]) -> Columns:
    names = [plain(name) for name in header]
    images, masks = _numbered(names, IMAGES), _numbered(names, MASKS)
    raters = tuple(header[at].strip() for at in masks) if len(masks) > 1 else ()
    return Columns(images, masks, raters, *(_first(names, known) for known in (GROUPS, SPLITS, NAMES)))


def _numbered(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """The columns of a name, or of a name with numbers or raters: mask1, mask2; mask_r1, mask_r2."""
    for name in known:
        if name in names:
            return [names.index(name)]
    pattern = re.compile(rf"({'|'.join(known)})(r|rater|reader|observer)?(\d+|[a-f])")
    return [at for at, name in enumerate(names) if pattern.fullmatch(name)]


def _first(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def find(root: Path) -> Listing:
    """The cases of a table; what is wrong with its rows is one problem a kind, with line numbers."""
    path = root
    if not root.is_file():
        tables = _tables(root)
        if len(tables) != 1:
            what = f"holds {len(tables)} tables of paths ({named([table.name for table in tables])})" if tables else ""
            raise DataError(str(root), what or f"holds no table {LOOKS_LIKE}", "give the file itself as --data")
        (path,) = tables
    try:
        text = read_file(path, MAX_TEXT).decode("utf-8-sig", "surrogateescape")
        rows = [(number, row) for number, row in enumerate(_rows(text), start=1) if any(row)]
    except (OSError, csv.Error) as error:
        raise DataError(str(path), f"cannot be read as CSV ({error})", "save it as CSV with a header") from error
    columns = _columns(rows[0][1]) if rows else Columns()
    if not columns.images or not columns.masks:
        have = ", ".join(rows[0][1][:10]) if rows else "(none)"
        what = f"has the columns {have}; a table of paths has image and mask, one of run lengths image_id and rle"
        raise DataError(str(path), what, "name the columns so in the first line")
    return _Table(path, columns).listing(rows[1:])


def rows(cases: Sequence[Case], place: Callable[[Path], str]) -> list[list[str]]:
    """A table of cases; `place` says how a path is written."""
    if not cases:
        return []
    first = cases[0]
    channels = len(_parts(first.image))
    images = ["image"] if channels == 1 else [f"image_{number}" for number in range(1, channels + 1)]
    masks = ["mask"] if len(first.masks) == 1 else [f"mask_{number}" for number in range(1, len(first.masks) + 1)]
    table = [[*images, *masks, "name", "group", "split"]]
    for case in cases:
        files = [place(source.path) for source in (*_parts(case.image), *case.masks)]
        table.append([*files, case.name, case.group or case.name, case.part or ""])
    return table


def _parts(image: Source) -> tuple[Source, ...]:
    return image.parts if isinstance(image, ChannelSource) else (image,)


class _Table:
    """The rows of one table."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path, self.columns = path, columns
        self.faults: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)

    def listing(self, rows: Sequence[tuple[int, list[str]]]) -> Listing:
        cases = [case for number, row in rows for case in self._case(number, row)]
        parts = {case.part for _, case in cases}
        for number, case in cases:
            if case.part is None and len(parts) > 1:
                self._fault(number, case.image.path.name, "has no part, others have", "write train, val or test")
        for number, name in self._twice(cases):
            self._fault(number, name, "the same image or name as a line before", "keep one of them")
        names = _names([case for _, case in cases], self.path.parent, given=self.columns.name is not None)
        listing = Listing([replace(case, name=name) for (_, case), name in zip(cases, names, strict=True)])
        for (what, fix), found in self.faults.items():
            lines = named([f"line {number} ({text})" if text else f"line {number}" for number, text in found])
            places = [f"{self.path}:{number}" for number, _ in found]
            listing.problems.append(Problem(str(self.path), f"{lines}: {what}", fix, files=tuple(places)))
        return listing

    def _fault(self, number: int, text: str, what: str, fix: str) -> None:
        self.faults[what, fix].append((number, text))

    def _cell(self, row: Sequence[str], column: int | None) -> str:
        return "" if column is None or column >= len(row) else row[column]

    def _case(self, number: int, row: list[str]) -> Iterator[tuple[int, Case]]:
        before = sum(map(len, self.faults.values()))
        images = [self._file(number, self._cell(row, at), "image") for at in self.columns.images]
        masks = [self._file(number, self._cell(row, at), "mask") for at in self.columns.masks]
        word, part = self._cell(row, self.columns.split).lower(), None
        if word and (part := WORDS.get(word)) is None:
            self._fault(number, word, "is not a part of a split", f"write train, val or test; {near(word, WORDS)}")
        group = self._cell(row, self.columns.group)
        if self.columns.group is not None and not group:
            self._fault(number, "", "has no group", "fill the column, or remove it")
        name = self._cell(row, self.columns.name)
        if name and not is_name(name):
            self._fault(number, repr(name), "is not a name of a file", "correct the name")
        if sum(map(len, self.faults.values())) > before:
            return
        found = tuple(FileSource(path) for path in images if path)
        image: Source = found[0] if len(found) == 1 else ChannelSource(found)
        sources = tuple(FileSource(path) for path in masks if path)
        yield number, Case(name, image, sources, group=group, part=part, raters=self.columns.raters)

    def _file(self, number: int, cell: str, kind: str) -> Path | None:
        path = self.path.parent / cell
        if not cell:
            self._fault(number, "", f"names no {kind}", "fill the cell, or remove the line")
        elif not is_there(path):
            self._fault(
                number, cell, f"the {kind} does not exist", f"paths are relative to {self.path.parent}, or absolute"
            )
        elif path.is_dir() and not dicom_files(path):
            self._fault(number, cell, f"the {kind} is a folder without DICOM files", "name a file, or one series")
        else:
            return path
        return None

    def _twice(self, cases: Sequence[tuple[int, Case]]) -> Iterator[tuple[int, str]]:
        seen: Counter[tuple[str, object]] = Counter()
        for number, case in cases:
            keys = [("image", case.image.files), *([("name", case.name)] if case.name else [])]
            if any(seen[key] for key in keys):
                yield number, case.name or case.image.path.name
            seen.update(keys)


def _names(cases: Sequence[Case], base: Path, *, given: bool) -> list[str]:
    """Names of cases: those of the table, else stems, with their folders where two are the same."""
    if given and all(case.name for case in cases):
        return [case.name for case in cases]
    stems = [stem_of(case.image.path) for case in cases]
    if len(set(stems)) == len(stems):
        return stems
    paths = [case.image.path for case in cases]
    inside = [path.relative_to(base) if path.is_relative_to(base) else path.relative_to(path.anchor) for path in paths]
    longer = [(path.parent / stem_of(path)).as_posix() for path in inside]
    return longer if len(set(longer)) == len(longer) else [path.as_posix() for path in inside]
