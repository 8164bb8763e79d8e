"""Metrics once more, by brute force over all pairs of surface pixels: slow, plain, and without SciPy."""

from __future__ import annotations

import itertools
import math

import numpy as np


def surface_points(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Foreground pixels with a face neighbor that is background or outside of the image."""
    inside = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    steps = [
        tuple(sign * (axis == other) for other in range(mask.ndim)) for axis in range(mask.ndim) for sign in (-1, 1)
    ]
    return [
        point
        for point in sorted(inside)
        if any(tuple(map(sum, zip(point, step, strict=True))) not in inside for step in steps)
    ]


def directed(start: list, goal: list, spacing: tuple[float, ...]) -> list[float]:
    """Distance of each start point to the nearest goal point."""
    if not start:
        return []
    if not goal:
        return [math.inf] * len(start)
    a, b = np.array(start)[:, None, :], np.array(goal)[None, :, :]
    return np.sqrt((((a - b) * np.array(spacing)) ** 2).sum(axis=2)).min(axis=1).tolist()


def percentile(values: list[float], share: float) -> float:
    """Linear interpolation between the order statistics at (n − 1) · share."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def surface_metrics(prediction: np.ndarray, reference: np.ndarray, spacing, tolerance: float) -> dict[str, float]:
    """Every surface metric of a pair."""
    p, r = surface_points(prediction), surface_points(reference)
    forth, back = directed(p, r, spacing), directed(r, p, spacing)
    if not p or not r:
        distance = math.nan if not p and not r else math.inf
        share = math.nan if not p and not r else 0.0
        return dict.fromkeys(("hd", "hd95", "asd", "assd"), distance) | dict.fromkeys(("nsd", "bf1"), share)
    near = [sum(value <= tolerance + 1e-9 for value in each) for each in (forth, back)]
    shares = near[0] / len(p), near[1] / len(r)
    return {
        "hd": max(forth + back),
        "hd95": max(percentile(forth, 0.95), percentile(back, 0.95)),
        "asd": sum(forth) / len(forth),
        "assd": sum(forth + back) / len(forth + back),
        "nsd": sum(near) / (len(p) + len(r)),
        "bf1": 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0,
    }


def objects(mask: np.ndarray, *, diagonal: bool) -> list[set[tuple[int, ...]]]:
    """Connected components, by flood fill."""
    left = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    steps = [
        step
        for step in itertools.product((-1, 0, 1), repeat=mask.ndim)
        if any(step) and (diagonal or sum(map(abs, step)) == 1)
    ]
    found = []
    while left:
        waiting = [left.pop()]
        component = set(waiting)
        while waiting:
            point = waiting.pop()
            for step in steps:
                neighbor = tuple(map(sum, zip(point, step, strict=True)))
                if neighbor in left:
                    left.remove(neighbor)
                    component.add(neighbor)
                    waiting.append(neighbor)
        found.append(component)
    return found


def most_pairs(prediction: np.ndarray, reference: np.ndarray, min_iou: float) -> tuple[int, int, int]:
    """The largest number of one-to-one pairs of objects, by trying all, and the objects of both masks."""
    ours, theirs = objects(prediction, diagonal=True), objects(reference, diagonal=True)
    allowed = [[len(a & b) / len(a | b) >= min_iou for b in theirs] for a in ours]

    def best(first: int, free: frozenset[int]) -> int:
        if first == len(ours):
            return 0
        taken = [1 + best(first + 1, free - {b}) for b in free if allowed[first][b]]
        return max([best(first + 1, free), *taken])

    return best(0, frozenset(range(len(theirs)))), len(ours), len(theirs)


def rand(prediction: np.ndarray, reference: np.ndarray) -> tuple[float, float, float]:
    """Rand index, split and merge by counting pairs of pixels of two label images; ordered pairs and self pairs."""
    pixels = [(int(a), int(b)) for a, b in zip(prediction.ravel(), reference.ravel(), strict=True) if b > 0]
    numbered = [(("alone", n) if a == 0 else a, b) for n, (a, b) in enumerate(pixels)]
    same_both = same_ours = same_theirs = agree = 0
    for one, other in itertools.product(numbered, repeat=2):
        ours, theirs = one[0] == other[0], one[1] == other[1]
        same_both += ours and theirs
        same_ours += ours
        same_theirs += theirs
        agree += ours == theirs
    n = len(numbered)
    return (agree - n) / (n * n - n) if n > 1 else 1.0, same_both / same_theirs, same_both / same_ours
