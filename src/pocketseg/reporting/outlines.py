"""Masks as closed lines along pixel edges: exact at any zoom, and small in a page."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int]

# Directions in clockwise order: right, down, left, up; (row, column).
STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def trace(mask: NDArray[Any]) -> list[list[Corner]]:
    """The outlines of a region, its holes included.

    Args:
        mask: (h, w), true where the region is.

    Returns:
        Closed lines as their corners (row, column) on the grid of pixel edges: pixel (0, 0) has the corners
        (0, 0) to (1, 1). The region lies to the right of the way. Pixels that touch only diagonally are separate.

    Example:
        >>> trace(np.array([[1, 1]]))
        [[(0, 0), (0, 2), (1, 2), (1, 0)]]
    """
    edges = _edges(mask.astype(bool))
    remaining = set(edges)
    return [_follow(edge, remaining) for edge in edges if edge in remaining]


def _edges(mask: NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """(row, column, direction) of every pixel edge between inside and outside, from its start, sorted."""
    around = np.pad(mask, 1)
    above, below, left, right = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    found: list[tuple[int, int, int]] = []
    # Clockwise around a pixel: the upper edge starts at the upper left corner, the right edge at the upper right …
    for direction, (outside, row, column) in enumerate(((above, 0, 0), (right, 0, 1), (below, 1, 1), (left, 1, 0))):
        rows, columns = np.nonzero(mask & ~outside)
        found += [(r + row, c + column, direction) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)]
    return sorted(found)


def _follow(edge: tuple[int, int, int], remaining: set[tuple[int, int, int]]) -> list[Corner]:
    """Walk one closed line and take its edges away.

    The first of the sorted edges starts at the line's upper left corner, so the start is always a corner.
    """
    row, column, direction = edge
    corners = [(row, column)]
    while True:
        remaining.remove((row, column, direction))
        row, column = row + STEPS[direction][0], column + STEPS[direction][1]
        # To the right first: at a point where two pixels touch diagonally, stay with the same pixel.
        turns = [(direction + turn) % 4 for turn in (1, 0, 3)]
        onward = [turn for turn in turns if (row, column, turn) in remaining]
        if not onward:
            return corners
        if onward[0] != direction:
            corners.append((row, column))
        direction = onward[0]


def svg_path(mask: NDArray[Any]) -> str:
    """The outlines as the `d` of an SVG path; one unit is one pixel.

    Example:
        >>> svg_path(np.array([[0, 1]]))
        'M1 0h1v1h-1z'
    """
    return "".join(_svg_line(corners) for corners in trace(mask))


def _svg_line(corners: list[Corner]) -> str:
    words = [f"M{corners[0][1]} {corners[0][0]}"]
    for (row, column), (next_row, next_column) in pairwise(corners):
        words.append(f"h{next_column - column}" if next_row == row else f"v{next_row - row}")
    return "".join(words) + "z"
