"""Where requests lie while they are worked on: a folder that only this user may read, gone with the service.

What a killed service left is removed by the next that starts.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pocketseg.errors import PocketsegError
from pocketseg.files import disk_problem, locked

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
        folder = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
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


@contextmanager
def request_folder(folder: Path) -> Iterator[Path]:
    """A folder of one request."""
    own = folder / secrets.token_hex(8)
    own.mkdir(mode=0o700)
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)
