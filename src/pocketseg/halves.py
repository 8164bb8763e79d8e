"""Rows of constants in 16 bits: f16 with an exponent that the row shares, so that small scales keep their 11 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# The largest magnitude of a row becomes 2¹⁴ … 2¹⁵, below the largest f16.
TOP = 15


def to_halves(row: NDArray[np.float32]) -> tuple[int, NDArray[np.float16]]:
    """The exponent e and the nearest halves h, half to even: row ≈ h · 2^e.

    Example:
        >>> exponent, halves = to_halves(np.array([3 * 2**-20, 2**-31, 0], np.float32))
        >>> exponent, halves.tolist()
        (-33, [24576.0, 4.0, 0.0])
    """
    exponent = int(np.frexp(np.abs(row).max(initial=0))[1]) - TOP
    return exponent, np.ldexp(row.astype(np.float64), -exponent).astype(np.float16)


def from_halves(exponent: int, halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """The inverse, in f32; inf where that holds no such number."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ldexp(halves.astype(np.float64), exponent).astype(np.float32)


def rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Numbers whose rows (the last axis) 16 bits hold exactly, the nearest to these.

    Example:
        >>> rounded(np.array([[1.0, 0.1]], np.float32)).tolist()
        [[1.0, 0.0999755859375]]
    """
    rows = [from_halves(*to_halves(row)) for row in values.reshape(-1, values.shape[-1])]
    return np.stack(rows).reshape(values.shape)
