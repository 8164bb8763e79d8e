"""Numbers as a reader wants them: counts, bytes, shares, intervals."""

from __future__ import annotations

import math


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
