"""How our docstrings differ from what mkdocstrings reads: an extension of griffe for the site."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """`Example:` is a section of doctests, and `a, b: text` describes two parameters."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = re.sub(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)$", _apart, text, flags=re.MULTILINE)


def _apart(line: re.Match[str]) -> str:
    """Of several names the first has the text, the others refer to it."""
    first, *others = line[2].split(", ")
    return "\n".join([f"{line[1]}{first}: {line[3]}", *(f"{line[1]}{name}: see `{first}`." for name in others)])
