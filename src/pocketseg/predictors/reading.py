"""Model files are looked at before they are read: pipes, devices, and what begins differently are not models."""

from __future__ import annotations

import os
from pathlib import Path

from pocketseg.errors import ModelFileError
from pocketseg.files import open_regular


def read_model(path: Path, magic: bytes, max_bytes: int, other: str, fix: str) -> bytes:
    """The bytes of a model file.

    Args:
        path: the file.
        magic: how such files begin; of anything else no more than that is read.
        max_bytes: of a file that is read.
        other: what errors say of a file that begins in another way.
        fix: what to do then.

    Raises:
        ModelFileError: it is not there, no file, of another kind, too large, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(len(magic))
            if not head or head != magic[: len(head)]:
                raise ModelFileError(str(path), other, fix)
            size = os.fstat(file.fileno()).st_size
            content = head + file.read(max_bytes + 1 - len(head)) if size <= max_bytes else b""
    except FileNotFoundError:
        raise ModelFileError(str(path), "does not exist", "check the path") from None
    except OSError as error:
        raise ModelFileError(str(path), f"cannot be read ({error.strerror or error})", "check the path") from None
    if max(size, len(content)) > max_bytes:
        raise ModelFileError(str(path), f"has more than {max_bytes:,} bytes", "take a smaller net")
    return content
