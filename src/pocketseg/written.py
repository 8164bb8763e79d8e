"""Which files in a folder a command wrote itself: those alone it may replace, and those of a finished case it keeps."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pocketseg.errors import DataError, PocketsegError
from pocketseg.files import append_line, open_regular, sha256_of

# In the place of a digest: the file is being written, or was when its process was killed; and: it is not there.
BEGUN, ABSENT = "", "absent"
# No file has this name: here a line tells which case its files are of.
ABOUT = ""
# Of the record: a volume has some thousand slices, with measurements of each.
MAX_LINE = 64 * 2**20


class Written:
    """The record of what a command wrote into a folder: a hidden file in it, with lines `{"a/b.png": "SHA-256"}`.

    The digest shows whether a file was changed since. What is about to be written stands there with an empty digest:
    it is ours after a kill, too, and two processes may write into one folder.

    A line that tells how files became what they are (`about`) says that a case is done: as long as its files are those
    of that line, it need not be done again.
    """

    def __init__(self, folder: Path, command: str, *, read: bool = True) -> None:
        self.folder = folder
        self.command = command
        self.record = folder / f".pocketseg-{command}.jsonl"
        self.digests: dict[str, str] = {}
        # The line of each case, as it stands there: many of them are to take little room.
        self.cases: dict[str, bytes] = {}
        if read:
            self._read()

    def refuse_others(self, paths: Iterable[Path]) -> None:
        """Refuse to replace files of others, before anything is written.

        Raises:
            DataError: one of these paths in the folder is a file that the command did not write, or that was changed.
        """
        others = [path for path in paths if self._is_others(path)]
        if others:
            self._read()  # another process may have written them in between
            others = [path for path in others if self._is_others(path)]
        if others:
            changed = " as it is now" if self.digests.get(self._name(others[0]), ABSENT) != ABSENT else ""
            more = f" (one of {len(others):,} such files)" if len(others) > 1 else ""
            what = f"is there already and was not written by {self.command}{changed}{more}"
            raise DataError(str(others[0]), what, "choose another --out")

    @contextmanager
    def writing(
        self, paths: Callable[[], Iterable[Path]], case: str = "", about: Callable[[], Mapping[str, Any]] | None = None
    ) -> Iterator[None]:
        """Record that those of some paths that are files behind the block were written in it.

        Args:
            paths: lists them, before the block and behind it.
            case: that is done with these files, where one is.
            about: tells, behind the block, what they were made of, and how.

        Raises:
            EnvironmentProblem: the record cannot be written.
        """
        begun = dict.fromkeys(paths())
        append_line(self.record, json.dumps({self._name(path): BEGUN for path in begun}))
        said: dict[str, Any] = {}
        try:
            yield
            said = {} if about is None else {ABOUT: {**about(), "case": case}}
        finally:
            there = {path: sha256_of(path) if _is_file(path) else ABSENT for path in begun | dict.fromkeys(paths())}
            append_line(self.record, json.dumps({self._name(path): digest for path, digest in there.items()} | said))

    def kept(self, case: str) -> tuple[dict[str, Any], list[Path]] | None:
        """What the record says of a case that is done, and its files; None where one of them is not as it was written.

        `refuse_others` has looked at the files.
        """
        if case not in self.cases:
            return None
        line = json.loads(self.cases[case])
        files = [name for name, digest in _entries(line).items() if digest not in (BEGUN, ABSENT)]
        if any(self.digests.get(name) != line[name] or not _is_file(self.folder / name) for name in files):
            return None
        return line[ABOUT], [self.folder / name for name in files]

    def _read(self) -> None:
        with suppress(OSError), open_regular(self.record) as file:
            while line := file.readline(MAX_LINE):
                found = _object(line)
                self.digests |= _entries(found)
                about = found.get(ABOUT)
                if isinstance(about, dict) and isinstance(about.get("case"), str):
                    self.cases[about["case"]] = line

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _is_others(self, path: Path) -> bool:
        known = self.digests.get(self._name(path))
        if not _is_file(path) or known == BEGUN:
            return False
        with suppress(PocketsegError):  # what cannot be read is not ours
            return known is None or sha256_of(path) != known
        return True


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - which is False for what no system takes as a name


def _object(line: bytes) -> dict[str, Any]:
    """What a line holds; of a line that is damaged nothing."""
    with suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict):
            return found
    return {}


def _entries(found: Mapping[str, Any]) -> dict[str, str]:
    """Digests by names."""
    return {name: digest for name, digest in found.items() if isinstance(digest, str)}
