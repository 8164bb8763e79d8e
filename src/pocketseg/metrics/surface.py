"""Distances between the outlines of two masks.

The surface of a mask is its pixels that have a face neighbor (4 in images, 6 in volumes) outside of it; what lies
beyond the image is outside. Distances run between pixel centers. `docs/metrics.md` has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketseg.metrics.optional import scipy_part
from pocketseg.metrics.overlap import require_one_shape

# Steps along each axis within which partners are looked up before anything is built: most surfaces nearly meet.
REACH = 3
# A search tree costs about 0.5 µs a surface pixel, a distance transform 0.05 to 0.1 µs a pixel of the box.
SPARSE = 0.2
# Distances are sums of rounded products: one that equals the tolerance on paper is within it here.
ROUNDING = 1e-9

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistances:
    """The distance of every surface pixel of one mask to the nearest of the other, and the measures made of them.

    Distances are nan where both masks are empty and inf where exactly one is; how such a case enters a mean is decided
    by the aggregator (`evaluation`), not here. Shares (`surface_dice`, `boundary_f1`) are nan and 0 there.

    Attributes:
        to_reference: one number for each surface pixel of the prediction; inf where the reference is empty.
        to_prediction: one number for each surface pixel of the reference; inf where the prediction is empty.

    Example:
        >>> a = np.zeros((8, 8), bool); b = a.copy(); a[2, 2] = b[2, 5] = True
        >>> surface_distances(a, b, spacing=(1.0, 0.5)).hd95
        1.5
    """

    to_reference: Distances
    to_prediction: Distances

    def hausdorff(self, percentile: float) -> float:
        """The larger of the two directed percentiles, each interpolated linearly (Huttenlocher et al. 1993)."""
        if (undefined := self._undefined()) is not None:
            return undefined
        return float(max(np.percentile(each, percentile) for each in (self.to_reference, self.to_prediction)))

    @property
    def hd(self) -> float:
        """The largest distance of all."""
        return self.hausdorff(100)

    @property
    def hd95(self) -> float:
        """The 95th percentile of each direction, the larger of the two."""
        return self.hausdorff(95)

    @property
    def asd(self) -> float:
        """Mean distance from the surface of the prediction to that of the reference; one direction only."""
        return float(self.to_reference.mean()) if (undefined := self._undefined()) is None else undefined

    @property
    def assd(self) -> float:
        """Mean over the surface pixels of both masks together."""
        return float(self._both().mean()) if (undefined := self._undefined()) is None else undefined

    def surface_dice(self, tolerance: float) -> float:
        """Share of both surfaces that lies within the tolerance of the other (NSD; Nikolov et al. 2021)."""
        return _share_within(self._both(), tolerance)

    def boundary_f1(self, tolerance: float) -> float:
        """Harmonic mean of the shares within the tolerance of each surface (Csurka et al. 2013)."""
        if (undefined := self._undefined()) is not None:
            return 0.0 if undefined == math.inf else undefined
        precision, recall = (_share_within(each, tolerance) for each in (self.to_reference, self.to_prediction))
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def _both(self) -> Distances:
        return np.concatenate([self.to_reference, self.to_prediction])

    def _undefined(self) -> float | None:
        """What a distance is where it is none."""
        empty = [each.size == 0 for each in (self.to_reference, self.to_prediction)]
        return math.nan if all(empty) else math.inf if any(empty) else None


def surface_distances(prediction: Mask, reference: Mask, spacing: Sequence[float] | None = None) -> SurfaceDistances:
    """Measure two masks of one shape once; all surface metrics follow.

    Args:
        prediction: bool, any number of axes.
        reference: bool, the same shape.
        spacing: pixel size along each axis, in mm as a rule; default 1, which gives distances in pixels.

    Raises:
        ValueError: other shapes, or a spacing that is not one positive number an axis.
        EnvironmentProblem: SciPy is not installed.
    """
    require_one_shape(prediction, reference)
    steps = _steps(prediction.ndim, spacing)
    box = _box(prediction | reference)
    # The margin lets a step lead out of the box without a check.
    ours, theirs = (np.pad(surface_pixels(mask[box]), REACH) for mask in (prediction, reference))
    if not (ours.any() and theirs.any()):
        return SurfaceDistances(*(np.full(np.count_nonzero(each), np.inf) for each in (ours, theirs)))
    return SurfaceDistances(_nearest(ours, theirs, steps), _nearest(theirs, ours, steps))


def surface_pixels(mask: Mask) -> Mask:
    """The pixels of a mask that have a face neighbor outside of it.

    Example:
        >>> surface_pixels(np.ones((3, 4), bool)).astype(int)
        array([[1, 1, 1, 1],
               [1, 0, 0, 1],
               [1, 1, 1, 1]])
    """
    inside = mask.copy()
    for axis in range(mask.ndim):
        of, out = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        out[1:] &= of[:-1]
        out[:-1] &= of[1:]
        out[:1] = out[-1:] = False
    return mask & ~inside


def diagonal(shape: Sequence[int], spacing: Sequence[float] | None = None) -> float:
    """Length of the image's diagonal from outer edge to outer edge: longer than any distance inside of it.

    Example:
        >>> diagonal((30, 40)), diagonal((30, 40), (0.1, 0.1))
        (50.0, 5.0)
    """
    return math.dist([0.0] * len(shape), np.asarray(shape) * _steps(len(shape), spacing))


def _steps(axes: int, spacing: Sequence[float] | None) -> Distances:
    steps = np.ones(axes) if spacing is None else np.asarray(spacing, np.float64)
    if steps.shape != (axes,) or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError(f"spacing needs {axes} positive numbers, not {spacing}")
    return steps


def _box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box that holds a mask; of no size where it is empty."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(found[0], found[-1] + 1) if found.size else slice(0, 0))
    return tuple(box)


def _nearest(start: Mask, goal: Mask, steps: Distances) -> Distances:
    """The distance of each start pixel to the nearest goal pixel: first a few steps away, then anywhere."""
    at, goals = np.flatnonzero(start), goal.ravel()
    distances = np.empty(at.size)
    left = np.arange(at.size)
    for offset, distance in zip(*_neighbors(start.shape, steps), strict=True):
        hit = goals[at[left] + offset]
        distances[left[hit]] = distance
        left = left[~hit]
        if not left.size:
            return distances
    far = np.unravel_index(at[left], start.shape)
    sparse = left.size + np.count_nonzero(goal) < SPARSE * goal.size
    distances[left] = _by_tree(far, goal, steps) if sparse else _by_transform(far, goal, steps)
    return distances


def _neighbors(shape: tuple[int, ...], steps: Distances) -> tuple[NDArray[np.intp], Distances]:
    """Offsets in the flat array and their lengths, shortest first; anything that is not among them is longer."""
    grid = np.indices((2 * REACH + 1,) * len(shape)).reshape(len(shape), -1).T - REACH
    lengths = np.sqrt(np.square(grid * steps).sum(axis=1))
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] < (REACH + 1) * steps.min()]
    strides = np.cumprod([1, *shape[:0:-1]])[::-1]
    return grid[order] @ strides, lengths[order]


def _by_tree(start: tuple[NDArray[np.intp], ...], goal: Mask, steps: Distances) -> Distances:
    # Balancing the tree costs more than it saves: pixels lie evenly.
    tree = scipy_part("spatial").KDTree(np.argwhere(goal) * steps, balanced_tree=False, compact_nodes=False)
    distances: Distances = tree.query(np.stack(start, axis=1) * steps)[0]
    return distances


def _by_transform(start: tuple[NDArray[np.intp], ...], goal: Mask, steps: Distances) -> Distances:
    distances: Distances = scipy_part("ndimage").distance_transform_edt(~goal, sampling=steps)[start]
    return distances


def _share_within(distances: Distances, tolerance: float) -> float:
    return float(np.mean(distances <= tolerance * (1 + ROUNDING))) if distances.size else math.nan
