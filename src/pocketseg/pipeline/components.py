"""Connected components in NumPy, so that prediction needs no SciPy.

Foreground is 8-connected and background 4-connected (the pair that keeps a closed curve from leaking; Rosenfeld
1970).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pocketseg.memory import bands

# A region without holes that covers less of its bounding box is taken for an open line.
MIN_COVER = 0.4


def label_components(mask: NDArray[np.bool_], *, diagonal: bool = True) -> tuple[NDArray[np.int32], int]:
    """Number the connected components of a mask in the order of their first pixel.

    The mask is cut into horizontal runs; runs that touch in neighboring rows are joined by passing the smallest
    label along until nothing changes. The work grows with the number of runs, not with the number of pixels.

    Args:
        mask: bool (h, w).
        diagonal: whether pixels that share only a corner touch (8-connected) or not (4-connected).

    Returns:
        int32 (h, w) with 0 for background and 1..n for the components, and n.

    Example:
        >>> label_components(np.array([[1, 0, 1], [0, 1, 0]], bool))[1]
        1
        >>> label_components(np.array([[1, 0, 1], [0, 1, 0]], bool), diagonal=False)[1]
        3
    """
    rows, starts, ends = _runs(mask)
    labels = _join(np.arange(len(rows)), *_touching(rows, starts, ends, mask.shape[1], reach=int(diagonal)))
    _, labels = np.unique(labels, return_inverse=True)
    # Background and runs alternately: where each ends on the line of all rows, and its label.
    bounds = np.stack([rows * mask.shape[1] + starts, rows * mask.shape[1] + ends], axis=1).ravel()
    values = np.stack([np.zeros_like(labels), labels + 1], axis=1).ravel().astype(np.int32)
    lengths = np.diff(bounds, prepend=0, append=mask.size)
    out = np.repeat(np.append(values, np.int32(0)), lengths)
    return out.reshape(mask.shape), int(labels.max(initial=-1)) + 1


def _runs(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Row, first column and end column (exclusive) of every horizontal run, in reading order."""
    found = []
    for band in bands(mask.shape):
        edges = np.diff(np.pad(mask[band], ((0, 0), (1, 1))).astype(np.int8), axis=1)
        rows, starts = np.nonzero(edges == 1)
        found.append((rows + band.start, starts, np.nonzero(edges == -1)[1]))
    rows, starts, ends = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return rows, starts, ends


def _touching(
    rows: NDArray[np.intp], starts: NDArray[np.intp], ends: NDArray[np.intp], width: int, reach: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Index pairs (run, run in the row below) that touch.

    Rows are laid on one line with a gap of 2 between them, so that a single sorted search serves all rows.
    """
    line = width + 2
    below = (rows + 1) * line
    first = np.searchsorted(rows * line + ends, below + starts - reach, side="right")
    last = np.searchsorted(rows * line + starts, below + ends + reach, side="left")
    count = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(rows)), count)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return upper, np.repeat(first, count) + offset


def _join(labels: NDArray[np.intp], a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.intp]:
    """The smallest index reachable over the pairs (a, b), for every element."""
    while True:
        smallest = np.minimum(labels[a], labels[b])
        joined = labels.copy()
        for ends in (a, b, labels[a], labels[b]):
            np.minimum.at(joined, ends, smallest)
        joined = joined[joined]
        if np.array_equal(joined, labels):
            return labels
        labels = joined


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with every background component that does not touch the border filled.

    Example:
        >>> ring = np.ones((3, 3), bool); ring[1, 1] = False
        >>> bool(fill_holes(ring).all())
        True
    """
    labels, count = label_components(~mask, diagonal=False)
    outside = np.zeros(count + 1, bool)
    outside[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    outside[0] = False
    filled = mask.copy()
    for band in bands(mask.shape):
        filled[band] |= (labels[band] > 0) & ~outside[labels[band]]
    return filled


def fill_outline(outline: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region that an outline encloses, the outline included; a region that is filled already stays.

    Raises:
        ValueError: the outline is not closed.

    Example:
        >>> ring = np.ones((3, 3), bool); ring[1, 1] = False
        >>> int(fill_outline(ring).sum())
        9
    """
    filled = fill_holes(outline)
    if outline.any() and (filled == outline).all():
        rows, columns = np.nonzero(outline)
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        if len(rows) < MIN_COVER * box:
            raise ValueError("the outline is not closed, so it has no inside")
    return filled
