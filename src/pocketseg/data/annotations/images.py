"""Images found by the names that annotations call them, and the cases that the two make."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pocketseg.data.annotations.drawing import AnnotationSource, Drawing
from pocketseg.data.case import Case, FileSource
from pocketseg.data.layouts.listing import Listing, image_files, natural_key, subfolders
from pocketseg.data.readers import stem_of
from pocketseg.errors import DataError, Problem, named
from pocketseg.text import counted

SUFFIXES = (".json", ".xml", ".csv")
# Folders below the data set that are looked into.
DEPTH = 4
PARTS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Annotated:
    """One image as a file of annotations calls it, and what is drawn on it.

    Attributes:
        file: the file of annotations.
        image: the name, perhaps with folders of another machine.
        drawing: the shapes.
    """

    file: Path
    image: str
    drawing: Drawing


def base_of(root: Path) -> Path:
    """The folder that holds images and annotations; of a file in `annotations/` the one above."""
    if root.is_dir():
        return root
    inner = root.suffix.lower() in SUFFIXES and root.parent.name.lower() in ("annotations", "labels")
    return root.parent.parent if inner else root.parent


def files_of(root: Path, suffix: str) -> list[Path]:
    """The file itself, or the files of a suffix in a folder and in those inside of it, in natural order."""
    if not root.is_dir():
        return [root] if root.is_file() and root.suffix.lower() == suffix else []
    folders = [root, *subfolders(root)]
    found = [path for folder in folders for path in folder.iterdir() if path.suffix.lower() == suffix]
    kept = [path for path in found if not path.name.startswith(".") and path.is_file()]
    return sorted(kept, key=lambda path: natural_key(path.as_posix()))


def first_matching(root: Path, suffix: str, fits: Callable[[Path], bool]) -> bool:
    """Whether any of the first files of a suffix is of a kind: a folder of them is of one kind, but for a few."""
    try:
        return any(fits(path) for path in files_of(root, suffix)[:8])
    except OSError:
        return False


def part_of(file: Path, base: Path) -> str | None:
    """The part of a split that a file's name, or a folder it lies in, says."""
    names = [stem_of(file)] + [folder.name for folder in file.parents if folder.is_relative_to(base) and folder != base]
    for name in names:
        for word in re.split(r"[^a-z]+", name.lower()):
            if word in PARTS:
                return PARTS[word]
    return None


def cases_of(
    files: Sequence[Path],
    read: Callable[[Path], Iterable[Annotated]],
    root: Path,
    missing: str,
    *,
    hint: str | None = None,
) -> Listing:
    """The cases of several files; what is wrong with one hides nothing of the others.

    Args:
        files: of annotations.
        read: what one of them says; raises DataError.
        root: the data set.
        missing: what is wrong where there is no file.
        hint: what to do where a shape cannot be painted.
    """
    annotated: list[Annotated] = []
    problems = [] if files else [Problem(str(base_of(root)), missing, "put it there")]
    for file in files:
        try:
            annotated += read(file)
        except DataError as error:
            problems += error.problems
    listing = _listing(annotated, root, hint)
    listing.problems = [*problems, *listing.problems]
    return listing


def _listing(annotated: Sequence[Annotated], root: Path, hint: str | None) -> Listing:
    """The cases of a data set; images that are missing, doubtful or drawn twice are one problem each kind.

    Args:
        annotated: what the files say.
        root: the data set.
        hint: what to do where a shape cannot be painted.
    """
    base = base_of(root)
    by_name = _images_below(base)
    missing: dict[Path, list[str]] = defaultdict(list)
    doubtful: dict[Path, list[str]] = defaultdict(list)
    found: dict[Path, list[Annotated]] = defaultdict(list)
    for each in annotated:
        matches = _matching(each.image, each.file, by_name)
        if len(matches) == 1:
            found[matches[0]].append(each)
        else:
            (doubtful if matches else missing)[each.file].append(each.image)
    where_to_put = f"put them below {base}, or take them out of the annotations"
    if len({each.file for each in annotated}) > 1:
        where_to_put += "; one file of several can be given as --data"
    problems = [
        Problem(str(file), f"{len(names)} of its images are not there: {named(names)}", where_to_put)
        for file, names in missing.items()
    ]
    problems += [
        Problem(str(file), f"{len(names)} of its images are there several times: {named(names)}", "keep one of each")
        for file, names in doubtful.items()
    ]
    twice = [path for path, several in found.items() if len(several) > 1]
    if twice:
        files = named(sorted({str(each.file) for path in twice for each in found[path]}))
        what = f"{counted(len(twice), 'image[ is|s are]')} annotated twice: {named([path.name for path in twice])}"
        problems.append(Problem(files, what, "give one of the files as --data, or move the others elsewhere"))
    names = case_names([path for path in found if path not in twice], base)
    cases = []
    for path, name in names.items():
        each, picture = found[path][0], FileSource(path)
        source = AnnotationSource(each.file, each.drawing, picture)
        if hint:
            source = AnnotationSource(each.file, each.drawing, picture, hint=hint)
        cases.append(Case(name, picture, (source,), part=part_of(each.file, base)))
    return Listing(cases, problems)


def _images_below(base: Path) -> dict[str, list[Path]]:
    """Image files by their names and by their stems."""
    found: dict[str, list[Path]] = defaultdict(list)
    level = [base]
    for _ in range(DEPTH + 1):
        for path in (path for folder in level for path in image_files(folder)):
            for name in {path.name, stem_of(path)}:
                found[name].append(path)
        level = [inside for folder in level for inside in subfolders(folder)]
    return found


def _matching(name: str, file: Path, by_name: dict[str, list[Path]]) -> list[Path]:
    """The images that a name may mean: of several those that share most of the path, then those nearest to the file."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    candidates = by_name.get(parts[-1], []) if parts else []
    for score in (
        lambda path: _common_end(parts[:-1], path.parts[:-1]),
        lambda path: path.parent == file.parent,
        _of_images,
    ):
        if len(candidates) > 1:
            best = max(score(path) for path in candidates)
            candidates = [path for path in candidates if score(path) == best]
    return candidates


def _common_end(parts: Sequence[str], of: Sequence[str]) -> int:
    count = 0
    for one, other in zip(reversed(parts), reversed(of), strict=False):
        if one != other:
            break
        count += 1
    return count


def _of_images(path: Path) -> bool:
    return any(folder.name.lower() in ("images", "img", "imgs") for folder in path.parents)


def case_names(paths: Iterable[Path], base: Path) -> dict[Path, str]:
    """Names of cases: stems, with folders where two are the same, and with the suffix where that is not enough."""
    paths = list(paths)
    ways: tuple[Callable[[Path], str], ...] = (
        stem_of,
        lambda path: (path.relative_to(base).parent / stem_of(path)).as_posix(),
        lambda path: path.relative_to(base).as_posix(),
    )
    for way in ways:
        names = {path: way(path) for path in paths}
        if max(Counter(names.values()).values(), default=1) == 1:
            break
    return names
