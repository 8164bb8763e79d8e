"""Sizes and times as people write them."""

from __future__ import annotations

import math
import re

from pocketseg.errors import RecipeError

BYTES = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
MILLISECONDS = {"": 1, "ms": 1, "us": 1e-3, "µs": 1e-3, "s": 1000}
SECONDS = {"": 1, "s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}


def number_of_bytes(given: str | int | None, where: str) -> int | None:
    """Bytes of a text such as 40KB (1000 each) or 40KiB (1024).

    Raises:
        RecipeError: it is not one, or a text without a unit.

    Example:
        >>> number_of_bytes("40KB", "--size"), number_of_bytes("1.5 MiB", "--size"), number_of_bytes(None, "--size")
        (40000, 1572864, None)
    """
    return None if given is None else int(_quantity(given, where, BYTES, "40KB"))


def milliseconds(given: str | float | None, where: str) -> float | None:
    """Milliseconds of a text such as 5ms.

    Example:
        >>> milliseconds("5ms", "--latency"), milliseconds(2, "--latency"), milliseconds("0.5 s", "--latency")
        (5.0, 2.0, 500.0)
    """
    return None if given is None else _quantity(given, where, MILLISECONDS, "5ms")


def seconds(given: str | float, where: str) -> float:
    """Seconds of a text such as 30min.

    Example:
        >>> seconds("30min", "--time"), seconds(90, "--time"), seconds("2h", "--time")
        (1800.0, 90.0, 7200.0)
    """
    return _quantity(given, where, SECONDS, "30min")


def _quantity(given: str | float, where: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    """A number means the smallest unit; a text has to name one, since nobody means `--size 40` in bytes."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zµ]*)\s*", str(given).lower())
    value = float(found[1]) * units[found[2]] if found and found[2] in units else math.nan
    known = ", ".join(unit for unit in units if unit)
    if not 0 < value < math.inf:
        raise RecipeError(f"{where} {given}", "is not a quantity above 0", f"for example {example}; units: {known}")
    if isinstance(given, str) and found and not found[2]:
        raise RecipeError(f"{where} {given}", "has no unit", f"for example {example}; units: {known}")
    return value
