"""Where requests lie while they are worked on: a folder that only this user may read, gone with the service.

What a killed service left is removed by the next that starts.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pocketseg.errors import PocketsegError
from pocketseg.files import disk_problem, locked, resolved

PREFIX = "pocketseg-serve-"
LOCK = "lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for requests, for the length of the block.

    Raises:
        EnvironmentProblem: it cannot be made.
    """
    _remove_left()
    try:
        folder = resolved(Path(tempfile.mkdtemp(prefix=PREFIX)))
    except OSError as error:
        raise disk_problem(Path(tempfile.gettempdir()), error) from error
    try:
        with locked(folder / LOCK):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left() -> None:
    """Folders of services that were killed: nobody holds their locks."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError, PocketsegError):
            if not folder.is_symlink() and (folder / LOCK).is_file():
                with locked(folder / LOCK, wait=False):
                    shutil.rmtree(folder, ignore_errors=True)


class Folders:
    """Folders of requests. They are emptied in the background and used again: some disks take long for removing one."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._free: list[Path] = []

    @contextmanager
    def one(self) -> Iterator[Path]:
        """An empty folder, for the length of the block.

        Raises:
            OSError: it cannot be made.
        """
        own = self._free.pop() if self._free else self.new()
        again = False
        try:
            yield own
            again = True
        finally:  # into one whose request failed a worker that is being ended may still write
            asyncio.get_running_loop().run_in_executor(None, self._empty, own, again)

    def new(self) -> Path:
        """A folder that its caller removes."""
        own = self.place / secrets.token_hex(8)
        own.mkdir(mode=0o700)
        return own

    def _empty(self, own: Path, again: bool) -> None:
        try:
            for path in own.iterdir() if again else ():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        except OSError:
            again = False
        if again:
            self._free.append(own)
        else:
            shutil.rmtree(own, ignore_errors=True)
