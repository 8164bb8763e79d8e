"""Sums and powers in an order and with roundings that are stated, so that the native library can give the same bytes.

What NumPy and its BLAS do inside of `sum`, `mean`, `std`, `@` and `exp` differs from machine to machine. Here nothing
is used but additions, products, quotients and roundings of single numbers, which IEEE 754 defines to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Below it e**x is no normal f32, and taken for 0.
LOWEST_POWER = -87.0
LOG2_E = 1.44269504
# ln 2 in two parts, the first of so few bits that its products with small whole numbers are exact.
LN2_HIGH, LN2_LOW = 0.693359375, -2.12194440e-4
# Of (e**x - 1 - x) / x**2, from the highest power down (S. Moshier's Cephes library, expf).
COEFFICIENTS = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)


def exponential(x: Array) -> Array:
    """e**x of f32 that are 0 or negative, within two units of the last place.

    Example:
        >>> [f"{value:.4f}" for value in exponential(np.array([0, -1, -1000], np.float32))]
        ['1.0000', '0.3679', '0.0000']
    """
    inside = np.maximum(x, np.float32(LOWEST_POWER))
    whole: Array = np.rint(inside * np.float32(LOG2_E))
    rest = (inside - whole * np.float32(LN2_HIGH)) - whole * np.float32(LN2_LOW)
    series: Array = np.full_like(rest, COEFFICIENTS[0])
    for coefficient in COEFFICIENTS[1:]:
        series *= rest
        series += np.float32(coefficient)
    series *= rest * rest
    series += rest
    series += np.float32(1)
    series *= ((whole.astype(np.int32) + 127) << 23).view(np.float32)
    series[x < np.float32(LOWEST_POWER)] = 0
    return series


def added(parts: Iterable[Array]) -> Array:
    """The sum of arrays, the first and the second, then the third, and so on."""
    first, *others = parts
    total = first
    for each in others:
        total = total + each
    return total


def total(values: NDArray[np.floating]) -> float:
    """The sum in f64: the second half is added to the first, again and again, until one number is left.

    Of an odd count the first half has one more.

    Example:
        >>> total(np.array([1, 2, 3, 4, 5], np.float32))
        15.0
    """
    left = values.reshape(-1).astype(np.float64)
    while len(left) > 1:
        half = (len(left) + 1) // 2
        left[: len(left) - half] += left[half:]
        left = left[:half]
    return float(left[0])
