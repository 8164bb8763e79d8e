"""What a scanner or a person drew into an image: rows of letters, crosses of calipers, dotted lines.

All of them are bright strokes that are thin and rise steeply from what is around them, or colored in a gray picture.
docs/doctor.md has what is found and missed of real and of drawn ones; the bounds below were chosen there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketseg.pipeline.components import label_components

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.int16]
Bits = NDArray[np.bool_]
Places = tuple[NDArray[np.intp], NDArray[np.intp]]
Directions = tuple[tuple[int, int], ...]

# Larger images are looked at in this size.
LONGEST_SIDE = 1024
SMALLEST_SIDE = 16
# A stroke is so bright, and so much brighter than what lies so many pixels away on both sides.
BRIGHT, RISE, AWAY = 130, 50, (2, 3)
# Letters: pixels of height, width and filled pixels by height. In a row they differ by a pixel, or two where large.
LETTER_HEIGHT, LETTER_WIDTH, LETTER_FILL = (5, 24), 1.6, 1.2
LARGE_LETTER = 10
# Rows and lines that this many would come about by chance are nothing.
BY_CHANCE = 0.05
# A cross: pixels of an arm, how bright its middle is, and how far its arms stand out from the quadrants between them.
ARMS, CROSS_BRIGHT, CROSS_RISE = range(2, 8), 110, 65
STRAIGHT: Directions = ((0, 1), (0, -1), (1, 0), (-1, 0))
DIAGONAL: Directions = ((1, 1), (1, -1), (-1, 1), (-1, -1))
# Dots: pixels of a side; a line has so many, so far apart.
DOT, LINE_DOTS, DOT_STEP = 3, 5, (3, 12)
MAX_DOTS = 1000
# A picture is a gray one with marks where the channels of nearly all pixels agree, and those of a few differ much.
GRAY, COLORED = 12, 80
MIN_MARKED, MAX_MARKED = 8, 0.05


def has_text(gray: Bytes) -> bool:
    """Whether bright letters stand in a row in an image (h, w), more of them than would by chance."""
    gray = _fitted(gray)
    boxes = _boxes(_strokes(gray))
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    is_letter = (height >= LETTER_HEIGHT[0]) & (height <= LETTER_HEIGHT[1]) & (width <= LETTER_WIDTH * height)
    letters = boxes[is_letter & (boxes[:, 4] >= LETTER_FILL * height)]
    if len(letters) < 2:
        return False
    letters = letters[np.argsort(letters[:, 2], kind="stable")]
    # Where a next letter may begin: three rows, as many columns as letters are high; a third is of this one's height.
    usual = float(np.median(letters[:, 1] - letters[:, 0]))
    return _longest_row(letters) >= _unlikely(2, len(letters), len(letters) * usual / gray.size)


def has_calipers(gray: Bytes) -> bool:
    """Whether a thin bright cross, + or ×, or a dotted line is drawn into an image (h, w)."""
    gray = _fitted(gray)
    return min(gray.shape) >= SMALLEST_SIDE and (_has_cross(gray) or _has_dotted_line(gray))


def colored_marks(image: Bytes) -> Bits:
    """The few strongly colored pixels of a gray picture (h, w, 3): calipers, arrows, labels; none of another image."""
    none = np.zeros(image.shape[:2], bool)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        return none
    spread = image.max(axis=2).astype(np.int16) - image.min(axis=2)
    marked: Bits = spread > COLORED
    is_gray = (spread <= GRAY).mean() > 0.9 and MIN_MARKED <= marked.sum() <= MAX_MARKED * spread.size
    return marked if is_gray else none


def paint_out(image: Bytes) -> Bytes:
    """An image (h, w) or (h, w, c) of 8 bits without the crosses, dotted lines and colored marks that are found in it.

    They and a pixel around them are filled from their rim inwards: what touches a known pixel becomes the mean of the
    known ones among its eight neighbors, again and again. What is not found stays.
    """
    gray = image if image.ndim == 2 else image.max(axis=2)
    if min(gray.shape) < SMALLEST_SIDE:
        return image
    small = _fitted(gray)
    times = -(-max(gray.shape) // LONGEST_SIDE)
    drawn = (_cross_pixels(small) | _dot_pixels(small)).repeat(times, axis=0).repeat(times, axis=1)
    marks = _grown(drawn[: gray.shape[0], : gray.shape[1]] | colored_marks(image))
    return _filled(image, marks) if marks.any() and not marks.all() else image


def _filled(image: Bytes, marks: Bits) -> Bytes:
    planes = image.reshape(*image.shape[:2], -1).astype(np.float64)
    known = ~marks
    while not known.all():
        count = np.zeros(known.shape)
        total = np.zeros(planes.shape)
        padded, around = np.pad(known, 1), np.pad(planes * known[:, :, None], ((1, 1), (1, 1), (0, 0)))
        for down, right in (*STRAIGHT, *DIAGONAL):
            count += _moved(padded, down, right, 1)
            total += _moved(around, down, right, 1)
        rim = ~known & (count > 0)
        planes[rim] = total[rim] / count[rim][:, None]
        known |= rim
    filled: Bytes = np.rint(planes).astype(np.uint8).reshape(image.shape)
    return filled


def _grown(marks: Bits) -> Bits:
    """Marks and the pixels that touch them."""
    padded = np.pad(marks, 1)
    found: Bits = np.logical_or.reduce([marks, *(_moved(padded, a, b, 1) for a, b in (*STRAIGHT, *DIAGONAL))])
    return found


def _fitted(gray: Bytes) -> Bytes:
    """The image, reduced by a whole number where it is large."""
    times = -(-max(gray.shape) // LONGEST_SIDE)
    return gray if times == 1 else np.asarray(Image.fromarray(gray).reduce(times))


def _unlikely(least: int, beginnings: float, next_ones: float) -> int:
    """How long a chain must be not to come about by chance, where so many of the next ones lie in the right place."""
    length = least
    while beginnings * next_ones ** (length - 1) > BY_CHANCE and next_ones < 1:
        length += 1
    return length if next_ones < 1 else MAX_DOTS


def _moved(padded: NDArray[Any], down: int, right: int, margin: int) -> NDArray[Any]:
    rows, columns = padded.shape[0] - 2 * margin, padded.shape[1] - 2 * margin
    return padded[margin + down : margin + down + rows, margin + right : margin + right + columns]


def _strokes(gray: Bytes) -> Bits:
    """Bright pixels with much darker ones on both sides, in any of four directions."""
    margin = max(AWAY)
    padded, values = np.pad(gray, margin, mode="edge").astype(np.int16), gray.astype(np.int16)
    found = np.zeros(gray.shape, bool)
    for away in AWAY:
        for down, right in ((0, away), (away, 0), (away, away), (away, -away)):
            sides = np.maximum(_moved(padded, down, right, margin), _moved(padded, -down, -right, margin))
            found |= values - sides >= RISE
    return found & (gray >= BRIGHT)


def _boxes(mask: Bits) -> NDArray[np.int64]:
    """Top, bottom, left, right (both exclusive at their end) and pixels of every component, (n, 5)."""
    labels, count = label_components(mask)
    rows, columns = np.nonzero(labels)
    number = labels[rows, columns] - 1
    found = np.zeros((count, 5), np.int64)
    found[:, (0, 2)] = max(mask.shape)
    for side, places in ((0, rows), (2, columns)):
        np.minimum.at(found[:, side], number, places)
        np.maximum.at(found[:, side + 1], number, places + 1)
    found[:, 4] = np.bincount(number, minlength=count)
    return found


def _longest_row(letters: NDArray[np.int64]) -> int:
    """How many letters, sorted by their left side, follow each other with the same top, bottom and close by."""
    top, bottom, left, right = letters[:, :4].T
    following = np.ones(len(letters), int)
    for at in range(len(letters) - 2, -1, -1):
        height = bottom[at] - top[at]
        differ, gap = (1 if height < LARGE_LETTER else 2), left - right[at]
        level = (np.abs(top - top[at]) <= differ) & (np.abs(bottom - bottom[at]) <= differ)
        next_ones = np.flatnonzero(level & (gap >= 0) & (gap <= height))
        if len(next_ones):
            following[at] = 1 + following[next_ones].max()
    return int(following.max())


def _has_cross(gray: Bytes) -> bool:
    return next(_crosses(gray), None) is not None


def _cross_pixels(gray: Bytes) -> Bits:
    found = np.zeros(gray.shape, bool)
    last = gray.shape[0] - 1, gray.shape[1] - 1
    for (rows, columns), arms, length in _crosses(gray):
        for down, right in arms:
            for step in range(length + 2):
                found[(rows + step * down).clip(0, last[0]), (columns + step * right).clip(0, last[1])] = True
    return found


def _crosses(gray: Bytes) -> Iterator[tuple[Places, Directions, int]]:
    """Rows and columns of the middles of crosses, the directions of their arms and how long these are, by length."""
    margin = max(ARMS) + 1
    padded, values = np.pad(gray, margin, mode="edge").astype(np.int16), gray.astype(np.int16)
    for arms, between, first in ((STRAIGHT, DIAGONAL, 2), (DIAGONAL, STRAIGHT, 3)):
        darker = np.maximum.reduce([_moved(padded, first * a, first * b, margin) for a, b in between])
        nearest = np.minimum.reduce([_moved(padded, a, b, margin) for a, b in arms])
        rows, columns = np.nonzero((values >= CROSS_BRIGHT) & (np.minimum(values, nearest) - darker >= CROSS_RISE / 2))
        border = np.minimum.reduce([rows, columns, gray.shape[0] - 1 - rows, gray.shape[1] - 1 - columns])
        for length in ARMS:
            middles = rows[border > length] + margin, columns[border > length] + margin
            if len(middles[0]):
                is_cross = _rise(padded, middles, arms, between, first, length) >= CROSS_RISE
                if is_cross.any():
                    yield (middles[0][is_cross] - margin, middles[1][is_cross] - margin), arms, length


def _rise(
    padded: Numbers, middles: Places, arms: Directions, between: Directions, first: int, length: int
) -> NDArray[np.float64]:
    """How much the darkest arm is brighter than the brightest quadrant, or twice an arm's end than one of its sides.

    Args:
        padded: the image.
        middles: rows and columns of what may be crosses.
        arms, between: directions of arms, and of the quadrants.
        first: pixels from the middle at which a quadrant begins.
        length: of an arm.
    """

    def mean(steps: range, direction: tuple[int, int], aside: tuple[int, int] = (0, 0)) -> NDArray[np.float64]:
        places = [(direction[0] * step + aside[0], direction[1] * step + aside[1]) for step in steps]
        found: NDArray[np.float64] = np.mean([padded[middles[0] + y, middles[1] + x] for y, x in places], axis=0)
        return found

    darkest = np.minimum.reduce([mean(range(1), (0, 0)), *(mean(range(1, length + 1), arm) for arm in arms)])
    rise = darkest - np.maximum.reduce([mean(range(first, max(3, length) + 1), each) for each in between])
    end, away = range(max(2, length - 1), length + 1), 1 if length <= 3 else 2
    for down, right in arms:
        # A slanted arm has its sides toward the middle's row and column.
        sides = ((-down, 0), (0, -right)) if down and right else ((right, down), (-right, -down))
        one, other = (mean(end, (down, right), (a * away, b * away)) for a, b in sides)
        rise = np.minimum(rise, 2 * (mean(end, (down, right)) - np.minimum(one, other)))
    found: NDArray[np.float64] = rise
    return found


def _has_dotted_line(gray: Bytes) -> bool:
    return len(_dots_in_lines(gray)) > 0


def _dot_pixels(gray: Bytes) -> Bits:
    found = np.zeros(gray.shape, bool)
    for row, column in _dots_in_lines(gray):
        found[int(row - 0.5) : int(row + 1.5), int(column - 0.5) : int(column + 1.5)] = True
    return found


def _dots_in_lines(gray: Bytes) -> NDArray[np.float64]:
    """Middles (n, 2) of dots that follow each other at equal steps on a straight line."""
    none = np.zeros((0, 2))
    margin = max(AWAY)
    padded, values = np.pad(gray, margin, mode="edge").astype(np.int16), gray.astype(np.int16)
    around = [_moved(padded, 2 * a, 2 * b, margin) for a, b in (*STRAIGHT, *DIAGONAL)]
    boxes = _boxes((gray >= BRIGHT) & (values - np.maximum.reduce(around) >= RISE))
    small = np.maximum(boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]) <= DOT
    dots = (boxes[small][:, (0, 2)] + boxes[small][:, (1, 3)] - 1) / 2
    if not LINE_DOTS <= len(dots) <= MAX_DOTS:
        return none
    steps = dots[None, :] - dots[:, None]
    length = np.abs(steps).max(axis=2)
    one, other = np.nonzero((length >= DOT_STEP[0]) & (length <= DOT_STEP[1]))
    if not len(one):
        return none
    place = np.full((len(dots), len(dots)), -1)
    place[one, other] = np.arange(len(one))
    # The pair of dots that goes on where a pair ends, by its number.
    ahead = np.abs(steps[other] - steps[one, other][:, None]).max(axis=2)
    nearest = ahead.argmin(axis=1)
    goes_on = np.where(ahead[np.arange(len(one)), nearest] <= 1, place[other, nearest], -1)
    needed = _unlikely(LINE_DOTS - 1, len(one), len(dots) * 9 / gray.size) + 1
    if needed > len(dots):
        return none
    begins = chain = np.arange(len(one))
    for _ in range(needed - 2):
        chain = goes_on[chain]
        begins, chain = begins[chain >= 0], chain[chain >= 0]
    chosen = np.zeros(len(dots), bool)
    for _ in range(len(dots)):
        chosen[one[begins]] = chosen[other[begins]] = True
        begins = goes_on[begins]
        begins = begins[begins >= 0]
    found: NDArray[np.float64] = dots[chosen]
    return found
