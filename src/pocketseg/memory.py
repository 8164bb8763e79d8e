"""Memory: what the files of others may take of it, and how its end is reported."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketseg.errors import EnvironmentProblem, PocketsegError

# 12,000 x 12,000 pixels: above every scanner's frame, below what fills a small machine's memory.
MAX_PIXELS = 144_000_000
# 4 GiB of voxels: above every usual scan, below what fills a workstation.
MAX_VOLUME = 4 * 2**30
# What a file may unpack to, however small it is; and how many times its size beyond that. Scans shrink to a third,
# masks to a hundredth, and deflate takes zeros to a thousandth.
FREE_BYTES = 256 * 2**20
MAX_TIMES = 256
# Files that are read whole before they are decoded.
MAX_FILE = 4 * 2**30

# An image of 2048 x 2048 pixels is done at once.
BAND_PIXELS = 2**22

CODE = "memory"
SMALLER = "take a smaller image, batch or size, or free some"
# How libraries say it that raise no MemoryError: torch, ONNX Runtime, OpenVINO, Pillow, zlib, the system's loader,
# threads whose stacks find no room.
SAID = re.compile(
    r"can.?t allocate|cannot allocate|failed to allocate|unable to allocate|could not allocate|bad_?alloc"
    r"|bad allocation|out of memory|not enough memory|allocation failed|failed to map segment|error -4 while"
    r"|can't start new thread|memoryerror",
    re.IGNORECASE,
)


def bands(shape: tuple[int, ...]) -> Iterator[slice]:
    """Rows of an image (h, w, …), some millions of pixels at a time, for what needs more memory than the image.

    Example:
        >>> list(bands((3000, 2048)))
        [slice(0, 2048, None), slice(2048, 4096, None)]
    """
    step = max(1, BAND_PIXELS // max(shape[1], 1))
    return (slice(top, top + step) for top in range(0, shape[0], step))


def max_decoded(stored_bytes: int) -> int:
    """How many bytes a compressed file of some size may unpack to.

    Example:
        >>> max_decoded(1000) == FREE_BYTES, max_decoded(2 * 2**20) // 2**20
        (True, 512)
    """
    return max(FREE_BYTES, MAX_TIMES * stored_bytes)


def ended(error: BaseException | None) -> bool:
    """Whether the memory's end is what an error tells, or what lies behind it.

    Example:
        >>> ended(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
        True
    """
    if error is None:
        return False
    if isinstance(error, PocketsegError):
        return any(problem.code == CODE for problem in error.problems)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    return bool(SAID.search(str(error))) or ended(error.__cause__)


def problem(where: str, needed: str = "", fix: str = SMALLER) -> PocketsegError:
    """The error to show where memory ended.

    Args:
        where: the file, or what was done.
        needed: what it would take, in words.
        fix: what to do.
    """
    what = "there is not enough memory for it" + (f"; {needed}" if needed else "")
    return EnvironmentProblem(where, what, fix).coded(CODE)


@contextmanager
def named(where: str, needed: str = "", fix: str = SMALLER) -> Iterator[None]:
    """Memory that ends inside of the block is reported with what was done there."""
    try:
        yield
    except Exception as error:
        if isinstance(error, PocketsegError) or not ended(error):
            raise
        raise problem(where, needed, fix) from None


def free_bytes() -> int | None:
    """What this process may still take: of the machine, of its container, of its own limit; None where none says."""
    found = [value * 1024 for value in _numbers(Path("/proc/meminfo"), r"MemAvailable:\s+(\d+)")]
    group = Path("/sys/fs/cgroup")
    for most, used in zip(_numbers(group / "memory.max"), _numbers(group / "memory.current"), strict=False):
        found.append(most - used)
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = _numbers(Path("/proc/self/statm"))
        found += [limit - number * resource.getpagesize() for number in pages if limit != resource.RLIM_INFINITY]
    except ImportError:  # Windows
        pass
    return max(0, min(found)) if found else None


def _numbers(file: Path, pattern: str = r"(\d+)") -> list[int]:
    """The number that a file of the system tells, if it does."""
    try:
        found = re.search(pattern, file.read_text(encoding="utf-8"))
    except OSError:
        return []
    return [int(found[1])] if found else []


def explained(error: BaseException, otherwise: PocketsegError) -> PocketsegError:
    """The error to raise for one that a library raised: that memory ended, where it did, else what its caller says.

    What stands behind every `except` that takes all kinds of errors for a fault of the file.
    """
    return problem(otherwise.problems[0].where) if ended(error) else otherwise
