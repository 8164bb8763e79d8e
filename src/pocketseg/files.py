"""Files: read only where they are files, written whole or not at all, never outside of the folder they belong to."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pocketseg.errors import DataError, EnvironmentProblem, ModelFileError
from pocketseg.locks import POSIX, lock, unlock

# Recipes, tables, split files: what people write, and lists of cases.
MAX_TEXT = 64 * 2**20
LARGE_READ = 2**16
# Where a page of HTML says what wrote it.
HEAD = 2**12
# What a disk must have room for to be tried.
TRIED_BYTES = 2**16
# Of a pipe that nobody writes to, opening would wait for ever; a link may lead anywhere.
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# Windows would write two bytes for the end of a line.
BINARY = getattr(os, "O_BINARY", 0)
# What is not finished yet. Whoever writes it holds a lock on it, which goes with the process: what has the ending and
# no holder was left by one that was killed, and is removed by the next that writes there.
PART = ".pocketseg-part"
# Of Windows, where no folder can be locked, and nothing be renamed that is open: a file beside a part, locked for it.
HELD = ".held" + PART
# Windows refuses to replace or remove what somebody has open: a virus scanner, say, which looks at each new file.
SECONDS_IN_USE = 2.0
# Folders that are remembered as tidy: a service makes new ones for years.
MOST_TIDIED = 10_000

_tidied: set[tuple[int, str]] = set()

log = logging.getLogger("pocketseg")


def inside(folder: Path, *names: str | Path) -> Path:
    """The path of a name in a folder.

    Raises:
        DataError: it would lie outside: by `..`, as an absolute path, or through a link.

    Example:
        >>> inside(Path("masks"), "a/b.png").as_posix()
        'masks/a/b.png'
    """
    path = folder.joinpath(*names)
    below = any(Path(name).is_absolute() or ".." in Path(name).parts or "\0" in str(name) for name in names)
    if below or not resolved(path).is_relative_to(resolved(folder)):
        raise DataError(str(Path(*names)), f"would be written outside of {folder}", "choose another name or folder")
    return path


def by_parts(paths: Iterable[Path]) -> list[Path]:
    """Paths in the order of their parts, which is the same on every system: Windows compares paths without case.

    Example:
        >>> [path.as_posix() for path in by_parts([Path("b"), Path("a.b"), Path("a/c"), Path("C")])]
        ['C', 'a/c', 'a.b', 'b']
    """
    return sorted(paths, key=lambda path: path.parts)


class RegularFile(io.BufferedReader):
    """A file that never makes room for more than it has left, however much is asked for: lengths in files may lie."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LARGE_READ:
            size = max(0, min(size, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def resolved(path: Path) -> Path:
    """The absolute path without links and `..`. Links that go round in a circle stay, and using the path fails."""
    return Path(os.path.realpath(path))


def open_regular(path: Path) -> RegularFile:
    """Open a file for reading; what is none (a pipe, a device, a folder) is refused and not waited for.

    Raises:
        OSError: it is not there, no file, or cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | BINARY | getattr(os, "O_NOCTTY", 0)
    handle = os.open(path, flags)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is a pipe or a device, no file", str(path))
        return RegularFile(io.FileIO(handle, "rb"))
    except BaseException:
        os.close(handle)
        raise


def read_file(path: Path, max_bytes: int) -> bytes:
    """All bytes of a file of bounded length.

    Raises:
        OSError: it is not there, no file, too long, or cannot be read.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > max_bytes else file.read(max_bytes + 1)
    if max(size, len(content)) > max_bytes:
        raise OSError(errno.EFBIG, f"has {max(size, len(content)):,} bytes, more than {max_bytes:,}", str(path))
    return content


def read_text(path: Path, max_bytes: int = MAX_TEXT) -> str:
    """The text of a file, UTF-8 with or without a mark at its beginning; its lines end as they do in the file.

    Raises:
        OSError: as `read_file`.
        UnicodeDecodeError: it is not text.
    """
    return read_file(path, max_bytes).decode("utf-8-sig")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write to a temporary name in the same folder, flush, rename: a reader sees the old file or the new one.

    A file name in text that is not UTF-8 keeps its bytes.

    Raises:
        EnvironmentProblem: no space, no permission, or another fault; the old file is still there.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with whole_file(path, len(data)) as temporary:
        temporary.write_bytes(data)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file of ours, durably; the file is made where it is not there.

    Behind one that was cut short, by a kill or a full disk, it is a line of its own.

    Raises:
        EnvironmentProblem: no space, no permission, or another fault.
    """
    try:
        _make_folder(path.parent)
        handle = open_own(path, os.O_RDWR | os.O_APPEND)
        with io.FileIO(handle, "a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(end - 1, 0))
            begin = "" if file.read(1) in (b"", b"\n") else "\n"
            file.write(f"{begin}{line}\n".encode())
            os.fsync(handle)
    except OSError as error:
        raise disk_problem(path, error) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON as `write_atomically` does.

    Bytes of a file name that are not UTF-8 stand as escapes (`\\udcff`), as which every JSON reader gives them back.

    Raises:
        EnvironmentProblem: as `write_atomically`.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


@contextmanager
def whole_file(path: Path, needed_bytes: int = 0) -> Iterator[Path]:
    """An empty temporary file beside `path`, to be filled; it becomes `path` when the block ends without an error.

    Raises:
        DataError: something is there that is not a file.
        EnvironmentProblem: it cannot be written; what was at `path` is still there.
    """
    try:
        _refuse_special(path)
        with _part(path, lambda part: part.touch(exist_ok=False)) as temporary:
            yield temporary
            _sync(temporary)
            _when_free(lambda: temporary.replace(path))
            _sync(path.parent)
    except OSError as error:
        raise disk_problem(path, error, needed_bytes) from error


def _refuse_special(path: Path) -> None:
    """A file takes the place of a file only: for root, /dev/null would be one from then on."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(str(path), "is a device, a pipe or a socket", "name a file")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, which becomes it when the block ends without an error; `out` is new or empty.

    Files are to be put into it by `write_atomically` or `whole_file`, which make them durable.

    Raises:
        EnvironmentProblem: it cannot be written.
    """
    try:
        out = resolved(out)  # a link to an empty folder stays one
        with _part(out, Path.mkdir) as temporary:
            yield temporary
            if not POSIX and out.exists():  # elsewhere a folder takes the place of an empty one
                out.rmdir()
            _when_free(lambda: temporary.replace(out))
            _sync(out.parent)
    except OSError as error:
        raise disk_problem(out, error) from error


def try_output(path: Path, *inputs: Path, ending: str = "") -> None:
    """Refuse a file that could not be written at the end, before anything is computed for it.

    Args:
        path: the file to be.
        inputs: what it is made of, and may not replace.
        ending: of its kind; a file that is there and has another one is not replaced.

    Raises:
        DataError: it is a folder, a device or a pipe, one of the inputs, or a file of another kind.
        EnvironmentProblem: no space, no permission, or another fault.
    """
    try:
        if os.path.isdir(path):  # noqa: PTH112 - which is False for what no system takes as a name
            raise DataError(str(path), "is a folder", "name a file")
        _refuse_special(path)
        if any(each.exists() and path.exists() and each.samefile(path) for each in inputs):
            raise DataError(str(path), "would be written over what it is made of", "choose another name")
        path.lstat()  # a name that is too long, which the part's is not
        if path.suffix.lower() != (ending or path.suffix.lower()):
            raise DataError(str(path), f"is there already and is no {ending} file", "choose another name")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise disk_problem(path, error) from error
    new = [folder for folder in path.parents if not folder.exists()]
    try:
        with _part(path, lambda part: part.touch(exist_ok=False)) as part:
            part.write_bytes(bytes(TRIED_BYTES))
            _sync(part)
    except OSError as error:
        raise disk_problem(path, error) from error
    finally:
        with suppress(OSError):
            for folder in new:  # a command that is refused later leaves nothing
                folder.rmdir()


def try_page(path: Path, command: str, *inputs: Path) -> None:
    """The same for a page of HTML, which says in its head which command wrote it: that of another is not replaced.

    Raises:
        DataError: as `try_output`, or the page was not written by the command.
        EnvironmentProblem: as `try_output`.
    """
    try_own(path, f'<meta name="generator" content="pocketseg {command}">', command, *inputs)


def try_own(path: Path, mark: str, command: str, *inputs: Path, ending: str = "") -> None:
    """The same for a text with a mark of the command that wrote it in its head: one without it is not replaced.

    Raises:
        DataError: as `try_output`, or the mark is missing.
        EnvironmentProblem: as `try_output`.
    """
    try_output(path, *inputs, ending=ending)
    try:
        with open_regular(path) as file:
            own = mark.encode() in file.read(HEAD)
    except FileNotFoundError:
        return
    except OSError as error:
        raise disk_problem(path, error) from error
    if not own:
        what = f"is there already and was not written by {command}"
        raise DataError(str(path), what, "choose another --out")


def try_folder(folder: Path) -> None:
    """The same for a folder that files are to be written into.

    Raises:
        DataError: it is a file.
        EnvironmentProblem: as `try_output`.
    """
    if os.path.isfile(folder):  # noqa: PTH113
        raise DataError(str(folder), "is a file", "name a folder")
    try_output(folder / "tried")


def rename_file(path: Path, target: Path) -> None:
    """Give a file another name on its disk, durably; what had that name is gone. A folder takes no other's place.

    Raises:
        EnvironmentProblem: it cannot be renamed.
    """
    try:
        _when_free(lambda: path.replace(target))
        _sync(target.parent)
    except OSError as error:
        raise disk_problem(path, error) from error


def remove(path: Path) -> None:
    """Remove a file, or a folder with all in it, where it is there.

    Raises:
        EnvironmentProblem: it cannot be removed.
    """
    try:
        _when_free(lambda: _take_away(path))
    except OSError as error:
        raise disk_problem(path, error) from error


def make_folder(folder: Path, *, private: bool = False) -> None:
    """Make a folder and those above it, as durable as the files in them.

    Args:
        folder: its path.
        private: nobody but this user may read what is in it.

    Raises:
        EnvironmentProblem: it cannot be made.
    """
    try:
        _make_folder(folder)
        if private:
            folder.chmod(0o700)
    except OSError as error:
        raise disk_problem(folder, error) from error


def open_own(path: Path, flags: int) -> int:
    """A handle of a file that we keep open and write into, a lock or a log, made where it is not there.

    In a folder of somebody else it may be a link to a file of the user, or a pipe: neither is written into.

    Raises:
        OSError: it is one of these, or cannot be opened.
    """
    handle = os.open(path, flags | os.O_CREAT | NO_LINK | BINARY, 0o666)
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise OSError(errno.EINVAL, "is a pipe or a device, no file", str(path))


def _make_folder(folder: Path) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        _sync(each.parent)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


@contextmanager
def _part(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new temporary beside `path`, held while the block runs and removed after it where it is still there."""
    _make_folder(path.parent)
    _tidy(path.parent)
    while True:
        # A character takes up to four bytes, and file systems take 255 bytes.
        temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}{PART}")
        try:
            make(temporary)
        except FileExistsError:
            continue
        held = _hold(temporary)
        if held is not None:
            break
    try:
        yield temporary
    finally:
        # Whatever interrupts, this too: an unfinished part is nobody's.
        try:
            _remove(temporary)
        except BaseException:
            _remove(temporary)
            raise
        finally:
            _let_go(temporary, held)


def _hold(part: Path) -> int | None:
    """A lock on a part; None where it is gone or another has it, -1 where the system has no such locks."""
    try:
        handle = os.open(part, os.O_RDONLY | NO_LINK) if POSIX else open_own(_holder(part), os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        if not lock(handle):
            os.close(handle)
            return None
        if os.fstat(handle).st_nlink > 0 and os.path.lexists(part):
            return handle
    except OSError:
        os.close(handle)
        return -1
    _let_go(part, handle)
    return None


def _let_go(part: Path, held: int) -> None:
    """Leave the lock of a part that is not there any more."""
    if held >= 0:
        unlock(held)
    if not POSIX:
        _remove(_holder(part))


def _holder(part: Path) -> Path:
    """What is locked for a part on Windows."""
    return part.with_name(part.name.removesuffix(PART) + HELD)


def _tidy(folder: Path) -> None:
    """Remove what killed processes left in a folder, once for each process and folder."""
    key = os.getpid(), str(folder.absolute())
    if key in _tidied:
        return
    if len(_tidied) >= MOST_TIDIED:
        _tidied.clear()
    _tidied.add(key)
    parts: set[Path] = set()
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(".") and entry.name.endswith(PART)]
        parts = {folder / (name.removesuffix(HELD) + PART if name.endswith(HELD) else name) for name in names}
    for part in by_parts(parts):
        held = None
        with suppress(OSError):
            held = _hold(part)
        if held is not None and held >= 0:
            _remove(part)
            _let_go(part, held)


@contextmanager
def locked(path: Path, *, wait: bool = True, shared: bool = False) -> Iterator[None]:
    """Hold a lock file for the length of the block. It goes with the process, so a killed one leaves none behind.

    Args:
        path: the file, which stays; it tells who holds it.
        wait: for another process; else it is an error.
        shared: with others who share it.

    Raises:
        BlockingIOError: another process holds it, whose words the error has.
        EnvironmentProblem: the file cannot be written.
    """
    try:
        _make_folder(path.parent)
        handle = open_own(path, os.O_RDWR)
    except OSError as error:
        raise disk_problem(path, error) from error
    try:
        if not _lock(handle, path, wait=wait, shared=shared):
            holder = os.read(handle, 1000).decode("utf-8", "replace").strip() or "another process"
            raise BlockingIOError(errno.EAGAIN, holder, str(path))
        try:
            os.ftruncate(handle, 0)
            started = datetime.now(UTC).isoformat(timespec="seconds")
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()} since {started}".encode())
        except OSError as error:
            raise disk_problem(path, error) from error
        yield
    finally:
        unlock(handle)


