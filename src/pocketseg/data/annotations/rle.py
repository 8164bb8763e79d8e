"""Run lengths of masks: COCO's as lists and as strings, and Kaggle's pairs of start and length.

COCO's runs alternate between background and foreground, begin with background, and go down the columns. In its strings
(`rleToString` of its maskApi.c) every run from the fourth on is stored as the difference to the one before the last, as
groups of five bits, the lowest first, each a sign from `0` on; 32 says that another follows, and 16 in the last one
that the number is negative. Kaggle's pairs count pixels from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]  # (n,): background, foreground, background, …
Pairs = NDArray[np.int64]  # (n, 2): first pixel from 0, number of pixels

FIRST, BITS, MORE, SIGN = 48, 5, 32, 16
# Of one number: thirty-five bits, more than any picture has pixels.
MOST_GROUPS = 7


def counts_from_text(text: str) -> Counts:
    """The runs that a string of COCO tells.

    Raises:
        ValueError: it is none.

    Example:
        >>> counts_from_text("52203").tolist()
        [5, 2, 2, 2, 5]
    """
    signs = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - FIRST
    if not len(signs):
        return np.zeros(0, np.int64)
    if signs.min() < 0 or signs.max() >= 2 * MORE or signs[-1] & MORE:
        raise ValueError("a string that holds no run lengths, or is cut off")
    last = np.flatnonzero(~signs & MORE)
    starts = np.concatenate([[0], last[:-1] + 1])
    lengths = last - starts + 1
    if lengths.max() > MOST_GROUPS:
        raise ValueError("a run longer than any picture")
    places = np.arange(len(signs)) - np.repeat(starts, lengths)
    numbers = np.add.reduceat((signs & (MORE - 1)) << (BITS * places), starts)
    numbers -= np.where(signs[last] & SIGN, np.int64(1) << (BITS * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def text_of_counts(counts: Sequence[int]) -> str:
    """The string of COCO for some runs.

    Example:
        >>> text_of_counts([5, 2, 2, 2, 5])
        '52203'
    """
    signs: list[str] = []
    for index, count in enumerate(counts):
        number = count - (counts[index - 2] if index > 2 else 0)
        more = True
        while more:
            group, number = number & (MORE - 1), number >> BITS
            more = number != (-1 if group & SIGN else 0)
            signs.append(chr(FIRST + (group | MORE if more else group)))
    return "".join(signs)


def counts_from_list(values: Any) -> Counts:
    """Runs given as numbers.

    Raises:
        ValueError: they are none.
    """
    try:
        found = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("run lengths that are not numbers") from None
    if found.ndim != 1 or not np.isfinite(found).all() or (found != np.rint(found)).any() or (abs(found) > 2**40).any():
        raise ValueError("run lengths that are not whole numbers")
    return found.astype(np.int64)


def mask_of_counts(counts: Counts, shape: tuple[int, int], *, by_rows: bool = False) -> NDArray[np.bool_]:
    """Runs as a mask, bool (h, w).

    Raises:
        ValueError: they are negative, or cover another number of pixels.

    Example:
        >>> mask_of_counts(np.array([1, 2, 1]), (2, 2)).astype(int).tolist()
        [[0, 1], [1, 0]]
    """
    size = shape[0] * shape[1]
    if len(counts) and (counts.min() < 0 or counts.max() > size):
        raise ValueError("a run length that is negative, or longer than the image")
    if counts.sum() != size:
        raise ValueError(f"run lengths of {counts.sum():,} pixels for {shape[0]}×{shape[1]}")
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return pixels.reshape(shape) if by_rows else pixels.reshape(shape[::-1]).T


def counts_of_mask(mask: NDArray[np.bool_]) -> list[int]:
    """The runs of a mask, bool (h, w), down the columns.

    Example:
        >>> counts_of_mask(np.array([[False, True], [True, False]]))
        [1, 2, 1]
    """
    pixels = mask.T.ravel()
    changes = np.flatnonzero(np.diff(pixels)) + 1
    begin = [0, 0] if len(pixels) and pixels[0] else [0]  # a mask that begins with foreground has no background first
    counts: list[int] = np.diff([*begin, *changes.tolist(), len(pixels)]).tolist()
    return counts


def pairs_from_text(text: str) -> Pairs:
    """Kaggle's `start length start length …`, pixels counted from 1.

    Raises:
        ValueError: it is none.

    Example:
        >>> pairs_from_text("1 3 10 2").tolist()
        [[0, 3], [9, 2]]
    """
    try:
        numbers = np.array([int(word) for word in text.split()], np.int64)
    except (ValueError, OverflowError):
        raise ValueError("run lengths that are not whole numbers") from None
    if len(numbers) % 2:
        raise ValueError("an odd number of numbers, so that a start has no length")
    pairs = numbers.reshape(-1, 2)
    if len(pairs) and (pairs.min() < 0 or pairs[:, 0].min() < 1):
        raise ValueError("a start below 1 or a negative length; pixels count from 1")
    pairs[:, 0] -= 1
    return pairs


def mask_of_pairs(pairs: Pairs, shape: tuple[int, int], *, by_rows: bool = False) -> NDArray[np.bool_]:
    """Starts and lengths as a mask, bool (h, w).

    Raises:
        ValueError: they reach beyond the picture.
    """
    size = shape[0] * shape[1]
    ends = pairs[:, 0] + pairs[:, 1]
    if len(pairs) and (pairs.max() > size or ends.max() > size):
        raise ValueError(f"run lengths up to pixel {ends.max():,}, but the image has {size:,}")
    pixels = np.zeros(size, bool)
    for start, end in zip(pairs[:, 0].tolist(), ends.tolist(), strict=True):
        pixels[start:end] = True
    return pixels.reshape(shape) if by_rows else pixels.reshape(shape[::-1]).T


def text_of_pairs(mask: NDArray[np.bool_]) -> str:
    """Kaggle's run lengths of a mask, bool (h, w), down the columns, from 1; empty for an empty mask.

    Example:
        >>> text_of_pairs(np.array([[False, True], [True, False]]))
        '2 2'
    """
    counts = counts_of_mask(mask)
    starts = np.cumsum(counts)
    return " ".join(f"{start + 1} {length}" for start, length in zip(starts[:-1:2], counts[1::2], strict=False))


def goes_by_rows(pairs: Pairs, shape: tuple[int, int]) -> bool:
    """Whether runs of a picture that is not square look as if they went along the rows: the next one begins a row on.

    Example:
        >>> goes_by_rows(np.array([[5, 3], [25, 3], [45, 3], [65, 3]]), (8, 20))
        True
    """
    height, width = shape
    if len(pairs) < 4 or height == width:
        return False
    step = float(np.median(np.diff(np.sort(pairs[:, 0]))))
    return abs(step - width) < abs(step - height) / 4
