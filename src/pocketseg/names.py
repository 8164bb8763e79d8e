"""Names that others give: which may become part of a path, and how they are shown."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 64
LONGEST_BYTES = 200
# They show a name in another order than it is stored.
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def check_name(name: str) -> str:
    """The name itself, where it can be part of a path on every system.

    Raises:
        ValueError: empty, too long, with a separator, a colon or a control character, or with a dot or space at its
            end or a dot at its beginning.

    Example:
        >>> check_name("left ventricle")
        'left ventricle'
    """
    fault = name_fault(name)
    if fault:
        raise ValueError(f"the name {printable(name[:LONGEST])!r} {fault}; it becomes part of file names")
    return name


def name_fault(name: str) -> str:
    """What is wrong with a name that shall be part of a path; empty where nothing is."""
    if not name.strip():
        return "is empty"
    if len(name) > LONGEST or len(name.encode("utf-8", "surrogateescape")) > LONGEST_BYTES:
        return f"is longer than {LONGEST} characters"
    if re.search(r"[/\\:]", name):
        return "has a slash, backslash or colon"
    if any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") or sign in DIRECTIONS for sign in name):
        return "has a control character"
    if name.startswith(".") or name.endswith(".") or name != name.strip():
        return "begins with a dot, ends with one, or has a space at its end"
    return ""


def printable(text: str, keep: str = "") -> str:
    """Text that can neither forge a second line nor steer a terminal, and that every encoding can hold as escapes.

    Args:
        text: whatever a file, a name or an error brought.
        keep: control characters to leave, such as a line break.

    Example:
        >>> printable("a\\x1b[31mb")
        'a\\\\x1b[31mb'
    """
    return "".join(sign if sign.isprintable() or sign in keep else repr(sign)[1:-1] for sign in text)
