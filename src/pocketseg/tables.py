"""Tables as CSV text and back: quoted, one line end, and nothing that a spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

# What a spreadsheet takes for the start of a formula (OWASP, CSV injection), behind any quotes that we put there. A
# number is none.
FORMULA = re.compile(r"(?!'*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$)'*[=+\-@\t\r]")


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV. Texts are guarded as `cell` does; None is an empty field.

    Example:
        >>> print(csv_text([("case", "dice"), ("=1+1", 0.5), ("a,b", None)]), end="")
        case,dice
        '=1+1,0.5
        "a,b",
    """
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [cell(value) if isinstance(value, str) else value for value in row]
        # The module quotes a line end of its own kind alone, and reads any.
        (quoted if any("\r" in value for value in row if isinstance(value, str)) else plain).writerow(cells)
    return text.getvalue()


def csv_rows(text: str, sign: str = ",", *, strip: bool = False) -> list[list[str]]:
    """The rows of a CSV text, as they were before `csv_text` guarded them.

    Args:
        text: of the file.
        sign: what stands between cells.
        strip: take blanks around cells away.

    Raises:
        csv.Error: it is none.
    """
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
    return [[from_cell(value.strip() if strip else value) for value in row] for row in rows]


def separator(text: str) -> str:
    """What stands between the cells of a table that a spreadsheet wrote: what its first line has most of.

    Example:
        >>> separator("case;group\\n1,5;a")
        ';'
    """
    return max(",;\t", key=text.split("\n", 1)[0].count)


def cell(text: str) -> str:
    """Text for a table that a spreadsheet may open: a quote stands before what would be taken for a formula.

    Example:
        >>> cell("=1+1"), cell("plain"), cell("-2")
        ("'=1+1", 'plain', '-2')
    """
    return f"'{text}" if FORMULA.match(text) else text


def from_cell(text: str) -> str:
    """The text that `cell` was given.

    Example:
        >>> from_cell(cell("@a"))
        '@a'
    """
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text
