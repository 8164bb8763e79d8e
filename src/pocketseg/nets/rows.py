"""Which rows of its input a row of an operation's output needs: the arithmetic of receptive fields."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# (first rows, last rows, height in, height out) of the output -> (first rows, last rows) of the input. Rows are counted
# as if the image had no border.
Rows = Callable[[Array, Array, int, int], tuple[Array, Array]]


def same(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
    return first, last


def whole(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
    return np.full_like(first, -np.inf), np.full_like(last, np.inf)


def window(kernel: int, stride: int, padding: int, dilation: int = 1) -> Rows:
    """Convolution and pooling."""

    def rows(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
        return first * stride - padding, last * stride - padding + dilation * (kernel - 1)

    return rows


def spread(kernel: int, stride: int, padding: int, dilation: int) -> Rows:
    """Transposed convolution: input row i reaches output rows i·stride − padding + t·dilation, t < kernel."""
    reached = [t * dilation - padding for t in range(kernel)]

    def sources(row: Array) -> Array:
        """Input rows that reach this output row, nan where a tap hits none: (kernel, rows)."""
        found = np.stack([(row - offset) / stride for offset in reached])
        return np.where(found == np.floor(found), found, np.nan)

    def rows(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
        # With a stride beyond the kernel an end row may have no source; the next rows inside the interval have.
        steps = [np.minimum(first + step, last) for step in range(stride)]
        ends = [np.maximum(last - step, first) for step in range(stride)]
        low = np.fmin.reduce(np.concatenate([sources(row) for row in steps]))
        high = np.fmax.reduce(np.concatenate([sources(row) for row in ends]))
        return low, high

    return rows


def resized(mode: str, corners: bool) -> Rows:
    """`F.interpolate`. With aligned corners the rows drift along the image, so their number depends on the height."""

    def source(row: Array, height_in: int, height_out: int) -> Array:
        if mode == "nearest":
            return np.floor(row * height_in / height_out)
        if corners:
            return row * (height_in - 1) / max(height_out - 1, 1)
        return (row + 0.5) * height_in / height_out - 0.5

    def rows(first: Array, last: Array, height_in: int, height_out: int) -> tuple[Array, Array]:
        return np.floor(source(first, height_in, height_out)), np.ceil(source(last, height_in, height_out))

    return rows


def shifted(above: int) -> Rows:
    """Padding and cropping."""

    def rows(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
        return first - above, last - above

    return rows


def unknown(first: Array, last: Array, _: int, __: int) -> tuple[Array, Array]:
    """Of operations that are known but for their rows; `operation` refuses them."""
    raise NotImplementedError
