"""Which files in a folder a command wrote itself: those alone it may replace."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pocketseg.errors import DataError, PocketsegError
from pocketseg.files import append_line, read_text, sha256_of

# In the place of a digest: the file is being written, or was when its process was killed; and: it is not there.
BEGUN, ABSENT = "", "absent"


class Written:
    """The record of what a command wrote into a folder: a hidden file in it, with lines `{"a/b.png": "SHA-256"}`.

    The digest shows whether a file was changed since. What is about to be written stands there with an empty digest:
    it is ours after a kill, too, and two processes may write into one folder.
    """

    def __init__(self, folder: Path, command: str) -> None:
        self.folder = folder
        self.command = command
        self.record = folder / f".pocketseg-{command}.jsonl"
        self.digests: dict[str, str] = {}
        self._read()

    def refuse_others(self, paths: Iterable[Path]) -> None:
        """Refuse to replace files of others, before anything is written.

        Raises:
            DataError: one of these paths in the folder is a file that the command did not write, or that was changed.
        """
        others = [path for path in paths if self._is_others(path)]
        self._read()  # another process may have written them in between
        others = [path for path in others if self._is_others(path)]
        if others:
            changed = " as it is now" if self.digests.get(self._name(others[0]), ABSENT) != ABSENT else ""
            more = f" (one of {len(others):,} such files)" if len(others) > 1 else ""
            what = f"is there already and was not written by {self.command}{changed}{more}"
            raise DataError(str(others[0]), what, "choose another --out")

    @contextmanager
    def writing(self, paths: Callable[[], Iterable[Path]]) -> Iterator[None]:
        """Record that those of some paths that are files behind the block were written in it.

        Args:
            paths: lists them, before the block and behind it.

        Raises:
            EnvironmentProblem: the record cannot be written.
        """
        begun = dict.fromkeys(paths())
        append_line(self.record, json.dumps({self._name(path): BEGUN for path in begun}))
        try:
            yield
        finally:
            there = {path: sha256_of(path) if _is_file(path) else ABSENT for path in begun | dict.fromkeys(paths())}
            append_line(self.record, json.dumps({self._name(path): digest for path, digest in there.items()}))

    def _read(self) -> None:
        with suppress(OSError, UnicodeDecodeError):
            for line in read_text(self.record).split("\n"):
                self.digests |= _entries(line)

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


def _entries(line: str) -> dict[str, str]:
    """Digests by names; of a line that is damaged none."""
    with suppress(ValueError, RecursionError):
        found = json.loads(line)
        if isinstance(found, dict):
            return {name: digest for name, digest in found.items() if isinstance(digest, str)}
    return {}
