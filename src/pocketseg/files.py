"""Files written whole or not at all, and what they hold in one number."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketseg.errors import EnvironmentProblem, ModelFileError


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write to a temporary name in the same folder, flush, rename: a reader sees the old file or the new one.

    Raises:
        EnvironmentProblem: no space, no permission, or another fault; the old file is still there.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A character takes up to four bytes, and file systems take 255 bytes.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:50]}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise disk_problem(path, error, len(data)) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, which becomes it when the block ends without an error; `out` is new or empty.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name[:50]}.", dir=out.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            if out.exists():
                out.rmdir()
            temporary.replace(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise disk_problem(out, error) from error


def disk_problem(path: Path, error: OSError, needed_bytes: int = 0) -> EnvironmentProblem:
    """The error to show when the operating system refuses to write."""
    what = f"cannot be written ({error.strerror or error})"
    if error.errno == errno.ENOSPC:
        return EnvironmentProblem(
            str(path), f"{what}; needed are {needed_bytes:,} bytes", "free some space, then resume"
        )
    if isinstance(error, PermissionError):
        return EnvironmentProblem(str(path), what, "choose a folder that this user may write to")
    return EnvironmentProblem(str(path), what, "check the disk and the path")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; where folders cannot be opened (Windows) there is nothing to do."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path) -> str:
    """SHA-256 of a model file, in hex.

    Raises:
        ModelFileError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(str(path), f"cannot be read ({error.strerror or error})", "check the path") from None
