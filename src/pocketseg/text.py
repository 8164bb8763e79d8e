"""Numbers as a reader wants them: counts, bytes, shares, intervals."""

from __future__ import annotations

import math
import re

from pocketseg.names import printable

# Characters of a result as Python shows it.
LINE = 160


def counted(count: int, what: str) -> str:
    """A number and what is counted, in the singular or the plural.

    Args:
        count: how many.
        what: gets an s where they are not one; other words that change have both forms in brackets.

    Example:
        >>> counted(1, "image"), counted(1200, "image"), counted(1, "mask[|s]: [it is|they are] empty")
        ('1 image', '1,200 images', '1 mask: it is empty')
    """
    forms = what if "[" in what else f"{what}[|s]"
    return f"{count:,} " + re.sub(r"\[([^|\]]*)\|([^\]]*)\]", lambda form: form[1 if count == 1 else 2], forms)


def shortened(text: str, most: int) -> str:
    """Text of at most so many characters; where it is longer, its middle is left out.

    Example:
        >>> shortened("runs/a-long-name/model.pseg", 15), shortened("short", 15)
        ('runs/a-…el.pseg', 'short')
    """
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[len(text) - most + 1 + half :]}"


def brief(result: object, text: str) -> str:
    """A result as Python shows it: what it is, and the most important of it, in a line of at most `LINE` characters.

    Example:
        >>> brief(3, "a number")
        '<int: a number>'
    """
    return f"<{shortened(f'{type(result).__name__}: {printable(text)}', LINE - 2)}>"


def pixels_text(pixels: int | None) -> str:
    return "whole image" if pixels is None else f"{pixels} px"


def si(count: int) -> str:
    """A number with three digits that count.

    Example:
        >>> si(54_534_000_000), si(492_000_000), si(999)
        ('54.5 G', '492 M', '999')
    """
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {letter}"
    return str(count)


def bytes_text(count: int) -> str:
    """Bytes as a reader wants them.

    Example:
        >>> bytes_text(512), bytes_text(1536), bytes_text(33_816_576)
        ('512 B', '1.5 KiB', '32.2 MiB')
    """
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def interval(low: float, high: float) -> str:
    return "–" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
