"""Areas inside of closed lines: the one rasterizer, of ImageJ's regions and of every other format of polygons.

Coordinates are (row, column), 0 at the upper left corner of the picture, so that corners lie on the edges of pixels
and the first pixel's center is (0.5, 0.5). A pixel is inside where its center is; lines that cross or lie inside others
count by the even-odd rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Corners = NDArray[np.float64]  # (n, 2): row, column
Place = tuple[slice, slice]  # rows and columns of a picture

# Rows that the edges of one region may cross; an outline around a picture of the largest size has some ten thousand.
MAX_CROSSINGS = 20_000_000
CROSSINGS_AT_ONCE = 500_000
# Corners of an ellipse's polygon, per pixel of its height and width, and no more than there are pixels to tell apart.
OVAL_CORNERS, MOST_CORNERS = 4, 2**17


def fill(lines: Sequence[Corners], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose center lies inside an odd number of closed lines, bool (h, w).

    Example:
        >>> square = np.array([[0, 0], [0, 2], [2, 2], [2, 0]], float)
        >>> fill([square], (3, 3)).astype(int).tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    return fill_all([lines], shape)


def fill_all(regions: Iterable[Sequence[Corners]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels that lie inside any of several regions, bool (h, w)."""
    inside = np.zeros(shape, bool)
    for lines in regions:
        place, found = fill_box(lines, shape)
        inside[place] |= found
    return inside


def fill_box(lines: Sequence[Corners], shape: tuple[int, int]) -> tuple[Place, NDArray[np.bool_]]:
    """As `fill`, of the region's bounds alone: where in the picture they lie, and the pixels inside.

    Raises:
        ValueError: its edges cross more rows than those of any outline that was drawn.
    """
    corners = np.concatenate([np.zeros((0, 2)), *lines])
    if not len(corners):
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    after = np.concatenate([np.roll(line, -1, axis=0) for line in lines])
    top, left = (int(np.floor(low.clip(0, most))) for low, most in zip(corners.min(axis=0), shape, strict=True))
    bottom, right = (int(np.ceil(high.clip(0, most))) for high, most in zip(corners.max(axis=0), shape, strict=True))
    height, width = bottom - top, right - left
    centers = np.arange(width) + 0.5 + left
    # Everything to the right of an edge changes sides: a change where the first such center lies, summed from the left.
    changes = np.zeros((height, width + 1), np.uint8)
    low, high = np.minimum(corners[:, 0], after[:, 0]), np.maximum(corners[:, 0], after[:, 0])
    first, last = (np.ceil(end - 0.5).clip(top, bottom).astype(np.int64) for end in (low, high))
    crossed = (last - first).clip(0)
    if crossed.sum() > MAX_CROSSINGS:
        raise ValueError("its outline crosses too many rows")
    crossing_edges = np.flatnonzero(crossed)
    parts = np.flatnonzero(np.diff(np.cumsum(crossed[crossing_edges]) // CROSSINGS_AT_ONCE)) + 1
    for edges in np.split(crossing_edges, parts):
        count = crossed[edges]
        edge = np.repeat(edges, count)
        rows = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        (row, column), (next_row, next_column) = corners[edge].T, after[edge].T
        crossing = column + (rows + 0.5 - row) / (next_row - row) * (next_column - column)
        np.bitwise_xor.at(changes, (rows - top, np.searchsorted(centers, crossing, side="right")), 1)
    inside = np.bitwise_xor.accumulate(changes, axis=1)[:, :-1].view(bool)
    return (slice(top, bottom), slice(left, right)), inside


def ellipse(center: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Corners:
    """The corners of an ellipse, dense enough that no pixel can tell.

    Args:
        center: row and column.
        radii: half of its height and half of its width, before it is turned.
        angle: by which it is turned clockwise, as it is seen, in radians.

    Example:
        >>> int(fill([ellipse((10, 10), (5, 5))], (20, 20)).sum())
        80
    """
    count = min(MOST_CORNERS, OVAL_CORNERS * max(round(2 * radii[0]) + round(2 * radii[1]), 4))
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    down, right = radii[0] * np.sin(angles), radii[1] * np.cos(angles)
    if angle:
        down, right = right * np.sin(angle) + down * np.cos(angle), right * np.cos(angle) - down * np.sin(angle)
    return np.stack([center[0] + down, center[1] + right], axis=1)
