"""Text for a terminal: as wide as it is, and steered by no name that stands in it."""

from __future__ import annotations

import logging
import textwrap

from rich.console import Console
from rich.markup import escape

from pocketseg.names import printable

err = Console(stderr=True, soft_wrap=True, highlight=False)


def shown(text: str, keep: str = "") -> str:
    """Text for a terminal: names of files, classes and models neither steer it nor are read as markup."""
    return escape(printable(text, keep))


def limit(console: Console) -> int | None:
    """How many columns a line may have; None for files and pipes, which have lines of any length."""
    return console.width if console.is_terminal else None


def wrapped(text: str, width: int | None, hang: int | None = None) -> str:
    """Lines that are broken between words; a path or a name longer than a line stays whole, to be copied.

    Args:
        text: a line, or several.
        width: in columns; None breaks nothing.
        hang: how far the second line of a broken one is moved in; default: two more than the first.

    Example:
        >>> wrapped("  case-1: has no mask", 16)
        '  case-1: has no\\n    mask'
    """
    if width is None:
        return text
    return "\n".join(
        textwrap.fill(
            line, width, break_long_words=False, break_on_hyphens=False,
            subsequent_indent=" " * (hang or len(line) - len(line.lstrip()) + 2),
        )
        for line in text.split("\n")
    )  # fmt: skip


class LogLines(logging.Handler):
    """Log lines on standard error, above the live table; only what is not information is called by its level."""

    def emit(self, record: logging.LogRecord) -> None:
        # The live table shows the epochs.
        if (err.is_terminal or err.is_jupyter) and record.name == "pocketseg.epochs":
            return
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        err.print(shown(wrapped(printable(level + record.getMessage()), limit(err)), keep="\n"))
