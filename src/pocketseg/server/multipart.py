"""Forms of files (multipart/form-data, RFC 7578): the few parts of a body that lies in a file, and a body of parts.

The body is bounded and on disk before it is looked at, so that finding the parts is a search for one text; what is
found is counted, and headers of parts are short.
"""

from __future__ import annotations

import mmap
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

BOUNDARY = re.compile(r'\s*multipart/form-data\s*;\s*(?:.*;\s*)?boundary=(?:"([^"]{1,70})"|([^\s";,]{1,70}))', re.I)
NAME = re.compile(rb'\bname="([^"\r\n]{0,100})"', re.I)
FORM = re.compile(rb"--[^\r\n]{1,200}\r?\nContent-|[\w.-]{1,100}=|@|\x89PNG(?!\r)", re.I)
MAX_PARTS, MAX_HEADER = 16, 2048


def boundary_in(content_type: str) -> bytes | None:
    """What separates the parts of a form; None where the type is not that of a form.

    Example:
        >>> boundary_in("multipart/form-data; boundary=----x")
        b'----x'
    """
    found = BOUNDARY.match(content_type) if len(content_type) < MAX_HEADER and content_type.isascii() else None
    return (found[1] or found[2]).encode() if found else None


def is_form(start: bytes) -> bool:
    """Whether a body begins as a form does: what `curl -F` and `-d` send, of which `-d` drops the ends of lines.

    Example:
        >>> [is_form(start) for start in (b"--x\\r\\nContent-Disposition:", b"image=%89PNG", b"\\x89PNG\\x1a", b"%PDF")]
        [True, True, True, False]
    """
    return bool(FORM.match(start))


def parts_of(body: Path, content_type: str) -> dict[str, tuple[int, int]] | None:
    """Where the content of each part begins and ends, by its name; None for what is not a form of a few parts."""
    boundary = boundary_in(content_type)
    if boundary is None or body.stat().st_size == 0:
        return None
    mark = b"--" + boundary
    with body.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return _parts(text, mark)


def _parts(text: mmap.mmap, mark: bytes) -> dict[str, tuple[int, int]] | None:
    if text[: len(mark)] != mark:
        return None
    found: dict[str, tuple[int, int]] = {}
    at = len(mark)
    for _ in range(MAX_PARTS):
        if text[at : at + 2] == b"--":
            return found
        start = text.find(b"\r\n\r\n", at, at + MAX_HEADER)
        name = NAME.search(text[at:start]) if start >= 0 else None
        end = text.find(b"\r\n" + mark, max(start, 0))
        if name is None or end < 0:
            return None
        found.setdefault(name[1].decode("utf-8", "replace"), (start + 4, max(end, start + 4)))
        at = end + 2 + len(mark)
    return None


def form_of(fields: Mapping[str, str], files: Mapping[str, tuple[str, str, bytes]]) -> tuple[str, bytes]:
    """Content-Type and body of a form.

    Args:
        fields: texts (JSON) by name.
        files: (file name, type, content) by name.
    """
    mark = secrets.token_hex(16)
    body = b""
    for name, text in fields.items():
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: application/json\r\n\r\n'
        body += head.encode() + text.encode() + b"\r\n"
    for name, (file, type_, content) in files.items():
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
        body += f"{head}Content-Type: {type_}\r\n\r\n".encode() + content + b"\r\n"
    return f"multipart/form-data; boundary={mark}", body + f"--{mark}--\r\n".encode()
