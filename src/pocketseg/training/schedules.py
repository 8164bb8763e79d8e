"""Learning-rate schedules: what the rate is multiplied by, from where a training stands. No schedule keeps a state."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

__all__ = ["constant_then_decay", "cosine", "interpolated", "multi_step", "plateau", "step", "step_restarts"]


def cosine(share: float, *, warmup: float = 0.0, floor: float = 0.0) -> float:
    """Linear warm-up, then half a cosine (Loshchilov and Hutter 2017, without restarts).

    Args:
        share: of the training that is done, 0 to 1.
        warmup: share of the training in which the factor rises to 1.
        floor: the factor at the end.

    Example:
        >>> [round(cosine(share, warmup=0.2), 3) for share in (0.1, 0.2, 0.6, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
    """
    if share < warmup:
        return share / warmup
    rest = (share - warmup) / (1 - warmup)
    return floor + (1 - floor) * (1 + math.cos(math.pi * min(rest, 1))) / 2


def step(epoch: int, *, every: int, factor: float) -> float:
    """`factor` more each few epochs.

    Args:
        epoch: epochs finished.
        every: epochs between two steps.
        factor: of each step.

    Example:
        >>> step(5, every=2, factor=0.5)
        0.25
    """
    return float(factor ** (epoch // every))


def multi_step(share: float, *, at: Sequence[float], factor: float) -> float:
    """`factor` more at given points of the training.

    Args:
        share: of the training that is done, 0 to 1.
        at: the points, as shares.
        factor: of each.

    Example:
        >>> multi_step(0.6, at=[0.5, 0.75], factor=0.5)
        0.5
    """
    return float(factor ** sum(share >= point for point in at))


def interpolated(share: float, *, points: Sequence[tuple[float, float]]) -> float:
    """Straight lines between given points.

    Args:
        share: of the training that is done, 0 to 1.
        points: (share, factor), shares rising; before the first and behind the last their factors stay.

    Example:
        >>> [round(interpolated(share, points=[(0, 1), (0.5, 0.2), (1, 0)]), 3) for share in (0, 0.25, 0.5, 0.75)]
        [1.0, 0.6, 0.2, 0.1]
    """
    at = bisect.bisect([place for place, _ in points], share)
    if at in (0, len(points)):
        return float(points[max(0, at - 1)][1])
    (left, before), (right, after) = points[at - 1], points[at]
    return before + (after - before) * (share - left) / (right - left)


def step_restarts(epoch: int, *, every: int, factor: float, cycle: int, first: int = 0) -> float:
    """As `step`, begun again after every cycle.

    Args:
        epoch: epochs finished.
        every: epochs between two steps.
        factor: of each step.
        cycle: epochs until the factor is 1 again.
        first: number of a cycle's first epoch; counted from 1, the first step comes one epoch earlier.

    Example:
        >>> [step_restarts(epoch, every=2, factor=0.5, cycle=3) for epoch in range(4)]
        [1.0, 1.0, 0.5, 1.0]
    """
    return float(factor ** ((first + epoch % cycle) // every))


def constant_then_decay(epoch: int, epochs: int, *, constant: float, factor: float) -> float:
    """1 for the first part of the training, then `factor` more each epoch.

    Args:
        epoch: epochs finished.
        epochs: epochs in all.
        constant: share of the training with the factor 1.
        factor: of each later epoch.

    Example:
        >>> [constant_then_decay(epoch, 4, constant=0.5, factor=0.5) for epoch in range(4)]
        [1.0, 1.0, 0.5, 0.25]
    """
    return float(factor ** max(0, epoch + 1 - int(constant * epochs)))


def plateau(
    scores: Sequence[float], *, factor: float, patience: int, floor: float = 0.0, min_delta: float = 0.0
) -> float:
    """`factor` more each time that the best score stayed the best for more than `patience` epochs.

    Args:
        scores: of the epochs so far, higher is better.
        factor: of each plateau.
        patience: epochs without a better score that are tolerated.
        floor: the smallest factor.
        min_delta: smallest improvement that counts, relative to the best score.

    Example:
        >>> plateau([0.5, 0.6, 0.6, 0.6], factor=0.1, patience=1)
        0.1
    """
    count, best, waited = 0, -math.inf, 0
    for score in scores:
        if score > (best if math.isinf(best) else best + min_delta * abs(best)):
            best, waited = score, 0
        else:
            waited += 1
        if waited > patience:
            count, waited = count + 1, 0
    return max(floor, float(factor**count))
