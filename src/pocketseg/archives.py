"""Zip archives of others: listed and unpacked within limits, whatever they say of themselves."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pocketseg import memory
from pocketseg.files import open_regular

# What `zipfile` lets through of a damaged archive, beside its own.
OF_DAMAGE = (zlib.error, struct.error, EOFError, LookupError, NotImplementedError, OverflowError, RuntimeError)
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1
MAX_MEMBERS = 10_000


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a zip, or has more members than any that is meant well.
    """
    with open_regular(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, *OF_DAMAGE) as error:
            raise ValueError(f"is not a readable zip ({error})") from None
        with archive:
            if len(archive.infolist()) > MAX_MEMBERS:
                raise ValueError(f"it has more than {MAX_MEMBERS:,} members")
            yield archive


@contextmanager
def member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[IO[bytes]]:
    """A member to be read piece by piece: deflate gives no more at once than is asked for, other methods would.

    Raises:
        ValueError: encrypted, or packed by another method; or, while it is read, damaged.
    """
    if entry.flag_bits & ENCRYPTED:
        raise ValueError(f"{entry.filename!r} is encrypted")
    if entry.compress_type not in METHODS:
        raise ValueError(f"{entry.filename!r} is neither stored nor deflated")
    try:
        with archive.open(entry) as stream:
            yield stream
    except (zipfile.BadZipFile, *OF_DAMAGE) as error:
        raise ValueError(f"{entry.filename!r} is damaged ({error})") from None


def read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, max_bytes: int) -> bytes:
    """All bytes of a member, of which the archive may say too little.

    Raises:
        ValueError: as `member`, or it is longer than it may be.
    """
    with member(archive, entry) as stream:
        content = stream.read(min(entry.file_size, max_bytes) + 1)
    if max(len(content), entry.file_size) > max_bytes:
        raise ValueError(f"{entry.filename!r} unpacks to more than {max_bytes:,} bytes")
    return content


def max_unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """How many bytes a member may unpack to; what it says it takes is not believed beyond what there is."""
    assert archive.fp is not None
    return memory.max_decoded(min(entry.compress_size, os.fstat(archive.fp.fileno()).st_size))
