"""What file names and links tell, without opening a file."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from pocketseg.data.case import Case
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.layouts.listing import IGNORED_NAMES
from pocketseg.errors import Problem
from pocketseg.files import resolved
from pocketseg.text import counted


def same_names(cases: Sequence[Case]) -> Iterator[Problem]:
    """Cases whose names are one text in two ways of writing it (é as one sign or as two)."""
    for names in _alike((case.name for case in cases), lambda name: unicodedata.normalize("NFC", name)):
        where = next(case.image.where for case in cases if case.name == names[0])
        what = f"the same name is there in {len(names)} Unicode forms"
        yield Problem(where, what, "rename or remove one of them", "same-name")


def case_names(cases: Sequence[Case]) -> Iterator[Finding]:
    """Cases whose names differ in capitals only."""
    for names in _alike((case.name for case in cases), str.casefold):
        yield Finding("case-names", tuple(names), "differ only in capital letters", "rename one of them")


def links_outside(root: Path, cases: Sequence[Case]) -> list[Problem]:
    """Files that are links to a place outside of the data set, or lie in folders that are."""
    whole = resolved(root)
    files = {file for case in cases for source in (case.image, *case.masks) for file in source.files}
    suspects = [folder for folder in {file.parent for file in files} if _inside(folder, root) and folder != root]
    suspects += [file for file in files if _inside(file, root) and file.is_symlink()]
    return [
        Problem(
            str(path),
            "is a link to a place outside of the data set",
            "copy the files, or --set data.follow_links=true",
            "link",
        )
        for path in sorted(suspects)
        if not resolved(path).is_relative_to(whole)
    ]


def paths_outside(root: Path, cases: Sequence[Case]) -> list[Problem]:
    """Files that a table names and that lie outside of its folder: one problem."""
    whole = resolved(root)
    files = {file for case in cases for source in (case.image, *case.masks) for file in source.files}
    far = [str(file) for file in sorted(files) if not resolved(file).is_relative_to(whole)]
    what = f"{counted(len(far), 'path[ leads|s lead]')} out of the folder of the table"
    return [Problem.at(far, what, "copy the files, or --set data.follow_links=true", "link")] if far else []


def ignored_files(root: Path) -> Iterator[Finding]:
    """Litter of file browsers, counted."""
    if not root.is_dir():
        return
    files = (name for _, _, names in os.walk(root) for name in names)
    found = sorted(name for name in files if name.startswith(".") or name.lower() in IGNORED_NAMES)
    if found:
        yield Finding("ignored", tuple(dict.fromkeys(found)), f"{len(found)} hidden or litter files are ignored")


def _inside(path: Path, root: Path) -> bool:
    return path.is_relative_to(root)


def _alike(names: Iterable[str], key: Callable[[str], str]) -> list[list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[key(name)].append(name)
    return [same for same in found.values() if len(set(same)) > 1]
