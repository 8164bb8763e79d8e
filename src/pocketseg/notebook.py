"""Tables for notebooks: plain HTML without scripts or anything that is loaded, in which names are only text."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

MAX_ROWS = 20


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> str:
    """A table of HTML, of at most `MAX_ROWS` rows and how many more there are.

    Example:
        >>> table(["class", "Dice"], [["<b>", 0.5]])
        '<table><tr><th>class</th><th>Dice</th></tr><tr><td>&lt;b&gt;</td><td>0.5</td></tr></table>'
    """
    lines = [_row("th", columns), *(_row("td", row) for row in rows[:MAX_ROWS])]
    caption = f"<caption>{html.escape(title)}</caption>" if title else ""
    more = len(rows) - MAX_ROWS
    return f"<table>{caption}{''.join(lines)}</table>" + (paragraph(f"and {more:,} more") if more > 0 else "")


def facts(found: Mapping[str, object]) -> str:
    """Names and what they stand for, one a row; what is empty is left out.

    Example:
        >>> facts({"file": "a.pseg", "tuned": ""})
        '<table><tr><th>file</th><td>a.pseg</td></tr></table>'
    """
    rows = (f"<tr>{_cell('th', name)}{_cell('td', value)}</tr>" for name, value in found.items() if str(value))
    return f"<table>{''.join(rows)}</table>"


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _row(kind: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(_cell(kind, cell) for cell in cells)}</tr>"


def _cell(kind: str, value: object) -> str:
    return f"<{kind}>{html.escape(str(value))}</{kind}>"