def _lock(handle: int, path: Path, *, wait: bool, shared: bool) -> bool:
    """Whether the lock is ours now."""
    try:
        return lock(handle, shared=shared, wait=wait)
    except OSError as error:
        log.warning("%s: this disk has no locks (%s); start nothing else in that folder", path, error.strerror)
    return True


def _when_free(change: Callable[[], object]) -> None:
    """Rename or remove something; on Windows what somebody has open is tried again for a moment."""
    until = time.monotonic() + SECONDS_IN_USE
    while True:
        try:
            change()
            return
        except PermissionError:
            if POSIX or time.monotonic() > until:
                raise
            time.sleep(0.02)


def _take_away(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        with suppress(OSError):
            part.unlink()


def disk_problem(path: Path, error: OSError, needed_bytes: int = 0) -> EnvironmentProblem:
    """The error to show when the operating system refuses to write."""
    what = f"cannot be written ({error.strerror or error})"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        needed = f"; needed are {needed_bytes:,} bytes{_free(path)}" if needed_bytes else ""
        return EnvironmentProblem(str(path), f"{what}{needed}", "free some space, then resume")
    if isinstance(error, PermissionError):
        close = "" if POSIX else "close what has it open, or "
        return EnvironmentProblem(str(path), what, f"{close}choose a folder that this user may write to")
    return EnvironmentProblem(str(path), what, "check the disk and the path")


def _free(path: Path) -> str:
    """What is left on the disk; a quota may leave less to this user."""
    with suppress(OSError):
        return f", free on the disk {shutil.disk_usage(path.parent).free:,}"
    return ""


def _sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, durable; Windows has no such thing for folders."""
    if not POSIX and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY if POSIX else os.O_RDWR)
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
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(str(path), f"cannot be read ({error.strerror or error})", "check the path") from None
